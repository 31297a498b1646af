"""A replica's side of the ledger: the log of changes as :class:`storerec.pipeline.Live` reads and writes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from storerec.bundle.journal import Change
from storerec.errors import BundleError, StorerecError
from storerec.scale.cluster import needs_ray
from storerec.scale.ledger import LEASE_SECONDS, NAME, NAMESPACE

_WAIT_SECONDS = 120.0
"""Longest wait for a ledger that was killed or whose node was lost; Ray starts it anew in seconds."""

_PAUSE_SECONDS = 0.1
_MOST = 10_000
"""Changes in one answer, so that a long journal holds up nobody else."""


class LedgerLog:
    """A :class:`~storerec.bundle.journal.ChangeLog` that asks the ledger. For several threads.

    While the ledger is being started anew all calls wait for it: a replica that cannot know what others have written
    answers nothing rather than what was true before.

    Parameters
    ----------
    holder: who takes turns.

    Attributes
    ----------
    reloads: what the ledger counted requests to reload to when it was last asked; another ledger begins elsewhere.
    """

    def __init__(self, holder: str) -> None:
        self.holder, self.reloads = holder, 0

    @cached_property
    def actor(self) -> Any:
        """The ledger's handle, which stays good when Ray starts it anew."""
        return needs_ray().get_actor(NAME, namespace=NAMESPACE)

    def since(self, number: int = 0) -> list[Change]:
        """Changes after that ``number``, in order; BundleError where the journal cannot be read."""
        found: list[Change] = []
        while some := self.ask("since", number, _MOST):
            found += some
            number = some[-1].number
            if len(some) < _MOST:
                break
        return found

    def version(self) -> int:
        """Number of the last change, as it is after the call began: one question to the ledger."""
        last, self.reloads = self.ask("state")
        return last

    def write(self, changes: Sequence[Change], *, after: int) -> int | None:
        """As :meth:`Journal.write`; on disk when it returns, once, however often the ledger was killed meanwhile."""
        return self.ask("write", list(changes), after, later="write_again")

    @contextmanager
    def turn(self, work: str) -> Iterator[None]:
        """Wait until no other replica does the same work; the turn of one that was killed ends by itself."""
        while not self.ask("take_turn", work, self.holder):
            time.sleep(_PAUSE_SECONDS)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(work, ended), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            self.ask("end_turn", work, self.holder)

    def close(self) -> None:
        """Nothing is open here."""

    def ask(self, method: str, *args: Any, later: str | None = None) -> Any:
        """Have a method of the ledger called, until it answers; ``later`` is the method of all but the first attempt.

        Raises
        ------
        StorerecError: what it raised there.
        BundleError: the ledger cannot be reached.
        """
        ray = needs_ray()
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                told = ray.get(getattr(self.actor, method).remote(*args), timeout=_WAIT_SECONDS)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
                if time.monotonic() > until:
                    raise BundleError(f"the ledger of changes cannot be reached ({type(error).__name__})") from None
                method = later or method
                time.sleep(_PAUSE_SECONDS)
                continue
            if isinstance(told, StorerecError):
                raise told
            return told

    def _renew(self, work: str, ended: threading.Event) -> None:
        while not ended.wait(LEASE_SECONDS / 4):
            with suppress(StorerecError):
                self.ask("take_turn", work, self.holder)
