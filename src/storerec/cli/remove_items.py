"""``storerec remove-items``: take items out of all lists."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show, write_result


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("remove-items")(remove_items)


@verb(resumes=True)
def remove_items(
    run: options.LoadArgument,
    items: Annotated[
        list[str], typer.Option("--items", metavar="ID,ID,...", help="Items to take out.", show_default=False)
    ],
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = options.Device.auto,
    json: options.JsonOption = None,
) -> None:
    """Take items out of all lists, at once; histories that hold them are read as before.

    Their codes stay theirs: `storerec add-items` brings them back. An unknown id is an error, and then none is removed.
    """
    from storerec.pipeline import Live

    with closing(Live.open(run, backbone=backbone, options=options.run_options(device=device))) as live:
        found = live.remove_items(options.split_list(items))
    write_result(json, {"items": found.to_dicts()})
    gone, before = (int((found["status"] == status).sum()) for status in ("removed", "absent"))
    show(f"{gone:,} removed" + (f", {before:,} had been already" if before else "") + ".")
