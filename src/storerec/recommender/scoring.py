"""The yes/no scorer over codes: how likely a user is to choose a given item (paper, 4.4)."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from storerec.config import Config
from storerec.errors import ConfigError
from storerec.llm.adapters import LoraConfig, activate, adapter_parameters, add_adapter, merge_into
from storerec.llm.layers import depth
from storerec.llm.precision import arithmetic
from storerec.llm.shares import whole_mean
from storerec.llm.trainable import TrainableModule
from storerec.llm.training_config import TrainingConfig
from storerec.recommender.history import history_tokens, tokens_of_item
from storerec.recommender.model import ADAPTER as RECOMMENDER_ADAPTER
from storerec.recommender.model import Recommender
from storerec.tokenizer import ADAPTER as TOKENIZER_ADAPTER

SCORER_ADAPTER = "scorer"


class ScorerConfig(Config):
    """The scorer: which weights it trains on top of a recommender, how long."""

    tuning: Literal["head", "lora", "full"] | None = None
    """head: two output rows alone. lora: also an adapter on top of the recommender's. full: also a copy of the
    recommender's layers, whole. None takes lora or full, as the recommender was trained."""

    lora: LoraConfig = LoraConfig(rank=32)
    """The scorer's adapter."""

    train_codes: bool = True
    """Train a copy of the recommender's code rows too (not with tuning head)."""

    head_scale: float = Field(default=0.1, gt=0)
    """The two rows start as those of the text head times this. A recommender's outputs no longer speak words: at 1 the
    first loss of a two-layer one on MovieLens-100K was 3.5, where 0.69 is a coin's."""

    max_history: int = Field(default=20, ge=1)
    """Most recent items of a user that are read (paper: 20)."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in training on the codes' input vectors and on the outputs that answer."""

    batch_size: int = Field(default=16, ge=1)
    """Groups per optimizer step."""

    packed: int = Field(default=32, ge=1)
    """Candidates packed behind one history in training at most; larger groups read theirs again. Changes speed only."""

    training: TrainingConfig = TrainingConfig(learning_rate=5e-4, epochs=5, patience=2)
    """How long and how fast."""


