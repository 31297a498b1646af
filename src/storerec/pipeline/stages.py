"""The stages of a run, in order: tokenize, cluster, train; each returns at once where its result stands."""

from __future__ import annotations

from storerec.errors import TrainingError
from storerec.llm import processes
from storerec.llm.inference import check_int8
from storerec.llm.progress import Progress
from storerec.pipeline.bundling import save_bundle
from storerec.pipeline.clustering import cluster_run
from storerec.pipeline.encoding import encode
from storerec.pipeline.engine import Engine, LocalEngine
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.store import STORE
from storerec.pipeline.training import TrainRecommender, TrainTokenizer
from storerec.recommender.tasks import check_room


def tokenize(run: RunFolder, progress: Progress, engine: Engine | None = None) -> None:
    """Train the dense tokenizer on the catalogue's text and encode every item."""
    engine = engine or LocalEngine()
    if run.options.int8:  # told now, not when the trained recommender first searches
        check_int8(run.backbone.base, run.options.fused)
    if not _done(run, "tokenizer"):
        positions = run.config.tokenizer.dense_tokens + (run.config.codes.policy == "extra")
        check_room(run.backbone, run.config.recommender, positions)  # told now, not after the tokenizer's training
        engine.train(TrainTokenizer(run), progress)
        if processes.is_first():
            run.drop_checkpoints("tokenizer")
    if not _done(run, "dense_tokens"):
        encode(run, progress, engine)


def cluster(run: RunFolder, progress: Progress, engine: Engine | None = None) -> None:
    """Cluster the dense tokens into codes and settle collisions."""
    _need(run, "dense_tokens", "tokenize")
    if not _done(run, "clusterer", "table"):
        cluster_run(run, progress, engine or LocalEngine())


def train(run: RunFolder, progress: Progress, engine: Engine | None = None) -> None:
    """Train the recommender on the training part of the split, then write the bundle."""
    _need(run, "table", "cluster")
    if not _done(run, "recommender"):
        (engine or LocalEngine()).train(TrainRecommender(run), progress)
        if processes.is_first():
            run.drop_checkpoints("recommender")
            for finished in run.work("recommender").rglob("finished.safetensors"):
                finished.unlink()
    if processes.is_first() and not (run.path / "bundle" / "manifest.json").is_file():
        save_bundle(run.path / "bundle", STORE.of_run(run))
    processes.barrier()


def fit(run: RunFolder, progress: Progress, engine: Engine | None = None) -> STORE:
    """All stages."""
    tokenize(run, progress, engine)
    cluster(run, progress, engine)
    train(run, progress, engine)
    return STORE.of_run(run)


def _done(run: RunFolder, *results: str) -> bool:
    """Whether results stand, as all processes that compute together see it before any of them goes on."""
    return processes.by_first(lambda: run.has(*results))


def _need(run: RunFolder, result: str, verb: str) -> None:
    if not _done(run, result):
        raise TrainingError(f"{run.path}: {result.replace('_', ' ')} missing; run `storerec {verb} {run.path}` first")
