"""One cell of the grid, a system with a seed, computed in a process of its own: a crash there stops nothing else."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from storerec.comparison.bench import Bench, settings_of
from storerec.comparison.config import ComparisonConfig
from storerec.comparison.judged import Judged
from storerec.comparison.models import take_up, train_stage
from storerec.comparison.score_cell import score_cell, scoring_config
from storerec.comparison.stages import Stages
from storerec.comparison.trial import Trial
from storerec.comparison.work import ScoreTask, Task, Work
from storerec.errors import StorerecError
from storerec.llm.progress import Progress
from storerec.storage import save_arrays, write_json
from storerec.systems.base import Exclusions
from storerec.systems.recipe import Recipe


def run_cell(work: Work, task: Task, progress: Progress) -> dict[str, Any]:
    """Make what ``task`` asks for and return its facts: a trial's validation, test users' lists, or scores.

    Lists are made from the users' input histories alone, scores from candidates; targets and labels are not passed to
    any system.
    """
    if isinstance(task, ScoreTask):
        bench = _bench(work, scoring_config(work.config, work.histories), task.seed, progress)
        return score_cell(bench, task, Judged.open(work.judged))
    bench = _bench(work, work.config, task.seed, progress)
    recipe = task.recipe
    if task.what == "trial":
        folder = train_stage(bench, recipe, task.trial)
        return {"validation": bench.stages.facts(folder)["validation"], "cost": bench.cost()}
    lists = _lists(bench, recipe, task.trial)
    facts = bench.stages.facts(lists)
    bench.used.remove(lists)
    model = next((folder for folder in bench.used if folder.name.startswith("model-")), None)
    codes = next((folder for folder in bench.used if folder.name.startswith("codes-")), None)
    return {
        "lists": lists.name,
        "recommend_seconds": facts["recommend_seconds"],
        "codes": codes.name if codes and recipe.coder != "unique" else None,
        "code_report": bench.stages.facts(codes).get("codes") if codes and recipe.coder != "unique" else None,
        "validation": bench.stages.facts(model)["validation"] if model else None,
        "cost": bench.cost(),
    }


def _bench(work: Work, config: ComparisonConfig, seed: int, progress: Progress) -> Bench:
    stages = Stages(work.folder / "stages")
    return Bench(stages, work.catalogue, work.histories, config, work.options(seed), progress, work.data)


def _lists(bench: Bench, recipe: Recipe, trial: Trial) -> Path:
    """The stage that holds the test users' lists (users, k) as catalogue rows."""
    evaluation = bench.config.store.evaluation
    k, exclude = max(evaluation.ks), evaluation.exclude_history
    parts: dict[str, Any] = {"k": k, "exclude_history": exclude, "recipe": recipe.name}
    if recipe.trained:
        parts["model"] = train_stage(bench, recipe, trial).name
    if recipe.model in ("llm", "transformer"):
        parts["search"] = settings_of(recipe.search_config(bench.config.store.search))

    def make(folder: Path) -> dict[str, Any]:
        system = take_up(bench, recipe, trial)
        started = time.perf_counter()
        lists = system.recommend(bench.split.test.histories, k, exclude=Exclusions(history=exclude))
        seconds = time.perf_counter() - started
        save_arrays(folder / "lists.safetensors", {"items": lists.items, "scores": lists.scores})
        arrays = {"tuple_of": bench.table(recipe).tuple_of} if recipe.coder != "unique" else {}
        save_arrays(folder / "tuples.safetensors", arrays or {"none": np.zeros(1, np.int32)})
        return {"recommend_seconds": seconds}

    return bench.ensure("lists", bench.identity(**parts), make)


def compute(work: Work, task: Task) -> int:
    """Compute one task and write its facts, or its error in a line; return 0 or 1."""
    started = time.monotonic()
    try:
        with Progress(enabled=False) as progress:
            facts = run_cell(work, task, progress)
    except StorerecError as error:
        write_json(work.result(task), {"error": " ".join(str(error).split())})
        return 1
    except Exception as error:  # a fault in one system must not end the others; the log has the whole of it
        traceback.print_exc()
        write_json(work.result(task), {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        return 1
    more = {"wall_seconds": time.monotonic() - started, "settings": work.digest(task)}
    write_json(work.result(task), json.loads(json.dumps(facts)) | more)
    return 0


def _end_with_parent(parent: int) -> None:
    """End this process when the comparison that started it is gone, however it ended: its cores are not ours then."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Serve ``python -m storerec.comparison.cell FOLDER TASK``."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    work = Work.open(Path(arguments[0]))
    return compute(work, work.task(arguments[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
