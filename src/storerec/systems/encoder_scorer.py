"""Scoring by a BERT-style encoder over text (paper, Table 5, rows BERT)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file

from storerec.config import Config, RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.judgements import Candidates, JudgementSplit
from storerec.errors import ConfigError
from storerec.llm.batching import BucketSampler, Ragged, token_batches
from storerec.llm.embeddings import DEFAULT_ENCODER, load_encoder
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.llm.training import TrainingConfig, train
from storerec.storage import save_tensors
from storerec.systems.cross_encoder import CrossEncoder
from storerec.systems.encoder_tokens import SPECIAL, EncoderTokens
from storerec.systems.judging import GroupSamples, mean_auc
from storerec.systems.text_prompt import TextPrompt, TextPromptConfig


class EncoderScorerConfig(Config):
    """A BERT-style encoder as scorer over text: what it reads and, fine-tuned, how it learns."""

    name: str = DEFAULT_ENCODER
    """A Hugging Face hub id (the paper's is bert-base-uncased), a folder, or ``all-minilm-l6-v2``, which needs no
    hub."""

    revision: str | None = None
    """Hub revision (branch, tag or commit)."""

    prompt: TextPromptConfig = TextPromptConfig()
    """What is shown of histories and candidates; its instruction and question are not read by encoders."""

    max_history_tokens: int = Field(default=384, ge=1)
    """Last tokens of the history that are read."""

    max_candidate_tokens: int = Field(default=96, ge=1)
    """First tokens of the candidate's text that are read."""

    batch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens scored at a time."""

    batch_groups: int = Field(default=8, ge=1)
    """Groups (users or impressions) per optimizer step."""

    train_candidates: int = Field(default=8, ge=2)
    """Candidates of a group per optimizer step; larger groups draw others each epoch."""

    training: TrainingConfig = TrainingConfig(learning_rate=5e-5, epochs=5, patience=3, warmup=0.1)
    """Budget and optimizer of fine-tuning; validation is by the mean AUC of the groups."""


class EncoderScorer:
    """An encoder's opinion of a candidate's text beside a history's.

    Zero-shot: the cosine of the mean-pooled history text and the mean-pooled candidate text, each read once. What the
    paper asks of an untrained BERT it does not say; its result is at chance (AUC .4963 on MIND).

    Fine-tuned: a cross-encoder over the pair, the probability of a click.
    """

    def __init__(
        self,
        model: CrossEncoder,
        catalogue: Catalogue,
        config: EncoderScorerConfig,
        options: RunOptions,
        *,
        tuned: bool,
        progress: Progress | None = None,
    ) -> None:
        self.name = "encoder-finetuned" if tuned else "encoder-zeroshot"
        self.model, self.config, self.options, self.tuned = model, config, options, tuned
        self.progress = progress or Progress(enabled=False)
        self._prompt = TextPrompt(catalogue, config.prompt)
        need = config.max_history_tokens + config.max_candidate_tokens + SPECIAL
        most = getattr(model.encoder.config, "max_position_embeddings", None)
        if most is not None and need > most:
            raise ConfigError(
                f"max_history_tokens + max_candidate_tokens + {SPECIAL} is {need}, but {config.name} reads {most}"
            )

    @classmethod
    def zero_shot(
        cls,
        catalogue: Catalogue,
        config: EncoderScorerConfig,
        options: RunOptions,
        *,
        progress: Progress | None = None,
    ) -> EncoderScorer:
        """Load the encoder of ``config`` and take it as it is."""
        model = CrossEncoder(*load_encoder(config.name, revision=config.revision, options=options))
        return cls(model, catalogue, config, options, tuned=False, progress=progress)

    def tokens(self, candidates: Candidates) -> EncoderTokens:
        """Token ids of the texts of ``candidates``."""
        return EncoderTokens.build(
            candidates,
            self._prompt,
            self.model.tokenizer,
            max_history_tokens=self.config.max_history_tokens,
            max_candidate_tokens=self.config.max_candidate_tokens,
        )

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Score each candidate: (n,) cosines or, fine-tuned, probabilities of a click."""
        return self.score_tokens(self.tokens(candidates))

    @torch.no_grad()
    def score_tokens(self, tokens: EncoderTokens) -> NDArray[np.float32]:
        """Score texts that are tokenized already."""
        model, training, trained_in = self.model, self.model.training, self.model.compute_dtype
        model.compute_dtype = pick_dtype(self.options.inference_dtype, model.encoder.device)
        model.eval()
        try:
            return self._probabilities(tokens) if self.tuned else self._cosines(tokens)
        finally:
            model.compute_dtype = trained_in
            model.train(training)

    def _probabilities(self, tokens: EncoderTokens) -> NDArray[np.float32]:
        result = np.empty(len(tokens.item), np.float32)
        lengths = Ragged(np.zeros(0, np.int64), np.concatenate([[0], np.cumsum(tokens.lengths)]))
        batches = token_batches(lengths, self.config.batch_tokens)
        sizes = [len(places) for places in batches]
        for places in self.progress.track(batches, self.name, len(result), sizes=sizes, unit="candidate"):
            logits = self.model.logits(tokens.pairs(places)).double()  # float64 tells high probabilities apart
            result[places] = torch.sigmoid(logits).cpu().numpy()
        return result

    def _cosines(self, tokens: EncoderTokens) -> NDArray[np.float32]:
        histories, items = self._vectors(tokens, tokens.histories), self._vectors(tokens, tokens.items)
        return np.einsum("nd,nd->n", histories[tokens.group], items[tokens.item]).astype(np.float32)

    def _vectors(self, tokens: EncoderTokens, texts: Ragged) -> NDArray[np.float32]:
        """Mean-pooled vectors of length 1, one per text: (texts, width)."""
        result = np.empty((len(texts), len(self.model.weight)), np.float32)
        batches = token_batches(texts, self.config.batch_tokens)
        sizes = [len(rows) for rows in batches]
        for rows in self.progress.track(batches, self.name, len(texts), sizes=sizes, unit="text"):
            batch = tokens.single(texts, rows)
            real = batch["attention_mask"].to(self.model.encoder.device)[..., None]  # (rows, longest, 1)
            mean = (self.model.states(batch) * real).sum(1) / real.sum(1)
            result[rows] = F.normalize(mean, dim=-1).cpu().numpy()
        return result


def train_encoder_scorer(
    catalogue: Catalogue,
    split: JudgementSplit,
    config: EncoderScorerConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
) -> tuple[EncoderScorer, list[dict[str, float]]]:
    """Fine-tune the encoder of ``config`` on ``split.train`` by binary cross-entropy; returns the scorer and its log.

    The weights of the best mean AUC on ``split.validation`` are kept (the last ones when there is no validation).
    Checkpoints go to ``folder``; an interrupted training resumes there, a finished one is read back.

    Raises
    ------
    DataError: no training group has both kinds of candidates.
    ConfigError: the texts may be longer than the encoder reads.
    BackboneError: the encoder cannot be had.
    TrainingError: the loss is no number.
    """
    model = CrossEncoder(*load_encoder(config.name, revision=config.revision, options=options), seed=options.seed)
    scorer = EncoderScorer(model, catalogue, config, options, tuned=True)
    done = folder / "finished.safetensors"
    if done.exists():
        model.load_state_dict(load_file(done))
        return scorer, json.loads((folder / "log.json").read_text(encoding="utf-8"))
    model.compute_dtype = pick_dtype(options.dtype, model.encoder.device)
    samples = GroupSamples(split.train, config.train_candidates, seed=options.seed)
    tokens, labels = scorer.tokens(split.train.candidates), split.train.labels
    checks = split.validation.drop_one_sided()
    check_tokens = scorer.tokens(checks.candidates)

    def collate(chosen: list[tuple[int, NDArray[np.int64]]]) -> dict[str, torch.Tensor]:
        places = np.concatenate([places for _, places in chosen])
        return tokens.pairs(places) | {"labels": torch.from_numpy(labels[places])}

    sizes = [config.batch_groups]
    sampler = BucketSampler(
        tokens.histories.lengths[samples.groups], np.zeros(len(samples), np.int64), sizes, seed=options.seed
    )
    log = train(
        model,
        samples,
        collate,
        sampler,
        config.training,
        folder,
        seed=options.seed,
        label="fine-tuning the encoder as scorer",
        progress=progress,
        device=model.encoder.device,
        validate=(lambda: {"auc": mean_auc(checks, scorer.score_tokens(check_tokens))}) if len(checks) else None,
        metric="auc" if len(checks) else None,
    )
    save_tensors(done, model.state_dict())
    scorer.progress = progress
    return scorer, log
