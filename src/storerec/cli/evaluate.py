"""``storerec evaluate``: STORE and the baselines on held-out targets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from storerec.cli import engine as engines
from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show, write_result


class SplitName(StrEnum):
    """Which held-out targets."""

    test = "test"
    validation = "validation"


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate")(evaluate)


@verb(resumes=False)
def evaluate(
    run: options.RunFolderArgument,
    json: options.JsonOption = None,
    split: Annotated[SplitName, typer.Option(help="Which held-out targets.")] = SplitName.test,
    exclude_history: Annotated[
        bool | None,
        typer.Option(
            "--exclude-history/--include-history",
            help="Never rank items of a user's own history, or do; by default as the run's settings say.",
        ),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Write plots into the run folder.")] = True,
    device: options.DeviceOption = options.Device.auto,
    progress: options.ProgressOption = True,
    engine: engines.EngineOption = engines.EngineName.local,
    address: engines.AddressOption = None,
    workers: engines.WorkersOption = None,
    engine_config: engines.EngineConfigOption = None,
) -> None:
    """Measure STORE, popularity and Markov on held-out targets, ranking the full catalogue."""
    from storerec.pipeline import RunFolder, evaluate_run

    folder = RunFolder.open(run, options.run_options(device=device, progress=progress))
    with engines.chosen(engine, address, workers, engine_config) as where, engines.bars(progress) as bars:
        result = evaluate_run(
            folder, which=split.value, exclude_history=exclude_history, plots=plots, progress=bars, engine=where
        )
    write_result(json, result.to_json())
    show(*result.tables(), markup=True)  # these tables escape what they show
