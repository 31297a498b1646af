"""``storerec cold-start``: how well items are recommended that no training saw."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("cold-start")(cold_start)


@verb(resumes=True)
def cold_start(
    data: Annotated[
        str,
        typer.Option(metavar="NAME|KIND:FOLDER|FOLDER", help="As for `storerec compare`.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to make, or to go on with.", show_default=False)
    ],
    share: Annotated[float, typer.Option(help="Share of the items to hide from training.")] = 0.2,
    test_users: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many users for each table; all train.", show_default="all"),
    ] = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = options.Device.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    progress: options.ProgressOption = True,
) -> None:
    """Hide some items, train without them, add them as new ones, and measure who finds them.

    STORE beside popularity, Markov, SASRec and similarity of texts, for the users whose next item is a hidden one,
    among all items and among the new ones only; and for those whose next item is an old one, to see what new ones cost.
    """
    from storerec.comparison import load_data
    from storerec.comparison.cold_start import cold_start as run
    from storerec.comparison.cold_start import write_page
    from storerec.llm.progress import Progress
    from storerec.pipeline import StoreConfig

    settings = StoreConfig.assembled(preset, config)
    found = load_data(data)
    given = options.run_options(seed=seed, device=device, dtype=dtype, progress=progress)
    with Progress(enabled=progress) as bars:
        result = run(found.catalogue, found.histories, settings, share, out, given, bars, test_users=test_users)
    title = f"New items: {found.name}"
    page = write_page(result, out, title, shlex.join(["storerec", *sys.argv[1:]]))
    for words, one in result.parts():
        show(f"{words}:", one.table())
    show(f"Figures: {out / 'cold_start.json'}; page: {page}")
