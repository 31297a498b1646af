"""Training and measuring the scorer of a finished run."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl

from storerec.bundle import MANIFEST
from storerec.data.judgement_splits import JudgementSplitConfig, split_judgements
from storerec.data.judgements import Judgements, JudgementSplit
from storerec.errors import TrainingError
from storerec.llm.progress import Progress
from storerec.pipeline.bundling import open_bundle, save_bundle
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.store import STORE
from storerec.recommender import Decoder
from storerec.recommender.scoring import ScorerConfig
from storerec.recommender.scoring_training import mean_auc, train_code_scorer
from storerec.storage import save_tensors, write_json
from storerec.systems.code_scorer import CodeScorerSystem, LikelihoodScorer
from storerec.systems.scorer import Scorer
from storerec.systems.scorer_baselines import ClickRateScorer, PopularityScorer

_FILE = "scorer.json"


def split_for(run: RunFolder, judgements: Judgements, config: JudgementSplitConfig | None = None) -> JudgementSplit:
    """Divide judgements by user so that they fit the run.

    A run whose split is by user gives its own parts: its test users' judgements are test. Under leave-one-out every
    user is in training; then users are drawn by ``config`` and the run's seed, and the recommender below the scorer
    has read the test users' items, though never their labels. The notes say so.
    """
    if run.split.protocol == "users":
        return split_judgements(judgements, JudgementSplitConfig(), run.options.seed, like=run.split)
    parts = split_judgements(judgements, config or JudgementSplitConfig(test_users=0.1), run.options.seed)
    said = "the recommender was trained leave-one-out: it has read items of test users, though no labels"
    return JudgementSplit(parts.train, parts.validation, parts.test, (*parts.notes, said))


def train_scorer(
    run: RunFolder, judgements: JudgementSplit, progress: Progress, config: ScorerConfig | None = None
) -> dict[str, Any]:
    """Train the yes/no scorer of a finished run, measure it, and write it into the folder and its bundle.

    Writes ``stages/scorer.safetensors`` and ``scorer.json``: the configuration, a fingerprint of the judgements and
    the mean AUC on the test groups with both kinds of candidates, beside popularity, click rate and the recommender's
    log-probability. An interrupted training goes on; a finished one returns its record at once.

    Raises
    ------
    TrainingError: the run is not finished, or has a scorer of another configuration or other judgements.
    DataError: there are no candidates of both kinds to train on.
    """
    if not run.has("tokenizer", "clusterer", "table", "recommender"):
        raise TrainingError(f"{run.path}: the run is not finished; run `storerec fit` with the same arguments again")
    config = config or ScorerConfig()
    _check_same_items(run)
    identity = {"config": config.model_dump(mode="json"), "judgements": fingerprint(judgements)}
    record = run.scorer_record()
    if record is not None:
        if {name: record.get(name) for name in identity} != identity:
            raise TrainingError(
                f"{run.path / _FILE}: of other settings or judgements; delete this file for a new scorer"
            )
    else:
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
        stage = f"scorer-{digest}"  # checkpoints of other settings must not be taken up
        model, _ = train_code_scorer(run.recommender, judgements, config, run.work(stage), run.options, progress)
        save_tensors(run.file("scorer"), model.state_dict())
        run.__dict__["scorer"] = model
        record = identity | {"notes": list(judgements.notes), "test": _measure(run, judgements)}
        save_bundle(run.path / "bundle", STORE.of_run(run))
        write_json(run.path / _FILE, record)  # last: it says that all else stands
        run.drop_checkpoints(stage)
    return record


def _check_same_items(run: RunFolder) -> None:
    """Raise :class:`TrainingError` where writing the run's bundle anew would lose items that were added to it."""
    if (run.path / "bundle" / MANIFEST).is_file():
        held = len(open_bundle(run.path)[1].tensors["table"]["codes"])
        if held != len(run.catalogue):
            raise TrainingError(
                f"{run.path / 'bundle'} holds {held} items and the run {len(run.catalogue)}: items were added to it; "
                "move it elsewhere, or fit anew with them"
            )


def _measure(run: RunFolder, judgements: JudgementSplit) -> dict[str, Any]:
    """Mean AUC of the scorer and of what it must beat, on the test groups where it is defined."""
    test, n = judgements.test.drop_one_sided(), len(run.catalogue)
    assert run.scorer is not None
    scorers: list[Scorer] = [
        CodeScorerSystem(run.scorer, run.options),
        LikelihoodScorer(Decoder.under(run.recommender, run.options), run.table),
        ClickRateScorer.fit(judgements.train, n),
        PopularityScorer.fit(run.split.train, n),
    ]
    auc = {s.name: mean_auc(test, s.score(test.candidates)) if len(test) else None for s in scorers}
    return {"groups": len(test), "candidates": len(test.labels), "auc": auc}


def fingerprint(judgements: JudgementSplit) -> str:
    """Hash of all parts: groups, histories, candidates and labels."""
    digest = hashlib.sha256()
    for part in (judgements.train, judgements.validation, judgements.test):
        histories = part.candidates.histories
        ids = pl.concat([histories.user_ids.cast(pl.String), part.user_ids.cast(pl.String).alias("user_id")])
        digest.update("\0".join(ids.to_list()).encode())
        for array in (histories.offsets, histories.items, part.candidates.offsets, part.candidates.items):
            digest.update(array.astype("<i8").tobytes())
        digest.update(np.packbits(part.labels).tobytes())
    return digest.hexdigest()
