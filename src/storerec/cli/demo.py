"""``storerec demo``: the whole method on real data with a real language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo")(demo)


@verb(resumes=True)
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Run folder.")] = Path("runs/demo"),
    seed: options.SeedOption = 0,
    device: options.DeviceOption = options.Device.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    progress: options.ProgressOption = True,
) -> None:
    """Train on MovieLens 100K with SmolLM2-135M, evaluate, and recommend: at most 20 minutes on 2 cores."""
    from storerec.llm.progress import Progress
    from storerec.pipeline import run_demo

    run_options = options.run_options(seed=seed, device=device, dtype=dtype, progress=progress)
    with Progress(enabled=progress) as bars:
        run_demo(out, bars, run_options)
