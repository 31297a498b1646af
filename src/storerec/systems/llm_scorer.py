"""Scoring by a language model that reads titles and answers yes or no (paper, Table 5, rows OPT and Llama)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file

from storerec.config import Config, RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.judgements import Candidates, JudgementSplit
from storerec.errors import ConfigError
from storerec.llm.adapters import LoraConfig
from storerec.llm.backbone import Backbone, pad_ids
from storerec.llm.batching import BucketSampler
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.llm.training import TrainingConfig, train
from storerec.storage import save_tensors
from storerec.systems.answering import AnswerModel
from storerec.systems.judging import GroupSamples, mean_auc
from storerec.systems.packing import PromptTokens
from storerec.systems.text_prompt import TextPrompt, TextPromptConfig


class LlmScorerConfig(Config):
    """A language model as scorer over text: what it reads and, fine-tuned, how it learns."""

    prompt: TextPromptConfig = TextPromptConfig()
    """The question."""

    chat: bool = True
    """Ask in the tokenizer's chat template where it has one (instruct models do)."""

    max_history_tokens: int = Field(default=512, ge=1)
    """Last tokens of the history that are read."""

    max_candidate_tokens: int = Field(default=96, ge=1)
    """First tokens of the candidate's text that are read."""

    batch_tokens: int = Field(default=4096, ge=1)
    """Padded tokens scored at a time."""

    lora: LoraConfig = LoraConfig(rank=32)
    """The adapter that fine-tuning trains; everything else stays as it is."""

    batch_groups: int = Field(default=16, ge=1)
    """Groups (users or impressions) per optimizer step."""

    train_candidates: int = Field(default=20, ge=2)
    """Candidates of a group per optimizer step; larger groups draw others each epoch."""

    training: TrainingConfig = TrainingConfig(learning_rate=5e-4, epochs=10, patience=3)
    """Budget and optimizer of fine-tuning; validation is by the mean AUC of the groups."""


