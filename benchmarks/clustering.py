"""Clustering of dense tokens against scikit-learn's full k-means++ run.

    python -m benchmarks.clustering --out runs/bench

500,000 items, four positions, 32 dimensions, 256 codes. Vectors are drawn from 2,000 groups of unequal size whose
spread falls with the dimension, as principal components' does. Ours includes the PCA, the fit of all positions and the
assignment of all items. The other is ``KMeans(n_init=1)`` on all rows of each of two positions, and its time
theirs times two. Inertia is the sum over the two: of one alone it differs by half a percent from seed to seed, in both
ways.
The bound counts one pass of Lloyd's algorithm over the rows that are fitted, per position.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.cluster import KMeans

from benchmarks.harness import arguments, matmul_rate, row, write
from storerec.codes import Clusterer, ClustererConfig

CODES, DIMS, POSITIONS, GROUPS, COMPARED = 256, 32, 4, 2_000, 2


def vectors(items: int) -> np.ndarray:
    """(items, positions, dims) float32."""
    rng = np.random.default_rng(0)
    spread = 1 / np.sqrt(1 + np.arange(DIMS))
    share = rng.dirichlet(np.full(GROUPS, 0.5))
    drawn = np.empty((items, POSITIONS, DIMS), np.float32)
    for position in range(POSITIONS):
        middles = rng.standard_normal((GROUPS, DIMS)) * spread
        drawn[:, position] = (
            middles[rng.choice(GROUPS, items, p=share)] + rng.standard_normal((items, DIMS)) * spread / 2
        )
    return drawn


def inertia(clusterer: Clusterer, some: np.ndarray) -> float:
    """Sum of squared distances to the nearest centre, over the compared positions."""
    return sum(
        float(clusterer.distances(some[start : start + 10_000])[:, :COMPARED].min(axis=2).astype(np.float64).sum())
        for start in range(0, len(some), 10_000)
    )


def main() -> None:
    """Measure."""
    given = arguments(__doc__, items=(500_000, "rows"))
    drawn = vectors(given.items)
    started = time.perf_counter()
    clusterer = Clusterer.fit(drawn, ClustererConfig(), seed=0)
    clusterer.assign(drawn)
    ours = time.perf_counter() - started
    other, least, passes_other = 0.0, 0.0, []
    for position in range(COMPARED):
        whole = KMeans(CODES, n_init=1, random_state=0)
        started = time.perf_counter()
        whole.fit(drawn[:, position].astype(np.float64))
        other += (time.perf_counter() - started) * POSITIONS / COMPARED
        least += float(whole.inertia_)
        passes_other.append(int(whole.n_iter_))
    more = inertia(clusterer, drawn) / least - 1
    rows = min(given.items, ClustererConfig().sample)
    passes = POSITIONS * 2 * (rows + given.items) * CODES * DIMS / matmul_rate(4096, DIMS, CODES)
    line = row(
        f"clustering {given.items:,} x {DIMS} into {CODES}, {POSITIONS} positions", ours, other, bound=other / passes,
        counted="one pass over the fitted rows and one assignment of all, at the measured rate of that product",
        goal=other / 20, same=f"inertia {100 * more:+.2f}% (goal: at most +0.50%)", inertia=more,
        goal_seconds=20.0, iterations_other=passes_other,
    )  # fmt: skip
    write("clustering", given, [line])


if __name__ == "__main__":
    main()
