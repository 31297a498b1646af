"""One cell of the scoring grid: a scorer with a seed, trained where it learns; its scores of test candidates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from storerec.comparison.bench import Bench
from storerec.comparison.config import ComparisonConfig
from storerec.comparison.judged import Judged
from storerec.comparison.scorers import SCORER_KINDS, scorer_stage
from storerec.comparison.work import ScoreTask
from storerec.data.histories import Histories
from storerec.data.splits import SplitConfig
from storerec.errors import DataError
from storerec.storage import save_arrays

_WHOLE = 1000
"""Items of a user that training reads at most where no split is configured: practically all."""


def scoring_config(config: ComparisonConfig, histories: Histories) -> ComparisonConfig:
    """The comparison's settings with the split by users that scoring needs.

    Under leave-one-out every user is in training, so the recommenders below the scorers would know the test users'
    candidates; they are trained anew on other users. A comparison split by users keeps its split, and with it the
    stages of its rankings.
    """
    own = config.scoring.split
    if own is None and config.store.split.protocol == "users":
        return config
    if own is None:
        own = SplitConfig(protocol="users", test_users=max(1, len(histories) // 10), max_items=_WHOLE)
    store = config.store.model_copy(update={"split": own})
    return config.model_copy(update={"store": store})


def score_cell(bench: Bench, task: ScoreTask, judged: Judged) -> dict[str, Any]:
    """Make the scores of a task and return its facts.

    Scores are made from the test candidates alone; their labels are in none of the files that are read here.
    """
    if judged.digest != task.judgements:
        raise DataError("the judgements in the folder are no longer those of this task; run `storerec compare` again")
    recipe = task.scorer
    weights = scorer_stage(bench, recipe, task.trial, judged)
    scores = _scores(bench, task, judged, weights)
    facts = bench.stages.facts(scores)
    codes = next((folder for folder in bench.used if folder.name.startswith("codes-")), None)
    return {
        "scores": scores.name,
        "score_seconds": facts["score_seconds"],
        "codes": codes.name if codes else None,
        "validation": bench.stages.facts(weights)["validation"] if weights else None,
        "notes": facts["notes"],
        "cost": bench.cost(),
    }


def _scores(bench: Bench, task: ScoreTask, judged: Judged, weights: Path | None) -> Path:
    """The stage that holds the scores (candidates,) of the test groups."""
    recipe, kind = task.scorer, SCORER_KINDS[task.scorer.kind]
    parts: dict[str, Any] = {"kind": recipe.kind, "judgements": judged.digest}
    parts |= kind.identity(bench, recipe, task.trial)
    if weights is not None:
        parts["weights"] = weights.name

    def make(folder: Path) -> dict[str, Any]:
        scorer = kind.scorer(bench, recipe, task.trial, weights)
        started = time.perf_counter()
        scores = scorer.score(judged.test)
        seconds = time.perf_counter() - started
        save_arrays(folder / "scores.safetensors", {"scores": np.asarray(scores)})
        report = getattr(scorer, "report", None)
        notes = [f"asked {report.requests} questions: {report}"] if report is not None else []
        return {"score_seconds": seconds, "notes": notes}

    return bench.ensure("scores", bench.identity(**parts), make)
