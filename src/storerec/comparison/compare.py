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
from storerec.comparison.datasets import ComparisonData
from storerec.comparison.grid import Outcome, best_rates, cells, run_tasks, trials
from storerec.comparison.paper import PAPER_TABLES
from storerec.comparison.work import Work
from storerec.config import RunOptions
from storerec.data.splits import Split, check_trainable, split
from storerec.errors import TrainingError
from storerec.evaluation.comparison import Comparison
from storerec.evaluation.leaks import check_split, check_tree
from storerec.evaluation.ranked import Cell, compare_cells
from storerec.evaluation.report_folder import write_report
from storerec.systems.recipe import Recipe

Say = Callable[[str], None]


@dataclass(frozen=True)
class Grid:
    """What to compare, and how much of the machine to use.

    Attributes
    ----------
    recipes: systems, in the order of tables.
    seeds: of training; the first one serves the trials.
    jobs: processes at a time.
    threads: CPU threads of each; None leaves it to the libraries.
    command: how it was asked for, for the report.
    """

    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    jobs: int = 1
    threads: int | None = None
    command: str = ""


def compare(data: ComparisonData, config: Any, grid: Grid, folder: Path, options: RunOptions, say: Say) -> Comparison:
    """Run the grid and write the report into ``folder / "report"``.

    Finished stages in ``folder`` are reused, interrupted trainings go on from their checkpoints, and failures are
    told in the report; call it again to try those anew.

    Raises
    ------
    DataError: the data cannot be split as configured, or a leak was found.
    ConfigError: ``folder`` holds something else.
    TrainingError: every cell failed.
    """
    divided = split(data.histories, config.store.split, config.split_seed)
    check_trainable(divided)
    check_split(data.histories, divided)
    say(f"{data.name}: {len(data.catalogue):,} items, {len(data.histories):,} users, {len(divided.test):,} to test on")
    for note in data.notes:
        say(f"  {note}")
    work = Work.create(folder, data.catalogue, data.histories, config, options, grid.threads)
    rates = config.tuning.rates
    trial_tasks = trials(grid.recipes, grid.seeds[0], rates)
    tried: dict[str, Outcome] = {}
    if trial_tasks:
        say(f"trials: {len(trial_tasks)}, {len(rates)} learning rates for each trained system, on seed {grid.seeds[0]}")
        tried = run_tasks(work, trial_tasks, grid.jobs, say)
    chosen = best_rates(grid.recipes, rates, tried)
    tasks = cells(grid.recipes, grid.seeds, chosen)
    say(f"cells: {len(tasks)}")
    outcomes = run_tasks(work, tasks, grid.jobs, say)
    result = _measure(work, data, divided, grid, outcomes, _settings(work, grid, chosen, tried, outcomes, data))
    write_report(result, folder / "report", user_ids=divided.test.histories.user_ids, item_ids=data.catalogue.ids)
    say(f"report: {folder / 'report' / 'report.md'}, and report.html beside it")
    return result


def _measure(
    work: Work,
    data: ComparisonData,
    divided: Split,
    grid: Grid,
    outcomes: Mapping[str, Outcome],
    settings: Mapping[str, Any],
) -> Comparison:
    order = [recipe.name for recipe in grid.recipes]
    done = sorted(
        (outcome for outcome in outcomes.values() if outcome.facts), key=lambda o: order.index(o.task.recipe.name)
    )
    failures = {f"{o.task.recipe.name}, seed {o.task.seed}": o.error for o in outcomes.values() if o.error}
    if not done:
        raise TrainingError(f"every cell failed; the first: {next(iter(failures.values()), 'there was none')}")
    n_items = len(data.catalogue)
    present = [outcome.task.recipe.name for outcome in done]
    return compare_cells(
        [_cell(work, outcome, n_items) for outcome in done],
        divided.test,
        divided.train,
        n_items=n_items,
        config=work.config.store.evaluation,
        seed=work.config.split_seed,
        reference="store" if "store" in present or "store" in order else order[-1],
        failures=failures,
        protocol=divided.protocol,
        split_notes=(*data.notes, *divided.notes),
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
        outcome.task.recipe.name,
        outcome.task.seed,
        lists,
        tuples,
        float(sum(seconds for stage, seconds in cost["seconds"].items() if stage != "lists")),
        float(facts["recommend_seconds"]),
        notes,
    )


def _settings(
    work: Work,
    grid: Grid,
    chosen: Mapping[str, float],
    tried: Mapping[str, Outcome],
    outcomes: Mapping[str, Outcome],
    data: ComparisonData,
) -> dict[str, Any]:
    """What a reader must know to repeat it: command, machine, versions, budget of tuning, what each system is."""
    import torch
    import transformers

    rates = work.config.tuning.rates
    trained = [recipe for recipe in grid.recipes if recipe.trained]
    reports = {o.task.recipe.name: o.facts["code_report"] for o in outcomes.values() if o.facts}
    return {
        "command": grid.command,
        "data": data.name,
        "seeds": list(grid.seeds),
        "machine": machine(work),
        "versions": {"storerec": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "tuning": {
            "budget": f"{len(rates)} learning rates (factors {list(rates)}) for each trained system of the tables, on "
            f"seed {grid.seeds[0]}, the best by validation NDCG@10; ablations take STORE's. Early stopping and the "
            "choice of weights by validation only.",
            "chosen": {recipe.name: chosen[recipe.name] for recipe in trained},
            "trials": {name: (o.facts["validation"] if o.facts else o.error) for name, o in sorted(tried.items())},
        },
        "systems": {recipe.name: f"{recipe.about} [{recipe.paper}]" for recipe in grid.recipes},
        "codes": {name: report for name, report in reports.items() if report},
        "leak checks": "passed: held-out events in no input and no training, code tables over the whole catalogue, "
        "lists made from input histories only",
        "configuration": work.config.model_dump(mode="json"),
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
