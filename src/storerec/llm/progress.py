"""Progress bars with rates and remaining time, one style for all long work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

_T = TypeVar("_T")
_PLAIN_SECONDS = 30.0


class _Rate(ProgressColumn):
    """Units per second (or seconds per unit when slower)."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task.finished_speed or task.speed, task.fields.get("unit", "it")))


def _rate(speed: float | None, unit: str) -> str:
    if not speed:
        return ""
    return f"{speed:,.1f} {unit}/s" if speed >= 1 else f"{1 / speed:,.1f} s/{unit}"


@dataclass
class Bar:
    """One piece of long work under way."""

    label: str
    total: int
    unit: str
    done: int
    live: TaskID | None = None
    note: str = ""
    first: int = 0
    started: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """The bar as one line of plain text."""
        spent = time.monotonic() - self.started
        speed = (self.done - self.first) / spent if spent > 0 else 0.0
        left = f", {(self.total - self.done) / speed / 60:.1f} min left" if speed > 0 and self.done < self.total else ""
        note = f", {self.note}" if self.note else ""
        return f"  {self.label}: {self.done:,}/{self.total:,} {self.unit}s, {_rate(speed, self.unit)}{left}{note}"


class Progress:
    """Bars on a terminal; a plain line every half minute elsewhere (logs, CI); nothing when disabled.

    Used as a context manager around one piece of long work, or handed down through a pipeline. Everything goes to
    standard error, so that standard output holds results only.
    """

    def __init__(self, *, enabled: bool = True, console: Console | None = None) -> None:
        self.enabled = enabled
        self.console = console or Console(stderr=True)
        self._live: RichProgress | None = None

    def __enter__(self) -> Self:
        if self.enabled and self.console.is_terminal:
            columns = (
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            describe = TextColumn("  {task.description}", markup=False)
            note = TextColumn("{task.fields[note]}", markup=False)
            self._live = RichProgress(describe, *columns, note, console=self.console)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, label: str, total: int, *, done: int = 0, unit: str = "item") -> Bar:
        """Open a bar of ``total`` units, ``done`` of them already made."""
        bar = Bar(label, total, unit, done, first=done)
        if self._live is not None:
            bar.live = self._live.add_task(label, total=total, completed=done, unit=unit, note="")
        return bar

    def advance(self, bar: Bar, amount: int = 1) -> None:
        """Move a bar on."""
        bar.done += amount
        if self._live is not None and bar.live is not None:
            self._live.advance(bar.live, amount)
        elif self.enabled and time.monotonic() - bar.printed > _PLAIN_SECONDS:
            bar.printed = time.monotonic()
            self.console.print(bar.line(), highlight=False, markup=False, emoji=False, soft_wrap=True)

    def note(self, bar: Bar, note: str) -> None:
        """Show a short text (a loss, a metric) at the end of a bar."""
        bar.note = note
        if self._live is not None and bar.live is not None:
            self._live.update(bar.live, note=note)

    def finish(self, bar: Bar) -> None:
        """End a bar where it stands."""
        if self._live is not None and bar.live is not None:
            self._live.stop_task(bar.live)
        elif self.enabled and bar.total:
            self.console.print(bar.line(), highlight=False, markup=False, emoji=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line of plain words."""
        if self.enabled:
            self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def track(
        self,
        things: Iterable[_T],
        label: str,
        total: int,
        *,
        sizes: Iterable[int] | None = None,
        unit: str = "item",
    ) -> Iterator[_T]:
        """Iterate under a bar; ``sizes`` gives the units each thing counts for (one by default)."""
        bar = self.start(label, total, unit=unit)
        amounts = iter(sizes) if sizes is not None else None
        for thing in things:
            yield thing
            self.advance(bar, next(amounts) if amounts is not None else 1)
        self.finish(bar)
