"""Sums over the items of each code, chunk by chunk: what workers compute and a driver adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storerec.codes.position import Floats
from storerec.errors import DataError


@dataclass(frozen=True, eq=False)
class ChunkSums:
    """Sums of one chunk's raw vectors by code; small where the chunk is, since codes that it lacks take no room.

    Attributes
    ----------
    codes: by position (u_i,) int32, the codes of the chunk, rising.
    counts: by position (u_i,) int64, items of each.
    sums: by position (u_i, D) float64, sums of their vectors, in row order.
    """

    codes: tuple[NDArray[np.int32], ...]
    counts: tuple[NDArray[np.int64], ...]
    sums: tuple[Floats, ...]

    @classmethod
    def of(cls, vectors: np.ndarray, codes: np.ndarray, sizes: Sequence[int]) -> ChunkSums:
        """Of vectors (m, v, D), m >= 1, whose items have ``codes`` (m, v or more); positions beyond v are left out.

        Raises
        ------
        DataError: shapes that do not fit, or a code that is not within 0..size-1 of its position.
        """
        if codes.ndim != 2 or len(codes) != len(vectors) or not codes.shape[1] >= vectors.shape[1] == len(sizes):
            raise DataError(f"codes have shape {codes.shape}, vectors {vectors.shape}, for {len(sizes)} positions")
        found = [_of_position(vectors[:, i], codes[:, i], i, size) for i, size in enumerate(sizes)]
        used, counts, sums = zip(*found, strict=True)
        return cls(used, counts, sums)


class ClusterSums:
    """Sums over all items, by position and code: add the chunks' in their order, so that they are the same each time.

    Parameters
    ----------
    sizes: (v,) codes per position.
    width: D of the vectors.
    """

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        self._sums = [np.zeros((size, width)) for size in sizes]
        self._counts = [np.zeros(size, np.int64) for size in sizes]

    def add(self, chunk: ChunkSums) -> None:
        """Add a chunk's sums."""
        for position, used in enumerate(chunk.codes):
            self._sums[position][used] += chunk.sums[position]
            self._counts[position][used] += chunk.counts[position]

    @property
    def counts(self) -> tuple[NDArray[np.int64], ...]:
        """Items of each code, by position (k_i,)."""
        return tuple(self._counts)

    def means(self, empty: Sequence[np.ndarray]) -> list[NDArray[np.float32]]:
        """Mean vector of each code, by position (k_i, D) float32; a code that no item has gets its row of ``empty``.

        ``empty`` is what :meth:`~storerec.codes.Clusterer.back` gives.
        """
        return [
            np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], other).astype(np.float32)
            for sums, counts, other in zip(self._sums, self._counts, empty, strict=True)
        ]


def _of_position(
    vectors: np.ndarray, column: np.ndarray, position: int, size: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], Floats]:
    """Codes, counts and sums of one position's vectors (m, D)."""
    if column.min() < 0 or column.max() >= size:
        raise DataError(f"position {position}: codes outside 0..{size - 1}")
    order = np.argsort(column, kind="stable")
    used, starts, counts = np.unique(column[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
    return used.astype(np.int32), counts.astype(np.int64), sums
