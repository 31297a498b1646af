"""The run's dense tokens as codes: clusters fitted on a sample, all items assigned chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storerec.codes import Clusterer, CodeTable
from storerec.codes.drawn import Drawn
from storerec.codes.moments import Moments
from storerec.codes.sampling_error import SamplingError
from storerec.codes.sums import ChunkSums, ClusterSums
from storerec.llm import processes
from storerec.llm.progress import Progress
from storerec.pipeline.engine import Engine
from storerec.pipeline.folder import RunFolder
from storerec.storage import save_arrays, scratch, write_json


@dataclass(frozen=True, eq=False)
class Assigned:
    """What one chunk of items got.

    Attributes
    ----------
    codes: (m, v) int32, the nearest of each position.
    sums: of the vectors by code.
    every, fitted: of the squared distances to those codes' centres, all and those of items the centres were fitted on.
    """

    codes: NDArray[np.int32]
    sums: ChunkSums
    every: Moments
    fitted: Moments


@dataclass(frozen=True)
class AssignChunks:
    """Assigns chunks of a run's items, by number, to the nearest clusters."""

    run: RunFolder

    def open(self) -> Callable[[int], Assigned]:
        """Read the clusters."""
        clusterer, dense, drawn = self.run.clusterer, self.run.dense, drawn_of(self.run)

        def assign(number: int) -> Assigned:
            vectors, first = dense.read(number), dense.part(number).start
            codes, distances = clusterer.nearest(vectors, first=first)
            fitted = distances[drawn.is_last(first, len(vectors))]
            sums = ChunkSums.of(vectors, codes, clusterer.sizes)
            return Assigned(codes, sums, Moments.of(distances), Moments.of(fitted))

        return assign


def cluster_run(run: RunFolder, progress: Progress, engine: Engine) -> None:
    """Fit the clusters, assign all items and settle collisions; writes clusters, table, means and what is said of them.

    ``clustering.json`` states what fitting on a sample costs, ``codes.json`` how the codes are used.
    """
    dense, seed = run.dense, run.options.seed
    if processes.is_first() and not run.has("clusterer"):
        progress.say(f"  clustering {len(dense):,} items")
        save_arrays(run.file("clusterer"), Clusterer.fit(dense, run.config.clusterer, seed).arrays())
    processes.barrier()
    codes = np.empty(dense.shape[:2], np.int32)
    sums = ClusterSums(run.clusterer.sizes, dense.shape[2])
    every = fitted = Moments.of(np.empty((0, dense.shape[1])))
    bar = progress.start("assigning items", len(dense), unit="item")
    for number, found in enumerate(engine.over(AssignChunks(run), range(dense.chunks))):
        codes[dense.part(number)] = found.codes
        sums.add(found.sums)
        every, fitted = every.joined(found.every), fitted.joined(found.fitted)
        progress.advance(bar, len(found.codes))
    progress.finish(bar)
    if processes.is_first():
        error = SamplingError.of(every, fitted, len(drawn_of(run).rows))
        write_json(run.path / "clustering.json", error.to_json())
        _write(run, codes, sums)
    processes.barrier()


def drawn_of(run: RunFolder) -> Drawn:
    """The items that the run's clusters are fitted on; they follow from its size, settings and seed."""
    dense = run.dense
    return Drawn.of(len(dense), dense.shape[1], run.config.clusterer, run.options.seed)


def _write(run: RunFolder, codes: NDArray[np.int32], sums: ClusterSums) -> None:
    settings, clusterer = run.config.codes, run.clusterer
    reassigned = settings.policy == "reassign"
    with scratch(run.work("table")) as own:
        table = CodeTable.build(
            codes,
            clusterer.sizes,
            policy=settings.policy,
            distances=clusterer.distances(run.dense.whole()) if reassigned else None,
            counts=run.split.train.item_counts(len(codes)),
            smoothing=settings.smoothing,
            folder=own,
        )
    means = _means(run, table) if reassigned else sums.means(clusterer.back())
    save_arrays(run.file("means"), {f"means.{position}": one for position, one in enumerate(means)})
    write_json(run.path / "codes.json", table.report().to_json())
    save_arrays(run.file("table"), table.arrays(derived=True))  # the last: with it the stage is done


def cluster_means(run: RunFolder) -> list[NDArray[np.float32]]:
    """Mean dense token of each code, by the codes items really have (``reassign`` moves some): by position (k_i, D)."""
    if run.has("means"):
        arrays = run.arrays("means")
        return [arrays[f"means.{position}"] for position in range(len(arrays))]
    return _means(run, run.table)  # a run folder of a version that did not keep them


def _means(run: RunFolder, table: CodeTable) -> list[NDArray[np.float32]]:
    dense, clusterer = run.dense, run.clusterer
    sums = ClusterSums(clusterer.sizes, dense.shape[2])
    for number in range(dense.chunks):
        sums.add(ChunkSums.of(dense.read(number), table.codes[dense.part(number)], clusterer.sizes))
    return sums.means(clusterer.back())
