"""Fitting and assigning clusters: ours, which is scikit-learn's k-means on a sample, against faiss's.

    pip install -c constraints.txt faiss-cpu==1.15.1
    python -m benchmarks.faiss_clustering --out runs/bench

One position of 32 dimensions, one thread each, as positions are fitted at the same time. Vectors are drawn as in
benchmarks/clustering.py, from five groups for each code. Ours is ``Clusterer.fit`` (a sample of 100,000, refined on up
to 500,000); the other ``faiss.Kmeans`` with its 25 iterations over all rows. Inertia is the mean squared distance of
all rows to the nearest centre, in float64. Assignment is of vectors of 576 dimensions, the projection to 32 included:
ours in float64; faiss's ``IndexFlatL2`` in float32; and the same with the projection in float64 and with near ties,
which float32 cannot tell apart for sure, decided by ours, so that codes do not depend on rounding ("checked"). Seconds
are the processor's, so that other programs count little.

faiss is no part of storerec; without it this ends with a line that says so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import arguments, row, write
from storerec.codes import Clusterer, ClustererConfig

try:
    import faiss
except ImportError:
    raise SystemExit("faiss is not installed: pip install -c constraints.txt faiss-cpu==1.15.1") from None

DIMS, WIDTH, ITERATIONS, LEAST, PART = 32, 576, 25, 1.5, 1024


def vectors(rows: int, codes: int, width: int) -> np.ndarray:
    """(rows, 1, width) float32."""
    rng = np.random.default_rng(0)
    spread = 1 / np.sqrt(1 + np.arange(width))
    groups = 5 * codes
    middles = rng.standard_normal((groups, width)) * spread
    share = rng.dirichlet(np.full(groups, 0.5))
    drawn = np.empty((rows, 1, width), np.float32)
    for start in range(0, rows, 10_000):
        part = drawn[start : start + 10_000, 0]
        part[:] = middles[rng.choice(groups, len(part), p=share)]
        part += rng.standard_normal(part.shape) * spread / 2
    return drawn


def inertia(centres: np.ndarray, whole: np.ndarray) -> float:
    """Mean squared distance of all rows to the nearest of ``centres`` (k, width)."""
    identity = {"mean.0": np.zeros(whole.shape[2]), "components.0": np.eye(whole.shape[2])}
    return float(Clusterer.from_arrays({**identity, "centres.0": centres}).nearest_distances(whole).mean())


def timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and the result."""
    started = time.process_time()
    found = way()
    return time.process_time() - started, found


def fit(rows: int, codes: int) -> dict[str, Any]:
    """One line: fitting ``codes`` clusters of ``rows`` rows."""
    whole = vectors(rows, codes, DIMS)
    other = faiss.Kmeans(DIMS, codes, niter=ITERATIONS, seed=1, max_points_per_centroid=rows)
    ours_seconds, ours = timed(lambda: Clusterer.fit(whole, ClustererConfig(clusters=codes), 0))
    other_seconds, _ = timed(lambda: other.train(whole[:, 0]))
    least = inertia(np.asarray(other.centroids, np.float64), whole)
    more = inertia(ours.back()[0], whole) / least - 1
    return row(
        f"fit of {codes:,} codes on {rows:,} x {DIMS}", ours_seconds, other_seconds, bound=1.0,
        counted="the same rows", goal=1 / LEAST, same=f"our inertia {100 * more:+.2f}% of faiss's", inertia=more,
    )  # fmt: skip


def nearest(index: faiss.IndexFlatL2, vectors: np.ndarray, clusterer: Clusterer) -> np.ndarray:
    """Codes (m,) by faiss of vectors (m, 1, width), those that float32 leaves open by ours."""
    arrays, centres = clusterer.arrays(), clusterer.centres[0]
    low = (vectors[:, 0].astype(np.float64) - arrays["mean.0"]) @ arrays["components.0"].T
    found, codes = index.search(low.astype(np.float32), 2)
    # a sum of n float32 products is off by at most n units of rounding of the sum of their sizes; twice, of two
    sizes = (np.sqrt((low**2).sum(axis=1)) + np.sqrt((centres**2).sum(axis=1).max())) ** 2
    near = found[:, 1] - found[:, 0] <= 4 * (DIMS + 6) * 2.0**-24 * sizes
    if near.any():
        codes[near, 0] = clusterer.assign(vectors[near])[:, 0]
    return codes[:, 0]


def assign(rows: int, codes: int, rounds: int) -> dict[str, Any]:
    """One line: assigning ``rows`` rows to ``codes`` clusters."""
    whole = vectors(rows, codes, WIDTH)
    rng = np.random.default_rng(1)
    components, mean = np.linalg.qr(rng.standard_normal((WIDTH, DIMS)))[0].T, whole[:, 0].mean(axis=0, dtype=np.float64)
    centres = (whole[rng.choice(rows, codes, replace=False), 0] - mean) @ components.T
    clusterer = Clusterer.from_arrays({"mean.0": mean, "components.0": components, "centres.0": centres})
    index, single = faiss.IndexFlatL2(DIMS), (mean.astype(np.float32), components.astype(np.float32))
    index.add(centres.astype(np.float32))

    def theirs() -> np.ndarray:
        return index.search((whole[:, 0] - single[0]) @ single[1].T, 1)[1][:, 0]

    def checked() -> np.ndarray:
        parts = [whole[start : start + PART] for start in range(0, rows, PART)]
        return np.concatenate([nearest(index, part, clusterer) for part in parts])

    ways: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: clusterer.assign(whole)[:, 0], "faiss": theirs, "faiss, checked": checked,
    }  # fmt: skip
    differ = int((ways["ours"]() != ways["faiss"]()).sum())
    spent = [{name: timed(way)[0] for name, way in ways.items()} for _ in range(rounds)]
    seconds = {name: statistics.median(one[name] for one in spent) for name in ways}
    return row(
        f"assignment of {rows:,} x {WIDTH} to {codes:,} codes", seconds["ours"], seconds["faiss"], bound=1.0,
        counted="the same rows", goal=1 / LEAST, same=f"{differ} of {rows:,} codes differ", differ=differ,
        microseconds={name: 1e6 * each / rows for name, each in seconds.items()},
    )  # fmt: skip


def main() -> None:
    """Measure."""
    given = arguments(__doc__, largest=(500_000, "rows of the larger fits"))
    faiss.omp_set_num_threads(1)
    with threadpool_limits(limits=1):
        lines = [fit(rows, codes) for codes in (256, 4096) for rows in (100_000, given.largest)]
        lines += [assign(20_000, codes, given.rounds) for codes in (256, 4096)]
    write("faiss_clustering", given, lines, faiss=faiss.__version__)


if __name__ == "__main__":
    main()
