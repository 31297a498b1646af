"""``storerec inspect``: what codes the items got, and one item's neighbours and place in the tree."""

from __future__ import annotations

from typing import Annotated

import typer

from storerec.cli.ending import verb
from storerec.cli.options import JsonOption, LoadArgument


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("inspect")(inspect)


@verb(resumes=False)
def inspect(
    run: LoadArgument,
    item: Annotated[
        str | None, typer.Option(metavar="ID", help="Look at this item.", show_default=False)
    ] = None,
    json: JsonOption = None,
) -> None:
    """Show how the codes are used and how many items share theirs; with --item, one item from all sides."""
    raise NotImplementedError
