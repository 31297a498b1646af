"""What the workers of a training tell the program that waits for them: how far they are, and why they cannot go on."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from storerec.errors import StorerecError
from storerec.llm.progress import Bar, Progress

_SECONDS = 0.25
"""Time between two messages about the same bar."""


class Mailbox:
    """An actor's state: messages that nobody has read yet, and the first fault."""

    def __init__(self) -> None:
        self._letters: list[tuple[Any, ...]] = []
        self._fault: StorerecError | None = None

    def post(self, *letter: Any) -> None:
        """Leave a message."""
        self._letters.append(letter)

    def take(self) -> list[tuple[Any, ...]]:
        """Messages since the last time."""
        letters, self._letters = self._letters, []
        return letters

    def report(self, fault: StorerecError) -> None:
        """Leave word that trying again is of no use."""
        self._fault = self._fault or fault

    def fault(self) -> StorerecError | None:
        """Why trying again is of no use."""
        return self._fault


def open_mailbox(ray: Any) -> Any:
    """A mailbox as an actor on this node, where nothing but this program's end takes it away."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


class SentProgress(Progress):
    """Bars of a worker, shown elsewhere."""

    def __init__(self, mailbox: Any) -> None:
        super().__init__(enabled=False)
        self._mailbox, self._numbers, self._sent = mailbox, itertools.count(), dict[int, float]()
        self._keys: dict[int, tuple[int, int]] = {}

    def start(self, label: str, total: int, *, done: int = 0, unit: str = "item") -> Bar:
        """Open a bar there."""
        bar = super().start(label, total, done=done, unit=unit)
        key = (os.getpid(), next(self._numbers))  # a process that takes over begins bars of its own
        self._keys[id(bar)] = key
        self._mailbox.post.remote("start", key, label, total, done, unit)
        return bar

    def advance(self, bar: Bar, amount: int = 1) -> None:
        """Move it on."""
        super().advance(bar, amount)
        self._tell(bar)

    def note(self, bar: Bar, note: str) -> None:
        """Show a text at its end."""
        super().note(bar, note)
        self._tell(bar)

    def finish(self, bar: Bar) -> None:
        """End it."""
        self._tell(bar, now=True)
        self._mailbox.post.remote("finish", self._keys[id(bar)])

    def say(self, text: str) -> None:
        """Print a line there."""
        self._mailbox.post.remote("say", None, text)

    def _tell(self, bar: Bar, *, now: bool = False) -> None:
        if now or time.monotonic() - self._sent.get(id(bar), 0.0) > _SECONDS:
            self._sent[id(bar)] = time.monotonic()
            self._mailbox.post.remote("at", self._keys[id(bar)], bar.done, bar.note)


class ShownProgress:
    """Shows the bars of workers among those of this program."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self._bars = progress, dict[tuple[int, int], Bar]()

    def show(self, letters: list[tuple[Any, ...]]) -> None:
        """Do what messages say."""
        for kind, key, *rest in letters:
            if kind == "say":
                self.progress.say(*rest)
            elif kind == "start":
                self.end()  # what a lost worker had begun
                label, total, done, unit = rest
                self._bars[key] = self.progress.start(label, total, done=done, unit=unit)
            elif (bar := self._bars.get(key)) is None:
                continue  # a late word of a lost worker
            elif kind == "at":
                done, note = rest
                self.progress.advance(bar, done - bar.done)
                self.progress.note(bar, note)
            else:
                self.progress.finish(self._bars.pop(key))

    def end(self) -> None:
        """End bars that nobody will move any more."""
        for bar in self._bars.values():
            self.progress.finish(bar)
        self._bars.clear()
