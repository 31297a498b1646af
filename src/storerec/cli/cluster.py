"""``storerec cluster``: the second stage, from dense tokens to codes."""

from __future__ import annotations

import typer

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
) -> None:
    """Cluster the dense tokens and give every item its codes; returns at once when that is done."""
    from storerec.llm.progress import Progress
    from storerec.pipeline import RunFolder
    from storerec.pipeline import cluster as stage

    folder = RunFolder.open(run, options.run_options(progress=progress))
    with Progress(enabled=progress) as bars:
        stage(folder, bars)
    show(*code_tables(folder.table.report()), f"All items have codes. Next: storerec train {run}")
