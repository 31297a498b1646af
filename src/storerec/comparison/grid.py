"""The grid: which tasks there are, and running them, a process each, some at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storerec.comparison.cell import compute
from storerec.comparison.trial import Trial
from storerec.comparison.work import CellTask, Task, Work
from storerec.systems.recipe import Recipe

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its facts, or the one-line reason why there are none."""

    task: Task
    facts: dict[str, Any] | None
    error: str | None


def failed_cells(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """The reason for each cell without a result."""
    return {f"{o.task.system}, seed {o.task.seed}": o.error for o in outcomes if o.error}


def run_tasks(work: Work, tasks: Sequence[Task], jobs: int, say: Callable[[str], None]) -> dict[str, Outcome]:
    """Run tasks, at most ``jobs`` at once; a failed one is told and does not stop the others.

    Every task runs in a process of its own (with ``jobs`` 0 in this one: quicker for small data, but a crash there ends
    the whole comparison). One that an earlier call finished under the same settings is taken as it
    stands; under other settings its process finds those stages that are still good.
    """
    running: dict[subprocess.Popen[bytes], tuple[Task, float]] = {}
    outcomes = {task.name: found for task in tasks if (found := _finished(work, task))}
    waiting = [task for task in tasks if task.name not in outcomes]
    if outcomes:
        say(f"  {len(outcomes)}/{len(tasks)} stand from an earlier call")
    while waiting and jobs == 0:
        task = waiting.pop(0)
        begin = time.monotonic()
        code = compute(work, task)
        outcomes[task.name] = _outcome(work, task, code)
        _tell(say, outcomes[task.name], f"{len(outcomes)}/{len(tasks)}", begin)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                running[_start(work, task)] = (task, time.monotonic())
            for process, (task, started) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[process]
                outcomes[task.name] = _outcome(work, task, process.returncode)
                _tell(say, outcomes[task.name], f"{len(outcomes)}/{len(tasks)}", started)
            time.sleep(_POLL_SECONDS)
    finally:  # Ctrl-C, or a fault of ours: leave no process behind
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return outcomes


def _tell(say: Callable[[str], None], outcome: Outcome, number: str, started: float) -> None:
    minutes = (time.monotonic() - started) / 60
    told = "done" if outcome.error is None else f"FAILED: {outcome.error}"
    say(f"  {number} {outcome.task.name}: {told} ({minutes:.1f} min)")


def _start(work: Work, task: Task) -> subprocess.Popen[bytes]:
    work.write_task(task)
    work.result(task).unlink(missing_ok=True)
    environment = dict(os.environ)
    if work.threads is not None:
        environment |= {"OMP_NUM_THREADS": str(work.threads), "MKL_NUM_THREADS": str(work.threads)}
    command = [sys.executable, "-m", "storerec.comparison.cell", str(work.folder), task.name]
    with work.log(task).open("ab") as log:
        # a session of its own would outlive Ctrl-C; in ours it gets the signal too
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def _outcome(work: Work, task: Task, code: int) -> Outcome:
    place = work.result(task)
    if not place.is_file():
        ended = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return Outcome(task, None, f"its process {ended}; see {_relative(work.log(task), work.folder)}")
    facts = json.loads(place.read_text(encoding="utf-8"))
    if "error" in facts:
        return Outcome(task, None, facts["error"])
    return Outcome(task, facts, None)


def _finished(work: Work, task: Task) -> Outcome | None:
    """The outcome of an earlier call, if it succeeded under the present settings."""
    if not work.result(task).is_file():
        return None
    outcome = _outcome(work, task, 0)
    return outcome if outcome.facts and outcome.facts.get("settings") == work.digest(task) else None


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def trials(recipes: Sequence[Recipe], seed: int, options: Sequence[Trial]) -> list[CellTask]:
    """Each trained system of the tables with each choice of settings, on one seed. Ablations take STORE's choice."""
    tuned = [recipe for recipe in recipes if recipe.trained and recipe.group != "ablation"]
    if len(options) < 2:
        return []
    return [CellTask(recipe=recipe, seed=seed, trial=trial, what="trial") for recipe in tuned for trial in options]


def default_trial(options: Sequence[Trial]) -> Trial:
    """That of a system without trials: the settings as they are, or the first where these are none of ``options``."""
    return Trial() if Trial() in options else options[0]


def best_trials(recipes: Sequence[Recipe], options: Sequence[Trial], outcomes: dict[str, Outcome]) -> dict[str, Trial]:
    """The best trial of each system by validation NDCG@10."""
    chosen = {}
    for recipe in recipes:
        found = {
            outcome.task.trial.name: (outcome.facts["validation"]["ndcg@10"], outcome.task.trial)
            for outcome in outcomes.values()
            if outcome.task.system == recipe.name and outcome.facts and outcome.facts["validation"]
        }
        chosen[recipe.name] = max(found.values(), key=lambda pair: pair[0])[1] if found else default_trial(options)
    for recipe in recipes:
        if recipe.group == "ablation":
            chosen[recipe.name] = chosen.get("store", default_trial(options))
    return chosen


def cells(recipes: Sequence[Recipe], seeds: Sequence[int], chosen: dict[str, Trial]) -> list[CellTask]:
    """Lists of every system and seed; systems that draw nothing have one."""
    tasks = [
        CellTask(recipe=recipe, seed=seed, trial=chosen[recipe.name])
        for seed in seeds
        for recipe in recipes
        if recipe.trained or seed == seeds[0]
    ]
    # an ablation without a seed of STORE beside it says little: the tables' systems come first, seed by seed
    return sorted(tasks, key=lambda task: task.recipe.group == "ablation")
