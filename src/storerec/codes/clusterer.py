"""Dense tokens to codes: PCA and k-means, separately for each token position (docs/method.md, section 2)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from storerec.config import Config, usable_cores
from storerec.errors import DataError, StorerecWarning

Floats = NDArray[np.float64]

_REFINED_PER_SAMPLE = 5
"""So many times the sample's rows are refined on at most."""

_CHUNK_VALUES = 1 << 23
"""Float64 values of one working array (64 MiB); bounds memory whatever the number of items."""

_OWN_CENTRE = 1e-6
"""Median squared distance to the nearest centre, in parts of the centres' variance, below which items are centres."""

_CACHED_VALUES = 1 << 18
"""The same where it is only looked through once (2 MiB, which caches hold)."""


class ClustererConfig(Config):
    """How dense tokens become codes; the defaults are the paper's."""

    clusters: int = Field(256, ge=1, le=65536)
    """Codes per position (k). Reduced, with a warning, where a position has fewer distinct vectors."""

    dims: int = Field(32, ge=1)
    """Dimensions kept by the PCA before k-means; at most items - 1 and the vector width are used."""

    n_init: int = Field(3, ge=1)
    """k-means++ starts per position; the one with the smallest inertia is kept."""

    max_iter: int = Field(100, ge=1)
    """Lloyd iterations per start."""

    sample: int = Field(100_000, ge=2)
    """Most items used to fit; larger catalogues are sampled evenly at random, and the last few iterations run over up
    to five times as many. All items are then assigned."""


