"""``storerec train``: the last stage, from codes and histories to a recommender."""

from __future__ import annotations

import typer

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
) -> None:
    """Train the recommender and write the bundle; goes on from the last checkpoint, or returns at once."""
    from storerec.llm.progress import Progress
    from storerec.pipeline import RunFolder
    from storerec.pipeline import train as stage

    folder = RunFolder.open(run, options.run_options(device=device, dtype=dtype, progress=progress))
    with Progress(enabled=progress) as bars:
        stage(folder, bars)
    show(f"The recommender is trained. Next: storerec evaluate {run}")