class CodeScorer(TrainableModule):
    """Answers whether a user chooses a candidate: history and candidate as codes, a question, yes or no.

    A sequence is the recommender's instruction, the history's codes, the candidate's codes where the next item's
    would stand, and the question. The score is the softmax over the logits of yes and no at its last token, taking
    yes. The head's two rows start as those of the language model.

    The candidates of one history are packed behind it: a block mask lets each see the history and itself only, and
    positions start again after the history for each, so a packed pass equals one pass per candidate.

    Parameters
    ----------
    recommender: the trained recommender that this starts from; it is not changed.
    """

    def __init__(self, recommender: Recommender, config: ScorerConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.settings, self.backbone, self.tree = config, recommender.backbone, recommender.tree
        self.tuning = config.tuning or recommender.settings.tuning
        self._over = recommender.settings.tuning  # on adapters, or on layers of the recommender's own
        self.offsets = recommender.offsets  # (positions,)
        self.base = self._layers(recommender, seed)
        own_codes = config.train_codes and self.tuning != "head"
        rows = recommender.code_inputs.detach().clone()  # (codes of all positions, width)
        self.code_inputs = nn.Parameter(rows, requires_grad=own_codes)
        self._own_codes = own_codes
        self.history = recommender.settings.history
        # a buffer moves with this module; the recommender's own rows are read, not trained here
        own = recommender.items.inputs.detach() if recommender.settings.item_rows else None
        self.item_inputs: torch.Tensor | None
        self.register_buffer("item_inputs", own, persistent=False)  # (items, width)
        prompts = recommender.settings.prompts
        device = self.backbone.device
        texts = (prompts.sequence, prompts.score_question)
        self.instruction, self.question = (
            torch.from_numpy(self.backbone.encode([text], max_tokens=10_000, begin=begin).flat).to(device)
            for text, begin in zip(texts, (True, False), strict=True)
        )  # (tokens,) each
        self.head = nn.Parameter(self._answers(prompts.score_yes, prompts.score_no))  # (2, width)
        self.compute_dtype = recommender.compute_dtype

    def _layers(self, recommender: Recommender, seed: int) -> nn.Module:
        base, shared = recommender.base, self.backbone.word_embeddings
        if self.tuning == "head" or (self.tuning == "lora" and self._over == "lora"):
            if self.tuning == "lora":
                if adapter_parameters(self.backbone.base, SCORER_ADAPTER):
                    raise ConfigError(
                        "this backbone has a scorer's adapter already; load the backbone anew for another"
                    )
                layers = min(recommender.settings.layers or depth(base), depth(base))
                add_adapter(self.backbone.base, SCORER_ADAPTER, self.settings.lora, layers=layers, seed=seed)
            return base
        # a copy: the recommender's own layers must keep their weights, and their names
        own = copy.deepcopy(base, {id(shared): shared})
        if self._over == "lora":
            merge_into(own, [TOKENIZER_ADAPTER, RECOMMENDER_ADAPTER])
        if self.tuning == "lora":
            add_adapter(own, SCORER_ADAPTER, self.settings.lora, seed=seed)
        return own

    @torch.no_grad()
    def _answers(self, yes: str, no: str) -> torch.Tensor:
        """Rows of the two answers in the text head, (2, width); of several tokens, their mean."""
        head = self.backbone.model.get_output_embeddings().weight
        tokens = [torch.from_numpy(self.backbone.encode([text], max_tokens=100).flat) for text in (yes, no)]
        return torch.stack([head[ids.to(head.device)].mean(0) for ids in tokens]) * self.settings.head_scale

    def trained(self) -> dict[str, nn.Parameter]:
        """The head, the code rows, and the adapter or the copied layers."""
        own: dict[str, nn.Parameter] = {"head": self.head}
        if self._own_codes:
            own["code_inputs"] = self.code_inputs
        layers: dict[str, nn.Parameter] = {}
        if self.tuning == "lora":
            layers = adapter_parameters(self.base, SCORER_ADAPTER)
        elif self.tuning == "full":
            shared = {id(p) for p in self.backbone.word_embeddings.parameters()}
            layers = {name: p for name, p in self.base.named_parameters() if id(p) not in shared}
        return own | {f"base.{name}": parameter for name, parameter in layers.items()}

    @property
    def adapters(self) -> tuple[str, ...]:
        """Adapters that act in this model, where present: those under it, and its own."""
        own = (SCORER_ADAPTER,) if self.tuning == "lora" else ()
        stands_on = self._over == "lora" and self.tuning != "full"
        return (TOKENIZER_ADAPTER, RECOMMENDER_ADAPTER, *own) if stands_on else own

    def use_adapters(self, *, train: bool = False) -> None:
        """Let the adapters under this model act together, and no others."""
        if self.adapters:
            shared = RECOMMENDER_ADAPTER in self.adapters
            own = [SCORER_ADAPTER] if train and self.tuning == "lora" else []
            activate(self.backbone.base if shared else self.base, self.adapters, train=own)

    def train_only_own(self) -> None:
        """Let gradients reach only what is trained."""
        super().train_only_own()
        self.use_adapters(train=True)

    def logits(self, history: torch.Tensor, lengths: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Logits of yes and no for candidates packed behind their histories.

        Parameters
        ----------
        history: (rows, items) catalogue rows, padding to the right (anything).
        lengths: (rows,) items of each history; 0 is allowed.
        candidates: (rows, candidates) catalogue rows.

        Returns
        -------
        (rows, candidates, 2)
        """
        count = candidates.shape[1]
        past, ends = self.past(history, lengths)
        blocks = self.blocks(candidates)  # (rows, candidates, block, width)
        inputs = torch.cat([past, blocks.flatten(1, 2)], dim=1)
        places, seen = packing(ends, past.shape[1], count, blocks.shape[2])
        lowest = torch.finfo(inputs.dtype).min
        mask = torch.zeros(seen.shape, dtype=inputs.dtype, device=seen.device).masked_fill(~seen, lowest)
        with arithmetic(self.compute_dtype, inputs.device):
            hidden = self.base(
                inputs_embeds=inputs, position_ids=places, attention_mask=mask[:, None], use_cache=False
            ).last_hidden_state  # (rows, total, width)
        return self.answers(hidden[:, past.shape[1] :].unflatten(1, (count, -1))[:, :, -1])

    def extend(self, recommender: Recommender) -> None:
        """Know the items that ``recommender``, which this one started from, was extended by."""
        self.tree = recommender.tree
        if self.item_inputs is not None:
            more = len(self.tree.source.tuple_of) - len(self.item_inputs)
            self.item_inputs = torch.cat([self.item_inputs, self.item_inputs.new_zeros(more, self.backbone.width)])

    def past(self, history: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What candidates stand behind: (rows, tokens, width) padded to the right, and (rows,) the real tokens."""
        before = self.backbone.embed(self.instruction).expand(len(history), -1, -1)
        own = None if self.item_inputs is None else F.embedding(history, self.item_inputs)  # (rows, items, width)
        past = history_tokens(self._read(history), own, self.history)  # (rows, tokens, width)
        each = tokens_of_item(self.tree.levels, self.history)
        return torch.cat([before, past], dim=1), before.shape[1] + lengths * each

    def blocks(self, candidates: torch.Tensor) -> torch.Tensor:
        """Candidates with the question behind each: (rows, candidates) -> (rows, candidates, block, width)."""
        question = self.backbone.embed(self.question)  # (tokens, width)
        shown = self._read(candidates)  # (rows, candidates, positions, width)
        return torch.cat([shown, question.expand(*candidates.shape, -1, -1)], dim=2)

    def answers(self, last: torch.Tensor) -> torch.Tensor:
        """Logits of yes and no from the outputs at blocks' last tokens: (..., width) -> (..., 2)."""
        with arithmetic(self.compute_dtype, last.device):
            logits = F.linear(F.dropout(last, self.settings.dropout, self.training), self.head)
        return logits if logits.dtype == torch.float64 else logits.float()

    def _read(self, items: torch.Tensor) -> torch.Tensor:
        """Input vectors of items' codes: (...,) -> (..., positions, width)."""
        codes = self.tree.item_codes[items] + self.offsets
        return F.dropout(F.embedding(codes, self.code_inputs), self.settings.dropout, self.training)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean binary cross-entropy over the candidates that ``told`` marks.

        ``batch``: ``history`` (rows, items), ``lengths`` (rows,), ``candidates``, ``told`` and ``labels``
        (rows, candidates).
        """
        logits = self.logits(batch["history"], batch["lengths"], batch["candidates"])
        margin = (logits[..., 0] - logits[..., 1])[batch["told"]]  # (told,): softmax of two is a sigmoid
        labels = batch["labels"][batch["told"]].to(margin.dtype)
        return {"loss": whole_mean(F.binary_cross_entropy_with_logits(margin, labels), len(labels))}


def packing(ends: torch.Tensor, prefix: int, count: int, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and mask of rows that hold a prefix and, behind it, ``count`` blocks that all follow it directly.

    Parameters
    ----------
    ends: (rows,) real tokens of each prefix; ``prefix`` is its padded length.
    block: tokens of a block.

    Returns
    -------
    Positions (rows, total) and (rows, total, total) bool, which tokens each token sees.
    """
    device = ends.device
    total = prefix + count * block
    index = torch.arange(total, device=device)
    behind = index >= prefix
    number = torch.where(behind, (index - prefix) // block, -1)  # (total,): its block, -1 in the prefix
    within = torch.where(behind, (index - prefix) % block, index)
    places = torch.where(behind, ends[:, None] + within, within)  # (rows, total)
    causal = index[:, None] >= index
    same = number[:, None] == number  # also inside the prefix: padding sees itself, and nobody else sees padding
    real = (index < ends[:, None]) | behind  # (rows, total)
    reach = same | (number == -1)
    return places, causal & reach & (real[:, None] | torch.eye(total, dtype=torch.bool, device=device))


def sigmoid(margin: np.ndarray) -> np.ndarray:
    """Probability of yes, (n,) float32, from the difference of both logits."""
    return (1 / (1 + np.exp(-margin.astype(np.float64)))).astype(np.float32)
