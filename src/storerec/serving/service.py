"""The service without HTTP: one model, its queue, its cache, and the change to a new bundle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from storerec.errors import StorerecError
from storerec.pipeline.answers import Explanation
from storerec.pipeline.live import Live
from storerec.pipeline.requests import RecommendAnswer, RecommendRequest, ScoreAnswer, ScoreRequest
from storerec.pipeline.why import Why
from storerec.serving.batcher import Batcher
from storerec.serving.cache import AnswerCache
from storerec.serving.config import ServingConfig
from storerec.serving.insight import About, Map
from storerec.serving.metrics import Metrics
from storerec.serving.peers import Peers
from storerec.serving.refusals import NotReadyError, RefusalError
from storerec.serving.reload import BundleWatch
from storerec.serving.worker import ItemStatus, NewItem, Worker

_log = logging.getLogger("storerec.serving")

_PEERS_SECONDS = 2.0
"""How often to look what peers ask for, where nobody looks for new bundles."""

_LONGEST_PAUSE = 128
"""Most looks between two attempts to load a bundle that could not be loaded."""


class Service:
    """Answers from the bundle of a folder, for many clients at a time, on one event loop.

    Parameters
    ----------
    folder: the bundle or run folder; watched for a new bundle.
    load: reads it. It is called on other threads, also while the bundle loaded before still answers.
    peers: others that answer from the same folder; None where this one is alone.

    Attributes
    ----------
    folder: as given.
    failure: why the first load failed, if it did.
    settled: set when the first load has ended, well or not.
    """

    def __init__(
        self, folder: Path, load: Callable[[], Live], config: ServingConfig, *, peers: Peers | None = None
    ) -> None:
        self.folder, self.config, self.metrics = folder, config, Metrics(replica=None if peers is None else peers.name)
        self._peers = peers
        self.failure: Exception | None = None
        self.settled = asyncio.Event()
        self._load, self._watch = load, BundleWatch(folder)
        self._worker = Worker()
        self._batcher = Batcher(
            self._worker.kinds(config),
            queue_size=config.queue_size,
            seconds=config.deadline_seconds,
            report=self.metrics.batch,
        )
        self.metrics.watch_depth(lambda: self._batcher.depth)
        self._cache = AnswerCache[RecommendAnswer](config.cache_size)
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self.ready = False

    # life

    def start(self) -> None:
        """Begin to load and to work; returns at once."""
        self._batcher.start()
        self._spawn(self._first_load())

    async def stop(self) -> None:
        """Finish what was asked, then close. A load under way is waited for."""
        self._set_ready(False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._loading:
            await self._batcher.insist("swap", None)
        await self._batcher.stop()

    async def loaded(self) -> None:
        """Wait for the first load; raises what it raised."""
        await self.settled.wait()
        if self.failure is not None:
            raise self.failure

    def reload_soon(self) -> None:
        """Load the folder's bundle anew while the present one answers."""
        self._spawn(self._reload())

    # questions

    async def recommend(self, request: RecommendRequest) -> RecommendAnswer:
        """The next items of one user, from the cache where nothing changed since.

        Raises
        ------
        StorerecError: the request cannot be answered.
        RefusalError: there is no room, no time, or no model.
        """
        asked, known = _key(request), self._worker.version
        found = self._cache.get(known, asked) if self.ready else None
        if found is not None and await self._is_newest(known[1]):
            self.metrics.cache_hits.inc()
            return found
        version, answer = await self._ask("recommend", request)
        self.metrics.cache_misses.inc()
        self._cache.put(version, asked, answer)
        return answer

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Scores of one user's candidates; raises as :meth:`recommend`."""
        return await self._ask("score", request)

    async def add(self, items: Sequence[NewItem]) -> list[ItemStatus]:
        """Add items; they are on disk when this returns. Raises as :meth:`recommend`."""
        return await self._ask("add", items)

    async def remove(self, item_id: str) -> ItemStatus:
        """Take an item out of all lists; raises as :meth:`recommend`, and UnknownItemError."""
        return await self._ask("remove", item_id)

    async def explain(self, item_id: str, neighbours: int) -> Explanation:
        """An item's text, codes and neighbours; raises as :meth:`recommend`, and UnknownItemError."""
        return await self._ask("explain", (item_id, neighbours))

    async def search(self, text: str, limit: int) -> list[tuple[str, str]]:
        """Ids and titles of items whose titles contain ``text``; raises as :meth:`recommend`."""
        return await self._ask("search", (text, limit))

    async def why(self, history: Sequence[str], item_id: str, others: int) -> Why:
        """How a history leads to an item; raises as :meth:`recommend`, and UnknownItemError."""
        return await self._ask("why", (history, item_id, others))

    async def map(self, attribute: str | None, most: int, also: Sequence[str]) -> Map:
        """Items in two dimensions; raises as :meth:`recommend`."""
        return await self._ask("map", (attribute, most, also))

    async def about(self) -> About:
        """What is served; raises as :meth:`recommend`."""
        return await self._ask("about", None)

    async def _ask(self, kind: str, content: Any) -> Any:
        if not self.ready:
            raise NotReadyError("the model is not loaded, or the service is stopping", retry_after=1.0)
        try:
            return await self._batcher.ask(kind, content)
        finally:
            self.metrics.items.set(self._worker.items)

    async def _is_newest(self, number: int) -> bool:
        """Whether no peer has answered a change after ``number``: its client may ask here next."""
        if self._peers is None:
            return True
        try:
            async with asyncio.timeout(self.config.deadline_seconds):
                newest = await self._peers.newest()
        except TimeoutError:
            return False
        return newest is not None and newest <= number

    # loading

    async def _first_load(self) -> None:
        try:
            await self._load_and_swap()
        except Exception as error:
            self.failure = error
            return
        finally:
            self.settled.set()
        self._set_ready(True)
        if self.config.reload_seconds or self._peers is not None:
            self._spawn(self._look_around())

    async def _reload(self) -> bool:
        """Load the bundle anew; whether that went well."""
        await self.settled.wait()
        try:
            async with nullcontext() if self._peers is None else self._peers.reload_turn():
                await self._load_and_swap()
        except Exception as error:
            self.metrics.reloads.labels("failed").inc()
            ours = isinstance(error, StorerecError | RefusalError)
            _log.error("the new bundle was not loaded, the old one goes on: %s", error, exc_info=not ours)
            return False
        self.metrics.reloads.labels("done").inc()
        _log.warning("the bundle was loaded anew")
        return True

    async def _load_and_swap(self) -> None:
        """Load on a thread of its own, and take the new model's turn between two batches."""
        async with self._loading:
            # A thread that ends: OpenMP's workers stay with the thread they were made for, and where there are more of
            # them than cores, those of the model's thread sleep between any two operations.
            own = ThreadPoolExecutor(1, thread_name_prefix="storerec-load")
            loading = asyncio.get_running_loop().run_in_executor(own, self._load)
            own.shutdown(wait=False)
            try:
                live = await asyncio.shield(loading)
            except asyncio.CancelledError:  # the thread cannot be stopped, and what it opens must be closed
                with suppress(Exception):
                    (await loading).close()
                raise
            try:
                await self._batcher.insist("swap", live)
            except Exception:
                live.close()
                raise
            self.metrics.items.set(self._worker.items)

    async def _look_around(self) -> None:
        """See every now and then whether there is a new bundle, and what other processes changed.

        Where there are peers a bundle that could not be loaded is tried again, with growing pauses: they would else
        answer from different bundles for ever.
        """
        pause = looks = 0  # looks left until the next attempt, of as many as the last pause had
        while True:
            await asyncio.sleep(self.config.reload_seconds or _PEERS_SECONDS)
            asked = self._peers is not None and self._peers.reload_asked()
            new = self.config.reload_seconds > 0 and self._watch.changed()
            looks -= 1
            if new or asked or (pause and looks <= 0):
                worked = await self._reload() or self._peers is None
                pause = looks = 0 if worked else min(max(2, 2 * pause), _LONGEST_PAUSE)
            try:
                await self._batcher.insist("look", None)
            except Exception as error:
                _log.error("the journal of changes cannot be read: %s", error)

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        self.metrics.ready.set(ready)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(request: RecommendRequest) -> tuple[object, ...]:
    where = tuple(sorted((name, tuple(sorted(values))) for name, values in request.where.items()))
    excluded = frozenset(request.exclude), request.exclude_history
    return request.history, request.k, *excluded, where, request.new_share
