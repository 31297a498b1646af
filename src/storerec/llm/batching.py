"""Ragged integer lists without Python objects, and batches bucketed by length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Lists of integers as one flat array: list ``i`` is ``flat[offsets[i]:offsets[i + 1]]``.

    Attributes
    ----------
    flat: (total,) int64.
    offsets: (lists + 1,) int64, starting at 0.
    """

    flat: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> Ragged:
        """Build from Python lists (as tokenizers return them)."""
        lengths = np.fromiter((len(x) for x in lists), dtype=np.int64, count=len(lists))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        flat = np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int64, count=int(offsets[-1]))
        return cls(flat, offsets)

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The lists of all parts, in order."""
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
        flat = np.concatenate([np.empty(0, np.int64), *(part.flat for part in parts)])
        return cls(flat, np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(lists,) length of each list."""
        return np.diff(self.offsets)

    def padded(self, rows: np.ndarray, *, fill: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Lists ``rows`` right-padded with ``fill``: (rows, longest) int64, and their lengths (rows,) int64."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        columns = np.arange(int(lengths.max(initial=0)))
        inside = columns < lengths[:, None]  # (rows, longest)
        places = np.where(inside, starts[:, None] + columns, 0)
        values = self.flat[places] if len(self.flat) else np.zeros_like(places)
        return np.where(inside, values, fill), lengths


class BucketSampler:
    """Batches of samples of one group and near-equal length, in an order fixed by (seed, epoch).

    Every sample appears once an epoch and no batch is dropped. Samples are shuffled, cut into pools of
    ``pool`` batches, sorted by length within a pool and cut into batches, whose order is shuffled again. The number
    of batches is the same every epoch, so a trainer can resume at a batch number.

    Parameters
    ----------
    lengths: (samples,) length of each sample.
    groups: (samples,) group (task) of each sample; a batch never mixes groups.
    batch_sizes: samples per batch, for each group.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        groups: np.ndarray,
        batch_sizes: Sequence[int],
        *,
        seed: int,
        pool: int = 16,
    ) -> None:
        self.lengths, self.groups, self.batch_sizes = lengths, groups, tuple(batch_sizes)
        self.seed, self.pool, self.epoch = seed, pool, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        counts = np.bincount(self.groups, minlength=len(self.batch_sizes))
        return sum(-(-int(count) // size) for count, size in zip(counts, self.batch_sizes, strict=True))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches: list[np.ndarray] = []
        for group, size in enumerate(self.batch_sizes):
            rows = rng.permutation(np.flatnonzero(self.groups == group))
            for start in range(0, len(rows), size * self.pool):
                pool = rows[start : start + size * self.pool]
                pool = pool[np.argsort(self.lengths[pool], kind="stable")]
                batches.extend(pool[i : i + size] for i in range(0, len(pool), size))
        for place in rng.permutation(len(batches)):
            yield batches[place].tolist()


def token_batches(content: Ragged, tokens: int) -> list[np.ndarray]:
    """Rows in order of length, cut so that a batch holds at most ``tokens`` padded tokens (one row at least)."""
    order = np.argsort(content.lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        # the longest row of a batch is its last: shrink until its padding fits
        size = max(1, tokens // max(1, int(content.lengths[order[start]])))
        while size > 1:
            chosen = order[start : start + size]
            fits = max(1, tokens // max(1, int(content.lengths[chosen[-1]])))
            if len(chosen) <= fits:
                break
            size = min(fits, size - 1)
        batches.append(order[start : start + size])
        start += size
    return batches
