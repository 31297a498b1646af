"""Dense tokens to codes: PCA and k-means, separately for each token position (docs/method.md, section 2)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from storerec.codes.clusterer_config import ClustererConfig
from storerec.codes.drawn import ArrayVectors, Drawn, Vectors, check_vectors
from storerec.codes.position import Floats, Position
from storerec.codes.sums import ChunkSums, ClusterSums
from storerec.config import usable_cores
from storerec.errors import DataError, StorerecWarning

__all__ = ["Clusterer", "ClustererConfig"]

_CHUNK_VALUES = 1 << 23
"""Float64 values of one working array (64 MiB); bounds memory whatever the number of items."""

_OWN_CENTRE = 1e-6
"""Median squared distance to the nearest centre, in parts of the centres' variance, below which items are centres."""


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
    def fit(cls, vectors: np.ndarray | Vectors, config: ClustererConfig, seed: int) -> Self:
        """Fit PCA and k-means per position (scikit-learn's ``PCA`` and ``KMeans``).

        Parameters
        ----------
        vectors
            (n, v, D) real, the token block's outputs of all items, n >= 1; or what gives some rows of one position
            at a time. Of those only the rows of :class:`~storerec.codes.drawn.Drawn` are asked for, and a position's
            are in memory while it is fitted.
        config
            sizes and effort.
        seed
            decides the sample and the starts; same input and seed give the same centres.

        Raises
        ------
        DataError: wrong shape, or a value that is not finite (names the first item row of those looked at: all of an
            array's, the drawn ones of what else).

        Warns
        -----
        StorerecWarning: a position has fewer distinct vectors than ``config.clusters``; it gets fewer codes.
        """
        # scikit-learn with scipy takes over a second to load, and what is fitted already does without; it must be there
        # before threads are limited, which reaches loaded libraries only
        from sklearn.exceptions import ConvergenceWarning

        from storerec.codes.fitting import fit_position

        source = vectors
        if isinstance(vectors, np.ndarray):
            check_vectors(vectors, None, None)
            source = ArrayVectors(vectors)
        items, positions = source.shape[:2]
        drawn = Drawn.of(items, positions, config, seed)
        # One thread each: with more, scikit-learn adds partial sums in the order threads finish, which is no fixed
        # order. Positions are independent, so that each may have a thread of its own.
        with threadpool_limits(limits=1), warnings.catch_warnings(), ThreadPoolExecutor(usable_cores()) as pool:
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = list(pool.map(lambda position: fit_position(source, position, drawn, config), range(positions)))
        for position, one in enumerate(fitted):
            if len(one.centres) < config.clusters:
                warnings.warn(
                    f"position {position}: {config.clusters} codes asked for, but its {items} vectors fill only "
                    f"{len(one.centres)}; this position gets {len(one.centres)} codes",
                    StorerecWarning,
                    stacklevel=2,
                )
        return cls(tuple(fitted))

    def assign(self, vectors: np.ndarray, *, first: int = 0) -> NDArray[np.int32]:
        """Nearest code of every position.

        Takes vectors (n, v, D), gives codes (n, v) int32; works in chunks of bounded memory. Ties go to the
        smaller code. Raises :class:`DataError` for another shape or values that are not finite; it names their row,
        counted from ``first``.
        """
        return self.nearest(vectors, first=first)[0]

    def nearest(self, vectors: np.ndarray, *, first: int = 0) -> tuple[NDArray[np.int32], Floats]:
        """As :meth:`assign`, and the squared distances in PCA space to those codes' centres, (n, v)."""
        check_vectors(vectors, len(self._positions), self.width, first=first)
        codes, least = np.empty(vectors.shape[:2], dtype=np.int32), np.empty(vectors.shape[:2])

        def of_position(position: int) -> None:
            found = self._positions[position].nearest_of(vectors[:, position])
            codes[:, position], least[:, position] = found

        with threadpool_limits(limits=1), ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(of_position, range(len(self._positions))))
        return codes, least

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
        return self.nearest(vectors)[1]

    def distances(self, vectors: np.ndarray) -> NDArray[np.float32]:
        """Squared distances in PCA space to all centres.

        Takes vectors (n, v, D), gives (n, v, k) float32 with k the largest of ``sizes``; a position with
        fewer codes is filled up with infinity. Raises like :meth:`assign`.
        """
        check_vectors(vectors, len(self._positions), self.width)
        out = np.full((*vectors.shape[:2], max(self.sizes)), np.inf, dtype=np.float32)
        for part in self._chunks(len(vectors)):
            for position, fitted in enumerate(self._positions):
                out[part, position, : len(fitted.centres)] = fitted.distances(vectors[part, position])
        return out

    def cluster_means(self, vectors: np.ndarray, codes: np.ndarray) -> list[NDArray[np.float32]]:
        """Mean raw vector of each code, for starting code embeddings (docs/method.md, section 3).

        Takes vectors (n, v, D) and their codes (n, v); gives per position a (k_i, D) float32 array. A code
        that no item has gets its centre mapped back from PCA space. Raises :class:`DataError` for wrong
        shapes or codes. Of vectors that come in chunks, :class:`~storerec.codes.sums.ClusterSums` makes the same.
        """
        check_vectors(vectors, len(self._positions), self.width)
        if codes.shape != vectors.shape[:2]:
            raise DataError(f"codes have shape {codes.shape}, expected {vectors.shape[:2]}")
        sums = ClusterSums(self.sizes, self.width)
        for part in self._chunks(len(vectors)):
            sums.add(ChunkSums.of(vectors[part], codes[part], self.sizes))
        return sums.means(self.back())

    def back(self) -> list[Floats]:
        """Centres as raw vectors: per position (k_i, D), mapped back from PCA space."""
        return [position.back() for position in self._positions]

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
