"""``storerec train``: the last stage, from codes and histories to a recommender."""

from __future__ import annotations

import typer

from storerec.cli import engine as engines
from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(train)


@verb(resumes=True)
def train(
    run: options.RunFolderArgument,
    device: options.DeviceOption = options.Device.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    progress: options.ProgressOption = True,
    engine: engines.EngineOption = engines.EngineName.local,
    address: engines.AddressOption = None,
    workers: engines.WorkersOption = None,
    engine_config: engines.EngineConfigOption = None,
    sharded: engines.ShardedOption = False,
) -> None:
    """Train the recommender and write the bundle; goes on from the last checkpoint, or returns at once."""
    from storerec.pipeline import RunFolder
    from storerec.pipeline import train as stage

    folder = RunFolder.open(run, options.run_options(device=device, dtype=dtype, progress=progress, sharded=sharded))
    with engines.chosen(engine, address, workers, engine_config) as where, engines.bars(progress) as bars:
        stage(folder, bars, where)
    show(f"The recommender is trained. Next: storerec evaluate {run}")
