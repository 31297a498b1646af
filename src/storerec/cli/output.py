"""What verbs print and write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from storerec.codes import CodeReport

_PLAIN_WIDTH = 160
"""Width of tables that go to a file or pipe, where no terminal says it."""


def show(*things: RenderableType, markup: bool = False) -> None:
    """Print tables and lines on standard output.

    ``markup`` lets rich read square brackets in texts as styles; texts of the user's must never be read so.
    """
    if os.environ.get("RANK", "0") != "0":  # of processes that torchrun started one speaks
        return
    from rich.console import Console

    out = Console(highlight=False, markup=markup, emoji=False)
    if not out.is_terminal:
        out.width = _PLAIN_WIDTH
    for thing in things:
        out.print(thing)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """Make an empty table; the columns named in ``right`` hold numbers."""
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def write_result(path: Path | None, value: Any) -> None:
    """Write ``value`` as JSON where ``--json`` says; nowhere when it was not given.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    from storerec.errors import ConfigError
    from storerec.storage import write_json

    if path is None:
        return
    try:
        write_json(path, value)
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error.strerror or error})") from None


def code_tables(report: CodeReport) -> tuple[RenderableType, ...]:
    """Show a code report: one row per position, and a line on collisions."""
    numbers = ("Position", "Codes", "Used", "Perplexity")
    made = table("Codes", *numbers, right=numbers)
    for number, position in enumerate(report.positions, 1):
        made.add_row(str(number), str(position.size), str(position.used), f"{position.perplexity:.1f}")
    line = (
        f"{report.items} items have {report.tuples} code tuples (policy {report.policy}); "
        f"{report.colliding_share:.1%} of the items share theirs, at most {report.largest_bucket} one tuple."
    )
    return made, line
