"""A report before it takes a format: sections of paragraphs, tables and plots, all text unescaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes
    ----------
    text
        What it says.
    bold
        Whether it is the highest mean of its column.
    mark
        "up" or "down" where its system is better or worse than the reference beyond chance, else "".
    """

    text: str
    bold: bool = False
    mark: Literal["", "up", "down"] = ""


@dataclass(frozen=True)
class TextTable:
    """A table; the first column names the rows and is set left, all others right.

    Attributes
    ----------
    title, header, rows
        As they say; every row is as long as the header.
    note
        What one must know to read it.
    prose
        Whether the columns after the first hold sentences rather than numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    note: str = ""
    prose: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot: its file name without suffix, what it shows, and how to draw it anew."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes
    ----------
    title
        Its heading.
    paragraphs, tables, plots
        Its content, in this order.
    details
        Whether it is for reference only, so that a page may fold it.
    settings
        Values to show as they are, as JSON; None for none.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[TextTable, ...] = ()
    plots: tuple[Plot, ...] = ()
    details: bool = False
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Document:
    """A whole report: its headline, what all of it rests on, and its sections."""

    title: str
    statements: tuple[str, ...]
    sections: tuple[Section, ...] = field(default=())
