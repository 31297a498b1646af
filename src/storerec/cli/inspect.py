"""``storerec inspect``: how the codes are used, and one item's neighbours and place in the tree."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import code_tables, show, table, write_result

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from storerec.pipeline import Explanation

_SHOWN = 10
"""Most items named in one line."""


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("inspect")(inspect)


@verb(resumes=False)
def inspect(
    run: options.LoadArgument,
    item: Annotated[str | None, typer.Option(metavar="ID", help="Look at this item.", show_default=False)] = None,
    near: Annotated[int, typer.Option(min=1, help="How many nearest items to show.")] = 5,
    json: options.JsonOption = None,
) -> None:
    """Show how the codes are used and how many items share theirs; with --item, one item from all sides.

    The language model is not needed for this.
    """
    from storerec.pipeline import load_inspection

    inspection = load_inspection(run)
    report = inspection.code_report()
    result = {"codes": report.to_json()}
    if item is None:
        write_result(json, result)
        show(*code_tables(report))
        return
    found = inspection.explain(item, neighbours=near)
    write_result(json, result | {"item": asdict(found)})
    same = ", ".join(found.same_codes[:_SHOWN]) or "none"
    rest = len(found.same_codes) - _SHOWN
    show(
        _item_table(found),
        _path_table(found),
        *_siblings(found),
        f"Other items with the same codes: {same}{f' and {rest} more' if rest > 0 else ''}",
        _neighbour_table(found),
    )


def _item_table(found: Explanation) -> Table:
    made = table(f"Item {found.item_id}", "Attribute", "Text")
    for name, text in found.text.items():
        made.add_row(name, text)
    made.add_row("codes", " ".join(map(str, found.codes)))
    return made


def _path_table(found: Explanation) -> Table:
    """Walk from the root to the item's leaf: the code taken at each position, and what remains below."""
    made = table("Place in the tree", "Position", "Code", "Items below", right=("Position", "Items below"))
    steps = ("root", *(" ".join(map(str, found.codes[: n + 1])) for n in range(len(found.codes))))
    for number, (prefix, below) in enumerate(zip(steps, found.below, strict=True)):
        made.add_row(str(number), prefix, str(below))
    return made


def _siblings(found: Explanation) -> list[RenderableType]:
    """List the leaves beside the item's own, which differ in the last code only."""
    if not found.siblings:
        return ["No other codes share all positions but the last."]
    made = table("Beside it in the tree", "Codes", "Items")
    for codes, titles in found.siblings[:_SHOWN]:
        made.add_row(" ".join(map(str, codes)), "; ".join(titles))
    rest = len(found.siblings) - _SHOWN
    return [made, f"and {rest} more"] if rest > 0 else [made]


def _neighbour_table(found: Explanation) -> Table:
    made = table("Nearest items by codes", "Codes that differ", "Item", "Title", right=("Codes that differ",))
    for item_id, title, distance in found.neighbours:
        made.add_row(str(distance), item_id, title)
    return made
