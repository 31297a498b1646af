"""The comparison: trials, then every system with every seed, then one report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from storerec._version import __version__
from storerec.codes import CodeTable
from storerec.comparison.config import ComparisonConfig
from storerec.comparison.datasets import ComparisonData
from storerec.comparison.grid import Outcome, best_trials, cells, default_trial, failed_cells, run_tasks, trials
from storerec.comparison.judged import Judged
from storerec.comparison.paper import PAPER_TABLES
from storerec.comparison.scoring import Judging, measure_scores, score_tasks, scoring_settings, tell_cost
from storerec.comparison.trial import Trial
from storerec.comparison.work import Work
from storerec.config import RunOptions
from storerec.data.splits import Split, check_trainable, split
from storerec.errors import TrainingError
from storerec.evaluation.comparison import Comparison
from storerec.evaluation.leaks import check_split, check_tree
from storerec.evaluation.ranked import Cell, compare_cells
from storerec.evaluation.report_folder import write_report, write_score_report
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.systems.recipe import Recipe
from storerec.systems.scorer_recipe import ScorerRecipe

Say = Callable[[str], None]


@dataclass(frozen=True)
class Grid:
    """What to compare, and how much of the machine to use.

    Attributes
    ----------
    recipes: systems that rank, in the order of tables.
    seeds: of training; the first one serves the trials.
    jobs: processes at a time.
    threads: CPU threads of each; None leaves it to the libraries.
    command: how it was asked for, for the report.
    scorers: systems that score given candidates, in the order of tables.
    notes: for the report: what was asked for and left out.
    """

    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    jobs: int = 1
    threads: int | None = None
    command: str = ""
    scorers: tuple[ScorerRecipe, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """What a comparison found: of rankings, of scores, or of both. None where it was not asked for or all failed."""

    ranking: Comparison | None
    scoring: ScoreComparison | None


@dataclass(frozen=True)
class _Ran:
    """What became of all tasks."""

    chosen: Mapping[str, Trial]
    tried: Mapping[str, Outcome]
    lists: Mapping[str, Outcome]
    scores: Mapping[str, Outcome]


def compare(
    data: ComparisonData, config: ComparisonConfig, grid: Grid, folder: Path, options: RunOptions, say: Say
) -> Results:
    """Run the grid and write the report into ``folder / "report"``.

    Finished stages in ``folder`` are reused, interrupted trainings go on from their checkpoints, and failures are
    told in the report; call it again to try those anew.

    Raises
    ------
    DataError: the data cannot be split as configured, has no judgements for the scorers, or a leak was found.
    ConfigError: ``folder`` holds something else.
    TrainingError: every cell failed.
    """
    divided = _divided(data, config) if grid.recipes else None
    judging = Judging.prepare(data, config) if grid.scorers else None
    tested = f", {len(divided.test):,} to test on" if divided else ""
    say(f"{data.name}: {len(data.catalogue):,} items, {len(data.histories):,} users{tested}")
    for note in (*data.notes, *grid.notes, *(judging.notes if judging else ())):
        say(f"  {note}")
    scoring = judging is not None
    work = Work.create(folder, data.catalogue, data.histories, config, options, grid.threads, scoring=scoring)
    ran = _run(work, grid, judging, say)
    settings = _settings(work, grid, ran, data)
    scores = None
    if judging is not None:
        settings["scoring"] = scoring_settings(judging, grid.scorers, ran.scores)
        notes = () if divided else grid.notes
        scores = measure_scores(work, data, judging, grid.scorers, ran.scores, settings, notes)
    ranking = _measure(work, data, divided, grid, ran, settings, told=scores is not None) if divided else None
    _write(work, data, divided, ran, Results(ranking, scores))
    say(f"report: {folder / 'report' / 'report.md'}, and report.html beside it")
    return Results(ranking, scores)


def _write(work: Work, data: ComparisonData, divided: Split | None, ran: _Ran, results: Results) -> None:
    ranking, scores, folder = results.ranking, results.scoring, work.folder / "report"
    failures = failed_cells([*ran.lists.values(), *ran.scores.values()])
    if ranking is not None and divided is not None:
        users = divided.test.histories.user_ids
        write_report(ranking, folder, user_ids=users, item_ids=data.catalogue.ids, scoring=scores)
    elif scores is not None:
        write_score_report(scores.model_copy(update={"failures": failures}), folder)
    else:
        raise TrainingError(f"every cell failed; the first: {next(iter(failures.values()), 'there was none')}")


def _divided(data: ComparisonData, config: ComparisonConfig) -> Split:
    divided = split(data.histories, config.store.split, config.split_seed)
    check_trainable(divided)
    check_split(data.histories, divided)
    return divided


def _run(work: Work, grid: Grid, judging: Judging | None, say: Say) -> _Ran:
    """Trials, then lists, then scores."""
    tuning = work.config.tuning
    trial_tasks = trials(grid.recipes, grid.seeds[0], tuning.trials)
    tried: dict[str, Outcome] = {}
    if trial_tasks:
        say(f"trials: {len(trial_tasks)}, {tuning.about} for each trained system, on seed {grid.seeds[0]}")
        tried = run_tasks(work, trial_tasks, grid.jobs, say)
    chosen = best_trials(grid.recipes, tuning.trials, tried)
    tasks = cells(grid.recipes, grid.seeds, chosen)
    lists: dict[str, Outcome] = {}
    if tasks:
        say(f"cells: {len(tasks)}")
        lists = run_tasks(work, tasks, grid.jobs, say)
    if judging is None:
        return _Ran(chosen, tried, lists, {})
    judged = Judged.save(judging.parts, work.judged)
    # trials that were chosen on other users' validation say nothing of test users only under the same split
    known = chosen if judging.own_split else {}
    scored = score_tasks(grid.scorers, grid.seeds, known, default_trial(tuning.trials), judged)
    say(f"scores: {len(scored)}, of {len(judged.test.items):,} candidates in {len(judged.test):,} groups")
    tell_cost(work, grid.scorers, judging.parts, say)
    return _Ran(chosen, tried, lists, run_tasks(work, scored, grid.jobs, say))


def _measure(
    work: Work,
    data: ComparisonData,
    divided: Split,
    grid: Grid,
    ran: _Ran,
    settings: Mapping[str, Any],
    *,
    told: bool,
) -> Comparison | None:
    """Compare the lists that were made; None where every cell failed. ``told``: scores tell their failures."""
    order = [recipe.name for recipe in grid.recipes]
    done = sorted((o for o in ran.lists.values() if o.facts), key=lambda o: order.index(o.task.system))
    if not done:
        return None
    n_items = len(data.catalogue)
    present = [outcome.task.system for outcome in done]
    return compare_cells(
        [_cell(work, outcome, n_items) for outcome in done],
        divided.test,
        divided.train,
        n_items=n_items,
        config=work.config.store.evaluation,
        seed=work.config.split_seed,
        reference="store" if "store" in present or "store" in order else order[-1],
        failures=failed_cells([*ran.lists.values(), *(() if told else ran.scores.values())]),
        protocol=divided.protocol,
        split_notes=(*data.notes, *divided.notes, *grid.notes),
        settings=settings,
        title=f"Next item on {data.name}",
        paper=PAPER_TABLES.get(data.kind or ""),
    )


def _cell(work: Work, outcome: Outcome, n_items: int) -> Cell:
    facts = outcome.facts or {}
    folder = work.folder / "stages" / facts["lists"]
    tuples = load_file(folder / "tuples.safetensors").get("tuple_of")
    if facts["codes"]:
        check_tree(
            CodeTable.from_arrays(load_file(work.folder / "stages" / facts["codes"] / "table.safetensors")), n_items
        )
    cost = facts["cost"]
    notes = ("an interrupted stage was taken up again: times are lower bounds",) if cost["resumed"] else ()
    lists: np.ndarray = load_file(folder / "lists.safetensors")["items"]
    return Cell(
        outcome.task.system,
        outcome.task.seed,
        lists,
        tuples,
        float(sum(seconds for stage, seconds in cost["seconds"].items() if stage != "lists")),
        float(facts["recommend_seconds"]),
        notes,
    )


def _settings(work: Work, grid: Grid, ran: _Ran, data: ComparisonData) -> dict[str, Any]:
    """What a reader must know to repeat it: command, machine, versions, budget of tuning, what each system is."""
    import torch
    import transformers

    about = {
        "command": grid.command,
        "data": data.name,
        "seeds": list(grid.seeds),
        "machine": machine(work),
        "versions": {"storerec": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
    }
    kept = work.config.model_dump(mode="json", exclude=None if grid.scorers else {"scoring"})
    return about | (_of_rankings(work, grid, ran) if grid.recipes else {}) | {"configuration": kept}


def _of_rankings(work: Work, grid: Grid, ran: _Ran) -> dict[str, Any]:
    reports = {o.task.system: o.facts["code_report"] for o in ran.lists.values() if o.facts}
    return {
        "tuning": {
            "budget": f"{work.config.tuning.about} for each trained system of the tables, on "
            f"seed {grid.seeds[0]}, the best by validation NDCG@10; ablations take STORE's. Early stopping and the "
            "choice of weights by validation only.",
            "chosen": {recipe.name: ran.chosen[recipe.name].model_dump() for recipe in grid.recipes if recipe.trained},
            "trials": {name: (o.facts["validation"] if o.facts else o.error) for name, o in sorted(ran.tried.items())},
        },
        "systems": {recipe.name: f"{recipe.about} [{recipe.paper}]" for recipe in grid.recipes},
        "codes": {name: report for name, report in reports.items() if report},
        "leak checks": "passed: held-out events in no input and no training, code tables over the whole catalogue, "
        "lists made from input histories only",
    }


def machine(work: Work) -> str:
    """The machine in a line."""
    import os

    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and work.device != "cpu" else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {gpu}"
