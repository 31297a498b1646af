"""What a replica's service asks of the others, by way of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from storerec.scale.cluster import needs_ray
from storerec.scale.ledger import LEASE_SECONDS
from storerec.scale.ledger_log import LedgerLog

_RELOAD = "reload"
_PAUSE_SECONDS = 0.25
_MOST_RELOADS = 1000
"""A count that is further from the one before is that of another ledger: each begins with its time in nanoseconds."""


class ReplicaPeers:
    """The :class:`~storerec.serving.peers.Peers` of one replica. For one event loop."""

    def __init__(self, log: LedgerLog) -> None:
        self.name, self._log = log.holder, log
        self._asked: asyncio.Task[int | None] | None = None
        self._next: asyncio.Task[int | None] | None = None
        self._reloads: int | None = None

    async def newest(self) -> int | None:
        """Number of the last change; one question at a time, whose answer is for all that waited when it was asked."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._asked))
        return await asyncio.shield(self._next)

    async def _after(self, asked: asyncio.Task[int | None] | None) -> int | None:
        if asked is not None:
            await asyncio.wait([asked])
        self._asked, self._next = self._next, None  # who comes now may have read what was written since: the next one
        ray = needs_ray()
        try:
            told = await self._log.actor.state.remote()
        except ray.exceptions.RayError:
            return None
        return told[0] if isinstance(told, tuple) else None

    def loads(self) -> None:
        """A bundle is about to be read: what is asked for from now on is asked of the one that comes after it."""
        self._log.version()
        self._reloads = self._log.reloads

    def reload_asked(self) -> bool:
        """Whether a reload was asked for, as the log knows from its last question."""
        before, self._reloads = self._reloads, self._log.reloads
        return before is not None and 0 < self._reloads - before < _MOST_RELOADS

    @asynccontextmanager
    async def reload_turn(self) -> AsyncIterator[None]:
        """Wait until no other replica loads; the turn of one that was killed ends by itself."""
        while not await asyncio.to_thread(self._log.ask, "take_turn", _RELOAD, self.name):
            await asyncio.sleep(_PAUSE_SECONDS)
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.to_thread(self._log.ask, "end_turn", _RELOAD, self.name)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            with suppress(Exception):
                await asyncio.to_thread(self._log.ask, "take_turn", _RELOAD, self.name)
