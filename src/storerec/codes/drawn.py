"""Which items a clusterer is fitted on, and where their vectors come from: never all of a large catalogue's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from storerec.codes.clusterer_config import ClustererConfig
from storerec.errors import DataError

_REFINED_PER_SAMPLE = 5
"""So many times the sample's rows are refined on at most."""

_CHUNK_VALUES = 1 << 23
"""Values checked at a time."""


class Vectors(Protocol):
    """Dense tokens of n items, of which some rows of one position can be had without the others.

    Attributes
    ----------
    shape: (n, v, D).
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, v, D)."""
        ...

    def take(self, rows: np.ndarray, position: int) -> np.ndarray:
        """Vectors (m, D) of items ``rows`` (m,), rising, at one position. Several threads may call at a time."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayVectors:
    """An array as :class:`Vectors`.

    Attributes
    ----------
    array: (m, v, D).
    rows: (m,) the items whose vectors these are, rising; None for all, 0..m-1.
    items: how many items there are in all; by default m.
    """

    array: np.ndarray
    rows: np.ndarray | None = None
    items: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(items, v, D)."""
        return (len(self.array) if self.items is None else self.items, *self.array.shape[1:])

    def take(self, rows: np.ndarray, position: int) -> np.ndarray:
        """Vectors (m, D) of items; DataError for an item that the array lacks."""
        if self.rows is None:
            return self.array[rows, position]
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        if (lacking := self.rows[places] != rows).any():
            raise DataError(f"item row {int(rows[np.argmax(lacking)])} was drawn, but its vectors are not given")
        return self.array[places, position]


@dataclass(frozen=True, eq=False)
class Drawn:
    """The random choices of a fit; they follow from the number of items, the settings and the seed alone.

    Attributes
    ----------
    rows: (m,) int64, rising: the items that PCA and k-means are fitted on.
    more: (m',) int64, rising: the items that the centres are refined on; None where ``rows`` are all items.
    seeds: by position, the seed of its starts.
    """

    rows: NDArray[np.int64]
    more: NDArray[np.int64] | None
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, items: int, positions: int, config: ClustererConfig, seed: int) -> Self:
        """Draw from ``items`` items with ``positions`` dense tokens each."""
        rng = np.random.default_rng(seed)
        rows, more = np.arange(items), None
        if items > config.sample:
            rows = np.sort(rng.choice(items, config.sample, replace=False))
            limit = _REFINED_PER_SAMPLE * config.sample
            more = np.sort(rng.choice(items, min(items, limit), replace=False))
        return cls(rows, more, tuple(int(rng.integers(2**31 - 1)) for _ in range(positions)))

    @property
    def last(self) -> NDArray[np.int64]:
        """The items (m,) that the centres were fitted on last, rising: those whose distances they make small."""
        return self.rows if self.more is None else self.more

    @property
    def all_rows(self) -> NDArray[np.int64]:
        """All items (m,) whose vectors a fit asks for, rising, each once."""
        return self.rows if self.more is None else np.union1d(self.rows, self.more)

    def is_last(self, first: int, count: int) -> NDArray[np.bool_]:
        """Which of the items ``first``..``first + count - 1`` are in :attr:`last`, (count,) bool."""
        inside = np.zeros(count, bool)
        low, high = np.searchsorted(self.last, [first, first + count])
        inside[self.last[low:high] - first] = True
        return inside


def check_vectors(vectors: np.ndarray, positions: int | None, width: int | None, *, first: int = 0) -> None:
    """Raise :class:`DataError` unless these are finite floats (items, positions, width), items >= 1.

    ``first`` is the row of the first item within the catalogue, for the text of the error.
    """
    if vectors.ndim != 3 or 0 in vectors.shape or not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(f"dense tokens must be floats (items, positions, width), got {vectors.shape} {vectors.dtype}")
    if (positions is not None and vectors.shape[1] != positions) or (width is not None and vectors.shape[2] != width):
        raise DataError(f"dense tokens have shape {vectors.shape}, the clusterer expects (items, {positions}, {width})")
    step = max(1, _CHUNK_VALUES // (vectors.shape[1] * vectors.shape[2]))
    for start in range(0, len(vectors), step):
        check_finite(vectors[start : start + step], np.arange(first + start, first + min(start + step, len(vectors))))


def check_finite(vectors: np.ndarray, rows: np.ndarray) -> None:
    """Raise :class:`DataError`, which names the first bad one of the items ``rows`` (m,), unless all are finite."""
    good = np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
    if not good.all():
        raise DataError(
            f"item row {int(rows[np.argmin(good)])}: its dense tokens hold a value that is not finite (NaN or infinity)"
        )
