"""Training the yes/no scorer: groups packed into rows of one history each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from storerec.config import RunOptions
from storerec.data.judgements import Candidates, Judgements, JudgementSplit
from storerec.errors import ConfigError, DataError
from storerec.llm.batching import BucketSampler
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.recommender.history import tokens_of_item
from storerec.recommender.model import Recommender
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from storerec.recommender.scoring_inference import opening_of, padded, predict


@dataclass(frozen=True)
class Pieces:
    """Candidates cut into pieces of one group and at most ``packed`` each.

    Attributes
    ----------
    groups: (pieces,) the group of each.
    starts, counts: (pieces,) where its candidates begin, and how many they are.
    """

    groups: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def cut(cls, candidates: Candidates, packed: int) -> Pieces:
        """Cut every group; a group without candidates gives no piece."""
        lengths = candidates.lengths
        pieces = -(-lengths // packed)
        groups = np.repeat(np.arange(len(lengths)), pieces)
        number = np.arange(len(groups)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = candidates.offsets[groups] + number * packed
        return cls(groups, starts, np.minimum(packed, candidates.offsets[groups + 1] - starts))


class ScoringSamples(Dataset):
    """Pieces as rows of a batch.

    Attributes
    ----------
    lengths: (pieces,) tokens of each, the instruction aside.
    """

    def __init__(self, candidates: Candidates, labels: NDArray[np.bool_] | None, model: CodeScorer) -> None:
        self.pieces = Pieces.cut(candidates, model.settings.packed)
        recent = candidates.histories.tail(model.settings.max_history)
        self.past, self.past_starts, self.past_lengths = (
            np.append(recent.items, 0).astype(np.int64), recent.offsets[:-1], recent.lengths
        )  # fmt: skip
        self.items = np.append(candidates.items, 0).astype(np.int64)
        self.labels = None if labels is None else np.append(labels, False)
        block = model.tree.levels + len(model.question)
        self.lengths = self.past_lengths[self.pieces.groups] * model.tree.levels + self.pieces.counts * block

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the samples are the same each epoch."""

    def __len__(self) -> int:
        return len(self.pieces.groups)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, chosen: list[int] | NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """A batch as tensors for :meth:`CodeScorer.forward`."""
        rows = np.asarray(chosen)
        groups = self.pieces.groups[rows]
        lengths = self.past_lengths[groups]
        history, _ = padded(self.past, self.past_starts[groups], lengths)
        places, told = padded(np.arange(len(self.items)), self.pieces.starts[rows], self.pieces.counts[rows])
        batch = {"history": history, "lengths": lengths, "candidates": self.items[places], "told": told}
        if self.labels is not None:
            batch["labels"] = self.labels[places]
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


def train_code_scorer(
    recommender: Recommender,
    judgements: JudgementSplit,
    config: ScorerConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
) -> tuple[CodeScorer, dict[str, list[dict[str, float]]]]:
    """Train a scorer on top of ``recommender`` and return it with its log, by binary cross-entropy on the labels.

    The weights of the best validation AUC (mean over groups with both kinds of candidates) are kept; training stops
    early by it. Checkpoints go to ``folder``; an interrupted training goes on.

    Raises
    ------
    DataError: the training part has no candidate, or labels of one kind only.
    ConfigError: a sequence is longer than the model reads.
    """
    from storerec.llm.training import train  # here: it imports transformers, which reading a bundle does without

    labels = judgements.train.labels
    if not labels.any() or labels.all():
        raise DataError("training a scorer needs candidates of both kinds, chosen and not chosen")
    model = CodeScorer(recommender, config, seed=options.seed)
    check_scorer_room(model)
    model.compute_dtype = pick_dtype(options.dtype, model.backbone.device)
    samples = ScoringSamples(judgements.train.candidates, labels, model)
    validate = _validator(model, judgements.validation.drop_one_sided(), options)
    log = train(
        model,
        samples,
        samples.collate,
        BucketSampler(samples.lengths, np.zeros(len(samples), np.int64), [config.batch_size], seed=options.seed),
        config.training,
        folder,
        seed=options.seed,
        label="training the scorer",
        progress=progress,
        device=model.backbone.device,
        validate=validate,
        metric="auc" if validate else None,
    )
    return model, {"scorer": log}


def check_scorer_room(model: CodeScorer) -> None:
    """Raise ConfigError when a longest history with a candidate is longer than the backbone reads."""
    limit, levels = model.backbone.max_positions, model.tree.levels
    history = model.settings.max_history * tokens_of_item(levels, model.history)
    need = len(model.instruction) + history + levels + len(model.question)
    if limit is not None and need > limit:
        raise ConfigError(
            f"scorer.max_history: its sequences take up to {need} positions, "
            f"but {model.backbone.config.name} reads {limit}"
        )


def mean_auc(judgements: Judgements, scores: NDArray[np.floating]) -> float:
    """Mean over groups of the share of (positive, negative) pairs in the right order, ties half.

    Every group must have both kinds of candidates (:meth:`Judgements.drop_one_sided`).
    """
    groups, labels = judgements.candidates.groups, judgements.labels
    order = np.lexsort((scores, groups))
    group, score = groups[order], scores[order]
    new = np.append(True, (group[1:] != group[:-1]) | (score[1:] != score[:-1]))
    tie = np.cumsum(new) - 1
    rank = np.arange(len(order)) - judgements.candidates.offsets[group] + 1.0
    rank = (np.bincount(tie, rank) / np.bincount(tie))[tie]  # equal scores share their mean rank
    positive, negative = judgements.positives, judgements.negatives
    total = np.bincount(group, rank * labels[order], minlength=len(judgements))
    return float(np.mean((total - positive * (positive + 1) / 2) / (positive * negative)))


def _validator(
    model: CodeScorer, judgements: Judgements, options: RunOptions
) -> Callable[[], Mapping[str, float]] | None:
    if len(judgements) == 0:
        return None
    dtype = pick_dtype(options.inference_dtype, model.backbone.device)

    def validate() -> Mapping[str, float]:
        margins = predict(model, judgements.candidates, dtype, opening=opening_of(model, dtype, fused=options.fused))
        model.use_adapters(train=True)
        return {"auc": mean_auc(judgements, margins)}

    return validate
