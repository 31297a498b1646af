"""``storerec tokenize``: the first stage, from item texts to dense tokens."""

from __future__ import annotations

import typer

from storerec.cli import engine as engines
from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("tokenize")(tokenize)


@verb(resumes=True)
def tokenize(
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
    """Train the dense tokenizer and encode all items; returns at once when that is done."""
    from storerec.pipeline import RunFolder
    from storerec.pipeline import tokenize as stage

    folder = RunFolder.open(run, options.run_options(device=device, dtype=dtype, progress=progress, sharded=sharded))
    with engines.chosen(engine, address, workers, engine_config) as where, engines.bars(progress) as bars:
        stage(folder, bars, where)
    show(f"All items have dense tokens. Next: storerec cluster {run}")
