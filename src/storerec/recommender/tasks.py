"""Training samples: windows of histories, and items' texts with their codes (docs/method.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch.utils.data import Dataset

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.errors import ConfigError
from storerec.llm.backbone import Backbone
from storerec.llm.batching import Ragged
from storerec.recommender.config import RecommenderConfig

SEQUENCE, ALIGNMENT = 0, 1


@dataclass(frozen=True)
class Windows:
    """Cuts of histories into windows of at most ``size`` items.

    Every item of a history lies in at least one window: one window ends at the last item, the others end ``size``
    apart, at a place that changes each epoch (with ``jitter``). Their number does not change.

    Attributes
    ----------
    histories: the training histories, those with one item left out by :meth:`cut`'s caller.
    size: items per window: ``max_history`` + 1.
    only_last: one window per user, ending at the last item.
    """

    histories: Histories
    size: int
    only_last: bool
    jitter: bool
    seed: int

    def counts(self) -> np.ndarray:
        """(users,) windows of each user; users with fewer than two items have none."""
        lengths = self.histories.lengths
        extra = 1 if self.jitter else 0
        several = -(-lengths // self.size) + np.where(lengths > self.size, extra, 0)
        counts = np.ones_like(lengths) if self.only_last else several
        return np.where(lengths < 2, 0, counts).astype(np.int64)

    def cut(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Start and end (windows,) of each window in ``histories.items``, in order of users."""
        counts = self.counts()
        user = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
        lengths = self.histories.lengths[user].astype(np.int64)
        shift = np.zeros_like(number)
        if self.jitter and not self.only_last:
            rng = np.random.default_rng([self.seed, epoch, 2])
            drawn = rng.integers(0, self.size, len(counts))[user]
            # window 0 ends at the last item; the others are shifted and step back from there
            shift = np.where(number > 0, drawn - self.size, 0)
        end = lengths - number * self.size - shift
        end = np.clip(end, np.minimum(2, lengths), lengths)
        begin = np.maximum(end - self.size, 0)
        first = self.histories.offsets[:-1][user]
        return first + begin, first + end


class RecommenderSamples(Dataset):
    """Samples of both tasks in one index space: windows first, then (with ``texts``) items."""

    def __init__(
        self,
        histories: Histories,
        catalogue: Catalogue,
        texts: Ragged | None,
        instruction: np.ndarray,
        config: RecommenderConfig,
        seed: int,
    ) -> None:
        only_last = config.loss_positions == "last"
        self.windows = Windows(histories, config.max_history + 1, only_last, config.jitter, seed)
        self.texts, self.instruction, self.config = texts, instruction, config
        self.items = np.append(histories.items, 0).astype(np.int64)
        self.set_epoch(0)
        count = len(self.starts)
        aligned = len(catalogue) if texts is not None else 0
        lengths = self.ends - self.starts
        self.lengths = np.concatenate([lengths, texts.lengths if texts is not None else lengths[:0]])
        self.groups = np.concatenate([np.full(count, SEQUENCE), np.full(aligned, ALIGNMENT)]).astype(np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Cut the windows of ``epoch``."""
        self.starts, self.ends = self.windows.cut(epoch)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """A batch of one task as tensors for :meth:`Recommender.forward`."""
        rows = np.asarray(chosen)
        alignment = self.groups[rows[0]] == ALIGNMENT
        batch = self._alignment(rows - len(self.starts)) if alignment else self._sequence(rows)
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}

    def _sequence(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        starts, counts = self.starts[rows], self.ends[rows] - self.starts[rows]
        columns = np.arange(int(counts.max()))
        inside = columns < counts[:, None]
        items = self.items[np.where(inside, starts[:, None] + columns, len(self.items) - 1)]
        last = columns == counts[:, None] - 1
        return {
            "context": np.tile(self.instruction, (len(rows), 1)),
            "context_lengths": np.full(len(rows), len(self.instruction)),
            "items": items,
            "targets": last if self.config.loss_positions == "last" else inside,
        }

    def _alignment(self, items: np.ndarray) -> dict[str, np.ndarray]:
        assert self.texts is not None
        context, lengths = self.texts.padded(items)
        return {
            "context": context,
            "context_lengths": lengths,
            "items": items[:, None],
            "targets": np.ones((len(items), 1), bool),
        }


def check_room(backbone: Backbone, config: RecommenderConfig, positions: int) -> None:
    """Raise ConfigError when the longest sequence, of ``positions`` codes an item, is longer than the model reads."""
    limit = backbone.max_positions
    words, question = (
        len(backbone.encode([text], max_tokens=10_000, begin=begin).flat)
        for text, begin in ((config.prompts.sequence, True), (config.prompts.alignment_after, False))
    )
    history = words + (config.max_history + 1) * positions - 1  # the last code is only predicted
    text = config.alignment_tokens + question + positions - 1
    for name, need in (("max_history", history), ("alignment_tokens", text if config.alignment else 0)):
        if limit is not None and need > limit:
            raise ConfigError(
                f"recommender.{name}: its sequences take up to {need} positions, "
                f"but {backbone.config.name} reads {limit}"
            )


def alignment_texts(catalogue: Catalogue, backbone: Backbone, config: RecommenderConfig) -> Ragged:
    """Contexts of the alignment task: instruction, an item's text, and the question for its codes."""
    joined = catalogue.frame.select(text=_join_filled(catalogue.attributes)).to_series().to_list()
    before, after = config.prompts.alignment_before, config.prompts.alignment_after
    question = backbone.encode([after], max_tokens=10_000)
    lists = backbone.encode(
        [f"{before} {text}".strip() for text in joined], max_tokens=config.alignment_tokens, begin=True
    )
    # the question is appended after the cut, so that no text is long enough to lose it
    flat = np.insert(lists.flat, np.repeat(lists.offsets[1:], len(question.flat)), np.tile(question.flat, len(lists)))
    return Ragged(flat, lists.offsets + len(question.flat) * np.arange(len(lists.offsets)))


def _join_filled(attributes: tuple[str, ...]) -> pl.Expr:
    filled = [pl.when(pl.col(name).str.len_bytes() > 0).then(pl.col(name)) for name in attributes]
    return pl.concat_str(filled, separator="; ", ignore_nulls=True)
