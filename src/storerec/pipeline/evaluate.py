"""Evaluating a run folder: the table, its JSON and the plots."""

from __future__ import annotations

from storerec.errors import TrainingError
from storerec.evaluation import Evaluation
from storerec.evaluation.plots import plot_code_utilisation, plot_losses, plot_slices
from storerec.llm import processes
from storerec.llm.progress import Progress
from storerec.pipeline.engine import Engine, LocalEngine
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.lists import RunLists
from storerec.pipeline.measuring import measure
from storerec.storage import write_json


def evaluate_run(
    run: RunFolder,
    *,
    which: str = "test",
    exclude_history: bool | None = None,
    plots: bool = True,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Evaluation:
    """Measure a finished run beside the baselines; writes ``evaluation.json`` and ``plots/*.png`` into its folder.

    Parameters
    ----------
    which: ``test`` or ``validation`` users.
    exclude_history: leave items of a user's own history out of the list, for every system alike; none does
        what the run's configuration says.
    engine: where STORE's lists are made; this process by default.

    Raises
    ------
    TrainingError: a stage is missing.
    """
    if not run.has("tokenizer", "clusterer", "table", "recommender"):
        raise TrainingError(f"{run.path}: the run is not finished; run `storerec fit` with the same arguments again")
    settings = run.config.evaluation
    usual = exclude_history is None or exclude_history == settings.exclude_history
    if not usual:
        settings = settings.model_copy(update={"exclude_history": exclude_history})
    lists = RunLists(run, engine or LocalEngine(), progress or Progress(enabled=False))
    result = measure(lists, run.split, which, run.table, settings, run.options.seed)
    if not processes.is_first():
        return result
    other = "" if usual else "-unseen" if exclude_history else "-all"
    suffix = f"-{which}{other}" if which != "test" or other else ""
    write_json(run.path / f"evaluation{suffix}.json", result.to_json())
    if plots:
        folder = run.path / "plots"
        plot_slices(result, folder / f"slices{suffix}.png")
        plot_code_utilisation(run.table, folder / "codes.png")
        if logs := run.logs():
            plot_losses(logs, folder / "losses.png")
    return result