@dataclass(frozen=True, eq=False)
class Position:
    """The fitted parts of one position, all float64.

    Attributes
    ----------
    mean, components, centres: (D,), (d, D), (k, d).
    spread: (101,) percentiles of the fitted items' squared distances to their centres; empty where they are not known,
        as in what was fitted before they were kept.
    """

    mean: Floats
    components: Floats
    centres: Floats
    spread: Floats = field(default_factory=lambda: np.empty(0))

    def distances(self, vectors: np.ndarray) -> Floats:
        """Squared distances (rows, k) of raw vectors (rows, D) to the centres."""
        # float64 throughout: the order of sums changes with the chunk's size, and at float32 that could flip
        # the nearest centre of an item near a border, so that a published code would depend on the batch.
        low = (vectors.astype(np.float64) - self.mean) @ self.components.T
        squares = (low**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1)[None, :]
        return np.maximum(squares - 2.0 * (low @ self.centres.T), 0.0)

    def nearest(self, vectors: np.ndarray) -> NDArray[np.int32]:
        """The nearest centre (rows,) of raw vectors (rows, D); ties go to the smaller number."""
        return self.nearest_of(vectors)[0]

    def nearest_of(self, vectors: np.ndarray) -> tuple[NDArray[np.int32], Floats]:
        """As :meth:`nearest`, and the squared distance to it (rows,)."""
        found, least = np.empty(len(vectors), np.int32), np.empty(len(vectors))
        step = max(1, _CACHED_VALUES // max(self.components.shape[1], len(self.centres)))
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            distances = self.distances(vectors[part])
            found[part] = distances.argmin(axis=1)
            least[part] = np.take_along_axis(distances, found[part][:, None], axis=1)[:, 0]
        return found, least


class Clusterer:
    """Fitted PCA and k-means of every position; turns dense tokens into codes.

    Make one with :meth:`fit` or :meth:`from_arrays`. Assignment of a vector depends on that vector alone, not
    on the others in the call.
    """

    def __init__(self, positions: tuple[Position, ...]) -> None:
        self._positions = positions

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each position; may differ between positions."""
        return tuple(len(p.centres) for p in self._positions)

    @property
    def width(self) -> int:
        """Width D of the vectors it was fitted on."""
        return int(self._positions[0].components.shape[1])

    @classmethod
    def fit(cls, vectors: np.ndarray, config: ClustererConfig, seed: int) -> Self:
        """Fit PCA and k-means per position (scikit-learn's ``PCA`` and ``KMeans``).

        Parameters
        ----------
        vectors
            (n, v, D) real, the token block's outputs of all items; n >= 1.
        config
            sizes and effort.
        seed
            decides the sample and the starts; same input and seed give the same centres.

        Raises
        ------
        DataError: wrong shape, or a value that is not finite (names the first item row).

        Warns
        -----
        StorerecWarning: a position has fewer distinct vectors than ``config.clusters``; it gets fewer codes.
        """
        # scikit-learn with scipy takes over a second to load, and what is fitted already does without; it must be there
        # before threads are limited, which reaches loaded libraries only
        from sklearn.exceptions import ConvergenceWarning

        from storerec.codes.fitting import fit_position

        _check(vectors, None, None)
        rng = np.random.default_rng(seed)
        n = len(vectors)
        rows = np.arange(n) if n <= config.sample else np.sort(rng.choice(n, config.sample, replace=False))
        limit = _REFINED_PER_SAMPLE * config.sample
        more = None if n <= config.sample else np.sort(rng.choice(n, min(n, limit), replace=False))
        seeds = [int(rng.integers(2**31 - 1)) for _ in range(vectors.shape[1])]
        # One thread each: with more, scikit-learn adds partial sums in the order threads finish, which is no fixed
        # order. Positions are independent, so that each may have a thread of its own.
        with threadpool_limits(limits=1), warnings.catch_warnings(), ThreadPoolExecutor(usable_cores()) as pool:
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = list(
                pool.map(lambda i: fit_position(vectors[:, i], rows, more, config, seeds[i]), range(vectors.shape[1]))
            )
        for position, one in enumerate(fitted):
            if len(one.centres) < config.clusters:
                warnings.warn(
                    f"position {position}: {config.clusters} codes asked for, but its {n} vectors fill only "
                    f"{len(one.centres)}; this position gets {len(one.centres)} codes",
                    StorerecWarning,
                    stacklevel=2,
                )
        return cls(tuple(fitted))

    def assign(self, vectors: np.ndarray) -> NDArray[np.int32]:
        """Nearest code of every position.

        Takes vectors (n, v, D), gives codes (n, v) int32; works in chunks of bounded memory. Ties go to the
        smaller code. Raises :class:`DataError` for another shape or values that are not finite.
        """
        _check(vectors, len(self._positions), self.width)
        codes = np.empty(vectors.shape[:2], dtype=np.int32)

        def of_position(position: int) -> None:
            codes[:, position] = self._positions[position].nearest(vectors[:, position])

        with threadpool_limits(limits=1), ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(of_position, range(len(self._positions))))
        return codes

    @property
    def centres(self) -> tuple[Floats, ...]:
        """Centres of each position, (k, d) in its PCA space."""
        return tuple(position.centres for position in self._positions)

    @property
    def spread(self) -> Floats | None:
        """Percentiles (positions, 101) of the fitted items' squared distances to their centres; None if unknown.

        They are unknown, too, where most items are centres of their own, as few items are: any other item is far then.
        """
        known = all(
            len(one.spread) and one.spread[50] > _OWN_CENTRE * one.centres.var(axis=0).sum() for one in self._positions
        )
        return np.stack([position.spread for position in self._positions]) if known else None

    def nearest_distances(self, vectors: np.ndarray) -> Floats:
        """Squared distances in PCA space to the nearest centres: (n, v, D) -> (n, v). Raises like :meth:`assign`."""
        _check(vectors, len(self._positions), self.width)
        least = [position.nearest_of(vectors[:, i])[1] for i, position in enumerate(self._positions)]
        return np.stack(least, axis=1)

    def distances(self, vectors: np.ndarray) -> NDArray[np.float32]:
        """Squared distances in PCA space to all centres.

        Takes vectors (n, v, D), gives (n, v, k) float32 with k the largest of ``sizes``; a position with
        fewer codes is filled up with infinity. Raises like :meth:`assign`.
        """
        _check(vectors, len(self._positions), self.width)
        out = np.full((*vectors.shape[:2], max(self.sizes)), np.inf, dtype=np.float32)
        for part in self._chunks(len(vectors)):
            for position, fitted in enumerate(self._positions):
                out[part, position, : len(fitted.centres)] = fitted.distances(vectors[part, position])
        return out

    def cluster_means(self, vectors: np.ndarray, codes: np.ndarray) -> list[NDArray[np.float32]]:
        """Mean raw vector of each code, for starting code embeddings (docs/method.md, section 3).

        Takes vectors (n, v, D) and their codes (n, v); gives per position a (k_i, D) float32 array. A code
        that no item has gets its centre mapped back from PCA space. Raises :class:`DataError` for wrong
        shapes or codes.
        """
        _check(vectors, len(self._positions), self.width)
        if codes.shape != vectors.shape[:2]:
            raise DataError(f"codes have shape {codes.shape}, expected {vectors.shape[:2]}")
        means = []
        for position, fitted in enumerate(self._positions):
            column = codes[:, position]
            if column.min() < 0 or column.max() >= len(fitted.centres):
                raise DataError(f"position {position}: codes outside 0..{len(fitted.centres) - 1}")
            sums = np.zeros((len(fitted.centres), self.width))
            for part in self._chunks(len(vectors)):
                order = np.argsort(column[part], kind="stable")
                used, starts = np.unique(column[part][order], return_index=True)
                chunk = vectors[part, position][order].astype(np.float64)
                sums[used] += np.add.reduceat(chunk, starts, axis=0)
            counts = np.bincount(column, minlength=len(fitted.centres))[:, None]
            back = fitted.mean + fitted.centres @ fitted.components
            means.append(np.where(counts > 0, sums / np.maximum(counts, 1), back).astype(np.float32))
        return means

    def arrays(self) -> dict[str, np.ndarray]:
        """All state as float64 arrays ``mean.i``, ``components.i``, ``centres.i``, ``spread.i``, for saving."""
        return {
            f"{name}.{i}": getattr(p, name)
            for i, p in enumerate(self._positions)
            for name in ("mean", "components", "centres", "spread")
            if name != "spread" or len(p.spread)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Exact inverse of :meth:`arrays`; raises :class:`DataError` when arrays lack or do not fit."""
        positions: list[Position] = []
        while f"mean.{len(positions)}" in arrays:
            i = len(positions)
            try:
                mean, components, centres = (arrays[f"{name}.{i}"] for name in ("mean", "components", "centres"))
            except KeyError as missing:
                raise DataError(f"clusterer state lacks the array {missing}") from None
            if components.shape != (centres.shape[1], len(mean)):
                raise DataError(f"clusterer state, position {i}: shapes do not fit together")
            positions.append(Position(mean, components, centres, arrays.get(f"spread.{i}", np.empty(0))))
        if not positions:
            raise DataError("clusterer state holds no position (no array 'mean.0')")
        return cls(tuple(positions))

    def _chunks(self, n: int) -> Iterator[slice]:
        rows = max(1, _CHUNK_VALUES // max(self.width, *self.sizes))
        return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def _check(vectors: np.ndarray, v: int | None, width: int | None) -> None:
    if vectors.ndim != 3 or 0 in vectors.shape or not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(f"dense tokens must be floats (items, positions, width), got {vectors.shape} {vectors.dtype}")
    if (v is not None and vectors.shape[1] != v) or (width is not None and vectors.shape[2] != width):
        raise DataError(f"dense tokens have shape {vectors.shape}, the clusterer expects (items, {v}, {width})")
    step = max(1, _CHUNK_VALUES // (vectors.shape[1] * vectors.shape[2]))
    for start in range(0, len(vectors), step):
        good = np.isfinite(vectors[start : start + step]).all(axis=(1, 2))
        if not good.all():
            row = start + int(np.argmin(good))
            raise DataError(f"item row {row}: its dense tokens hold a value that is not finite (NaN or infinity)")
