"""The stages of a run, in order: tokenize, cluster, train; each returns at once where its result stands."""

from __future__ import annotations

import numpy as np

from storerec.codes import Clusterer, CodeTable
from storerec.errors import TrainingError
from storerec.llm.inference import check_int8
from storerec.llm.progress import Progress
from storerec.pipeline.bundling import save_bundle
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.store import STORE
from storerec.recommender import train_recommender
from storerec.recommender.tasks import check_room
from storerec.storage import save_arrays, save_tensors, write_json
from storerec.tokenizer import drop_encoded, encode_items, train_tokenizer


def tokenize(run: RunFolder, progress: Progress) -> None:
    """Train the dense tokenizer on the catalogue's text and encode every item."""
    if run.options.int8:  # told now, not when the trained recommender first searches
        check_int8(run.backbone.base, run.options.fused)
    if not run.has("tokenizer"):
        positions = run.config.tokenizer.dense_tokens + (run.config.codes.policy == "extra")
        check_room(run.backbone, run.config.recommender, positions)  # told now, not after the tokenizer's training
        model, _ = train_tokenizer(
            run.catalogue, run.backbone, run.config.tokenizer, run.work("tokenizer"), run.options, progress
        )
        save_tensors(run.file("tokenizer"), model.state_dict())
        run.__dict__["tokenizer"] = model  # what the cached property would load
        run.drop_checkpoints("tokenizer")
    if not run.has("dense_tokens"):
        dense = encode_items(run.tokenizer, run.catalogue, run.options, progress, folder=run.work("tokenizer"))
        save_arrays(run.file("dense_tokens"), {"dense_tokens": dense})
        drop_encoded(run.work("tokenizer"))


def cluster(run: RunFolder, progress: Progress) -> None:
    """Cluster the dense tokens into codes and settle collisions."""
    _need(run, "dense_tokens", "tokenize")
    if run.has("clusterer", "table"):
        return
    progress.say(f"  clustering {len(run.catalogue):,} items")
    dense = run.arrays("dense_tokens")["dense_tokens"]
    clusterer = Clusterer.fit(dense, run.config.clusterer, run.options.seed)
    settings = run.config.codes
    table = CodeTable.build(
        clusterer.assign(dense),
        clusterer.sizes,
        policy=settings.policy,
        distances=clusterer.distances(dense) if settings.policy == "reassign" else None,
        counts=run.split.train.item_counts(len(run.catalogue)),
        smoothing=settings.smoothing,
    )
    save_arrays(run.file("clusterer"), clusterer.arrays())
    save_arrays(run.file("table"), table.arrays())
    write_json(run.path / "codes.json", table.report().to_json())


def train(run: RunFolder, progress: Progress) -> None:
    """Train the recommender on the training part of the split, then write the bundle."""
    _need(run, "table", "cluster")
    if not run.has("recommender"):
        model, _ = train_recommender(
            run.catalogue,
            run.split,
            run.table,
            _cluster_means(run),
            run.tokenizer.backbone,  # with the tokenizer's adapter: the recommender starts from its weights
            run.config.recommender,
            run.work("recommender"),
            run.options,
            progress,
            search=run.config.search,
        )
        save_tensors(run.file("recommender"), model.state_dict())
        run.__dict__["recommender"] = model
        run.drop_checkpoints("recommender")
        for finished in run.work("recommender").rglob("finished.safetensors"):
            finished.unlink()
    if not (run.path / "bundle" / "manifest.json").is_file():
        save_bundle(run.path / "bundle", STORE.of_run(run))


def _cluster_means(run: RunFolder) -> list[np.ndarray]:
    """Mean dense token of each code, by the codes items really have (``reassign`` moves some)."""
    dense = run.arrays("dense_tokens")["dense_tokens"]
    return run.clusterer.cluster_means(dense, run.table.codes[:, : dense.shape[1]])


def _need(run: RunFolder, result: str, verb: str) -> None:
    if not run.has(result):
        raise TrainingError(f"{run.path}: {result.replace('_', ' ')} missing; run `storerec {verb} {run.path}` first")


def fit(run: RunFolder, progress: Progress) -> STORE:
    """All stages."""
    tokenize(run, progress)
    cluster(run, progress)
    train(run, progress)
    return STORE.of_run(run)
