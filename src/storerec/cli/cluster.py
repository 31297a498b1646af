"""``storerec cluster``: the second stage, from dense tokens to codes."""

from __future__ import annotations

import typer

from storerec.cli import engine as engines
from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import code_tables, show


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("cluster")(cluster)


@verb(resumes=True)
def cluster(
    run: options.RunFolderArgument,
    progress: options.ProgressOption = True,
    engine: engines.EngineOption = engines.EngineName.local,
    address: engines.AddressOption = None,
    workers: engines.WorkersOption = None,
    engine_config: engines.EngineConfigOption = None,
) -> None:
    """Cluster the dense tokens and give every item its codes; returns at once when that is done."""
    from storerec.pipeline import RunFolder
    from storerec.pipeline import cluster as stage

    folder = RunFolder.open(run, options.run_options(progress=progress))
    with engines.chosen(engine, address, workers, engine_config) as where, engines.bars(progress) as bars:
        stage(folder, bars, where)
    show(*code_tables(folder.table.report()), f"All items have codes. Next: storerec train {run}")
