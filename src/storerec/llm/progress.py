"""Progress bars with rates and remaining time, one style for all long work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.progress import ProgressColumn, Task, TaskID
from rich.text import Text

_T = TypeVar("_T")


class _Rate(ProgressColumn):
    """Units per second (or seconds per unit when slower)."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        if not speed:
            return Text("")
        return Text(f"{speed:,.1f} {unit}/s" if speed >= 1 else f"{1 / speed:,.1f} s/{unit}")


class Progress:
    """Bars on standard error; plain lines at start and end when that is no terminal; nothing when disabled.

    Used as a context manager around one piece of long work, or handed down through a pipeline.
    """

    def __init__(self, *, enabled: bool = True, console: Console | None = None) -> None:
        self.enabled = enabled
        self.console = console or Console(stderr=True)
        self._live: RichProgress | None = None

    def __enter__(self) -> Self:
        if self.enabled and self.console.is_terminal:
            self._live = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, label: str, total: int, *, done: int = 0, unit: str = "it") -> TaskID | None:
        """Open a bar of ``total`` units and return its handle."""
        if self._live is not None:
            return self._live.add_task(label, total=total, completed=done, unit=unit, note="")
        return None

    def advance(self, task: TaskID | None, amount: int = 1) -> None:
        """Move a bar on."""
        if self._live is not None and task is not None:
            self._live.advance(task, amount)

    def note(self, task: TaskID | None, note: str) -> None:
        """Show a short text (a loss, a metric) at the end of a bar."""
        if self._live is not None and task is not None:
            self._live.update(task, note=note)

    def finish(self, task: TaskID | None) -> None:
        """End a bar where it stands."""
        if self._live is not None and task is not None:
            self._live.stop_task(task)

    def say(self, text: str) -> None:
        """Print one line of plain words."""
        if self.enabled:
            self.console.print(text)

    def track(self, things: Iterable[_T], label: str, total: int, *, sizes: Iterable[int] | None = None, unit: str = "it") -> Iterator[_T]:
        """Iterate under a bar; ``sizes`` gives the units each thing counts for (one by default)."""
        task = self.start(label, total, unit=unit)
        amounts = iter(sizes) if sizes is not None else None
        for thing in things:
            yield thing
            self.advance(task, next(amounts) if amounts is not None else 1)
        self.finish(task)
