"""Fitting a :class:`~storerec.codes.Clusterer`: PCA and k-means of one position by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.decomposition import PCA

from storerec.codes.clusterer_config import ClustererConfig
from storerec.codes.drawn import Drawn, Vectors, check_finite
from storerec.codes.fit_report import quantiles
from storerec.codes.position import Floats, Position

_FEW_ROWS = 100
"""Rows per cluster up to which every start runs to its end, on all of them."""

_ROWS_TO_START = 50
"""Rows per cluster that the starts of more rows are drawn from; they are compared on twice as many. What a start costs
is its drawing, and drawn from twice as many they end no better (benchmarks/clustering.py, two seeds)."""

_ITERATIONS_TO_START = 10
"""Lloyd iterations after which they are."""

_ITERATIONS_BETWEEN = 40
"""Lloyd iterations on the sample at most, where refinement on more rows follows: 40 take under half the time of 100,
and the inertia after refinement is .1% above theirs (500,000 rows of benchmarks/clustering.py; seeds differ by .2%)."""

_ITERATIONS_TO_REFINE = 5
"""Lloyd iterations over more rows than the sample: centres of a sample of 100,000 have an inertia over half a percent
above those of 500,000 rows."""

_CHUNK_ROWS = 1 << 14
"""Rows projected at a time."""


def fit_position(vectors: Vectors, position: int, drawn: Drawn, config: ClustererConfig) -> Position:
    """PCA and k-means of one position's vectors, on the rows drawn, then refined on more of them.

    Raises DataError for a value among them that is not finite.
    """
    seed = drawn.seeds[position]

    def gather(rows: np.ndarray) -> np.ndarray:
        found = vectors.take(rows, position)
        check_finite(found, rows)
        return found

    x = gather(drawn.rows)
    x = x.astype(np.float32 if x.dtype == np.float16 else x.dtype, copy=False)
    dims = max(1, min(config.dims, len(x) - 1, x.shape[1]))
    if len(x) == 1:
        mean, components = x[0].astype(np.float64), np.eye(1, x.shape[1])
    else:
        with np.errstate(invalid="ignore", divide="ignore"):  # equal vectors: the variance ratio is 0/0, unused
            pca = PCA(n_components=dims, random_state=seed).fit(x)
        mean, components = pca.mean_.astype(np.float64), pca.components_.astype(np.float64)
    low = (x - mean) @ components.T  # float64 by the mean's type
    clusters = _distinct(x, config.clusters)
    iterations = config.max_iter if drawn.more is None else min(config.max_iter, _ITERATIONS_BETWEEN)
    fitted = Position(mean, components, _centres(low, clusters, config, seed, iterations))
    if drawn.more is not None:
        fitted = _refined(fitted, gather, drawn.more)
    found, distances = fitted.nearest_of(x)
    return Position(mean, components, np.ascontiguousarray(fitted.centres[np.unique(found)]), quantiles(distances))


def _centres(low: Floats, clusters: int, config: ClustererConfig, seed: int, iterations: int) -> Floats:
    """k-means of one position's vectors (n, d): the best of ``n_init`` starts, ``iterations`` at most.

    Of many rows, starts are compared by a few iterations on a part of them, and the best one goes on with all, in
    float32 (benchmarks/clustering.py). Single ones of few rows cost little and run to their end.
    """
    if len(low) <= clusters * _FEW_ROWS:
        fitted = KMeans(clusters, n_init=config.n_init, max_iter=iterations, random_state=seed).fit(low)
        return fitted.cluster_centers_
    low = low.astype(np.float32)
    part = low[np.random.default_rng(seed).choice(len(low), clusters * _FEW_ROWS, replace=False)]
    # float64 for the drawing alone: scikit-learn converts float32 at every distance, which takes three times as long
    some = part[: clusters * _ROWS_TO_START].astype(np.float64)
    drawn = [
        kmeans_plusplus(some, clusters, random_state=seed + start)[0].astype(np.float32)
        for start in range(config.n_init)
    ]
    tries = min(config.max_iter, _ITERATIONS_TO_START)
    begun = [KMeans(clusters, init=start, n_init=1, max_iter=tries).fit(part) for start in drawn]
    best = min(begun, key=lambda fitted: fitted.inertia_)
    fitted = KMeans(clusters, init=best.cluster_centers_, n_init=1, max_iter=iterations).fit(low)
    return fitted.cluster_centers_.astype(np.float64)


def _refined(fitted: Position, gather: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> Position:
    """The position's centres after a few iterations over more rows than it was fitted on."""
    low = np.empty((len(rows), fitted.components.shape[0]), np.float32)
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = gather(rows[start : start + _CHUNK_ROWS]).astype(np.float64)
        low[start : start + len(part)] = (part - fitted.mean) @ fitted.components.T
    start_at = fitted.centres.astype(np.float32)
    more = KMeans(len(start_at), init=start_at, n_init=1, max_iter=_ITERATIONS_TO_REFINE).fit(low)
    return Position(fitted.mean, fitted.components, more.cluster_centers_.astype(np.float64))


def _distinct(x: np.ndarray, enough: int) -> int:
    """Number of distinct rows of x, counted no further than ``enough``."""
    # An exact integer hash of the bits: comparing after a matrix product would tell equal rows apart by
    # rounding.
    bits = np.random.default_rng(0).integers(1, 2**63, size=x.shape[1], dtype=np.uint64) | np.uint64(1)
    seen: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
    step = max(enough, 1024)
    for start in range(0, len(x), step):
        # + 0.0 turns -0.0 into 0.0, which is the same value with other bits
        words = np.ascontiguousarray(x[start : start + step].astype(np.float64) + 0.0).view(np.uint64)
        mixed = words ^ (words >> np.uint64(29))
        seen = np.union1d(seen, (mixed * bits).sum(axis=1, dtype=np.uint64))
        if len(seen) >= enough:
            return enough
    return len(seen)
