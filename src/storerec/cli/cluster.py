"""``storerec cluster``: the second stage, from dense tokens to codes."""

from __future__ import annotations

import typer

from storerec.cli.ending import verb
from storerec.cli.options import ProgressOption, RunFolderArgument
from storerec.cli.output import show


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("cluster")(cluster)


@verb(resumes=True)
def cluster(run: RunFolderArgument, progress: ProgressOption = True) -> None:
    """Cluster the dense tokens and give every item its codes; returns at once when that is done."""
    from storerec.llm.progress import Progress
    from storerec.pipeline import RunFolder
    from storerec.pipeline import cluster as stage

    folder = RunFolder.open(run)
    with Progress(enabled=progress) as bars:
        stage(folder, bars)
    show(f"All items have codes. Next: storerec train {run}")
