"""The one process that has a bundle's journal, where several replicas on several nodes change the catalogue."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from storerec.bundle.journal import Change, Journal
from storerec.errors import StorerecError

NAMESPACE, NAME = "storerec", "storerec-ledger"
"""Where the actor is found."""

LEASE_SECONDS = 20.0
"""Time after which a turn is over that nobody has renewed: its holder was killed."""


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """Give errors of ours as values: raised in an actor they would come with the traces of two processes."""

    @functools.wraps(method)
    def run(*args: Any) -> Any:
        try:
            return method(*args)
        except StorerecError as error:
            return error

    return run


class Ledger:
    """Class of the actor: the journal of a bundle, and whose turn it is. One call at a time.

    SQLite on a file system that several machines share keeps nothing safe from two writers, so nobody else opens the
    file. What must not be lost is in it; the rest (turns, requests to reload) may be forgotten when the process is
    killed, and is given out anew by the next one.

    Parameters
    ----------
    bundle: its folder.
    """

    def __init__(self, bundle: Path) -> None:
        self._journal = Journal.beside(bundle)
        self._turns: dict[str, tuple[str, float]] = {}
        # begins far above what any ledger before this one counted to, so that a new one is not taken for a request
        self._reloads = time.time_ns()
        self._failures: list[Exception] = []
        self._attended = time.monotonic()

    # changes

    @_told
    def state(self) -> tuple[int, int]:
        """Number of the last change, and a number that each request to reload adds one to."""
        return self._journal.last(), self._reloads

    @_told
    def since(self, number: int, most: int) -> list[Change]:
        """Changes after ``number``, ``most`` of them."""
        return self._journal.since(number, most)

    @_told
    def write(self, changes: Sequence[Change], after: int) -> int | None:
        """As :meth:`Journal.write`."""
        return self._journal.write(changes, after=after)

    @_told
    def write_again(self, changes: Sequence[Change], after: int) -> int | None:
        """As :meth:`write`, where an earlier call may have written them before its answer was lost."""
        there = self._journal.since(after, len(changes)) if changes else []
        if there and [_content(one) for one in there] == [_content(one) for one in changes]:
            return there[-1].number
        return self._journal.write(changes, after=after)

    # turns

    def take_turn(self, work: str, holder: str) -> bool:
        """Take or renew the turn of ``work``; False while another has it."""
        now = time.monotonic()
        other, until = self._turns.get(work, (holder, now))
        if other != holder and until > now:
            return False
        self._turns[work] = holder, now + LEASE_SECONDS
        return True

    def end_turn(self, work: str, holder: str) -> None:
        """Give it to whoever asks next."""
        if self._turns.get(work, ("", 0.0))[0] == holder:
            del self._turns[work]

    def ask_reload(self) -> None:
        """Have all replicas load the bundle anew."""
        self._reloads += 1

    # the program that started all

    def fail(self, error: Exception) -> None:
        """Note why a replica could not load the bundle."""
        self._failures.append(error)

    def attend(self) -> list[Exception]:
        """Say that the program that started it is alive; gives what failed since."""
        self._attended = time.monotonic()
        told, self._failures = self._failures, []
        return told

    def unattended(self) -> float:
        """Seconds since the program that started it was last heard of."""
        return time.monotonic() - self._attended


def _content(change: Change) -> Change:
    """A change without what the journal gives it: its number, and the training a changed text counts for."""
    return replace(change, number=0, training="" if change.kind == "update" else change.training)