class LlmScorer:
    """P(yes) / (P(yes) + P(no)) at the last position of the question, over all ways to write the two as one token.

    A group's history is read once; its candidates follow behind the cached keys and values and do not see each other.

    Parameters
    ----------
    model: the language model, with or without a trained adapter.
    catalogue: the items.
    config: what is read.
    options: arithmetic.
    """

    def __init__(
        self,
        model: AnswerModel,
        catalogue: Catalogue,
        config: LlmScorerConfig,
        options: RunOptions,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.name = "llm-finetuned" if model.tuned else "llm-zeroshot"
        self.model, self.config, self.options = model, config, options
        self.progress = progress or Progress(enabled=False)
        self._prompt = TextPrompt(catalogue, config.prompt)

    @classmethod
    def zero_shot(
        cls,
        backbone: Backbone,
        catalogue: Catalogue,
        config: LlmScorerConfig,
        options: RunOptions,
        *,
        progress: Progress | None = None,
    ) -> LlmScorer:
        """The backbone as it is; adapters it may carry stay off."""
        return cls(AnswerModel(backbone), catalogue, config, options, progress=progress)

    def tokens(self, candidates: Candidates) -> PromptTokens:
        """The prompts of ``candidates``; ConfigError when they can be longer than the model reads."""
        tokens = PromptTokens.build(
            candidates,
            self._prompt,
            self.model.backbone,
            chat=self.config.chat,
            max_history_tokens=self.config.max_history_tokens,
            max_candidate_tokens=self.config.max_candidate_tokens,
        )
        need = int(tokens.prefixes.lengths.max(initial=0) + tokens.suffixes.lengths.max(initial=0))
        most = self.model.backbone.max_positions
        if most is not None and need > most:
            raise ConfigError(
                f"prompts have up to {need} tokens, but {self.model.backbone.config.name} reads {most}; "
                "lower max_history_tokens or max_candidate_tokens"
            )
        return tokens

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Score each candidate: (n,) probabilities of yes."""
        return self.score_tokens(self.tokens(candidates))

    @torch.no_grad()
    def score_tokens(self, tokens: PromptTokens) -> NDArray[np.float32]:
        """Score prompts that are tokenized already."""
        model, training = self.model, self.model.training
        trained_in = model.compute_dtype
        model.compute_dtype = pick_dtype(self.options.inference_dtype, model.backbone.device)
        model.eval()
        model.use_adapter()
        result = np.empty(len(tokens.suffix_of), np.float32)
        batches = tokens.batches(self.config.batch_tokens)
        sizes = [int(np.diff(tokens.offsets)[groups].sum()) for groups in batches]
        try:
            for groups in self.progress.track(batches, self.name, sum(sizes), sizes=sizes, unit="candidate"):
                prefix = model.read(*pad_ids(tokens.prefixes, groups, model.backbone.device))
                for places in tokens.chunks(groups, self.config.batch_tokens):
                    margins = model.margins(prefix, **_to(tokens.pack(places), model.backbone.device))
                    # float64, where a probability near one is still told from another
                    result[np.concatenate(places)] = torch.sigmoid(margins.double()).cpu().numpy()
        finally:
            model.compute_dtype = trained_in
            model.train(training)
        return result


def train_llm_scorer(
    catalogue: Catalogue,
    split: JudgementSplit,
    backbone: Backbone,
    config: LlmScorerConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
) -> tuple[LlmScorer, list[dict[str, float]]]:
    """Fine-tune an adapter on ``split.train`` by binary cross-entropy; returns the scorer and its log.

    The weights of the best mean AUC on ``split.validation`` are kept (the last ones when there is no validation).
    Checkpoints go to ``folder``; an interrupted training resumes there, a finished one is read back. The backbone
    gets the adapter ``answers``; it can have one such scorer.

    Raises
    ------
    DataError: no training group has both kinds of candidates.
    ConfigError: prompts can be longer than the model reads.
    TrainingError: the loss is no number.
    """
    model = AnswerModel(backbone, config.lora, seed=options.seed)
    scorer = LlmScorer(model, catalogue, config, options)
    done = folder / "finished.safetensors"
    if done.exists():
        model.load_state_dict(load_file(done))
        return scorer, json.loads((folder / "log.json").read_text(encoding="utf-8"))
    model.compute_dtype = pick_dtype(options.dtype, backbone.device)
    samples = GroupSamples(split.train, config.train_candidates, seed=options.seed)
    tokens = scorer.tokens(split.train.candidates)
    checks = split.validation.drop_one_sided()
    check_tokens = scorer.tokens(checks.candidates) if len(checks) else None

    def validate() -> dict[str, float]:
        assert check_tokens is not None
        auc = mean_auc(checks, scorer.score_tokens(check_tokens))
        model.use_adapter(train=True)
        return {"auc": auc}

    lengths = tokens.prefixes.lengths[samples.groups] + tokens.packed_lengths[samples.groups]
    log = train(
        model,
        samples,
        lambda chosen: _collate(tokens, split.train.labels, chosen),
        BucketSampler(lengths, np.zeros(len(samples), np.int64), [config.batch_groups], seed=options.seed),
        config.training,
        folder,
        seed=options.seed,
        label="fine-tuning the language model as scorer",
        progress=progress,
        device=backbone.device,
        validate=validate if check_tokens is not None else None,
        metric="auc" if check_tokens is not None else None,
    )
    save_tensors(done, model.state_dict())
    scorer.progress = progress
    return scorer, log


def _collate(
    tokens: PromptTokens, labels: NDArray[np.bool_], chosen: list[tuple[int, NDArray[np.int64]]]
) -> dict[str, torch.Tensor]:
    places = [places for _, places in chosen]
    prefix, lengths = tokens.prefixes.padded(np.array([group for group, _ in chosen]))
    told = torch.from_numpy(labels[np.concatenate(places)])
    return {"prefix": torch.from_numpy(prefix), "lengths": torch.from_numpy(lengths), "labels": told} | tokens.pack(
        places
    )


def _to(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, Any]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
