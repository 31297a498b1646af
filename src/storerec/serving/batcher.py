"""Gathers what is asked at the same time into batches for one worker thread; knows nothing of what the work is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from storerec.serving.refusals import DeadlineError, NotReadyError, QueueFullError

_RECENT = 0.2
"""Weight of the latest batch in the time that a job takes."""


@dataclass(frozen=True)
class Kind:
    """One kind of work.

    Attributes
    ----------
    run: from the jobs of a batch to as many results, in order; called on the worker thread. A result that is an
        exception is raised for its own client, an exception that is raised for all of the batch.
    max_batch: most jobs of a batch.
    max_wait: seconds that the first job of a batch waits for others.
    """

    run: Callable[[list[Any]], Sequence[Any]]
    max_batch: int = 1
    max_wait: float = 0.0


@dataclass(frozen=True)
class BatchReport:
    """What is told of a batch that was run: its kind, jobs, seconds of work, and seconds that each job had waited."""

    kind: str
    size: int
    seconds: float
    waited: tuple[float, ...]


@dataclass(eq=False)
class _Job:
    kind: str
    content: Any
    future: asyncio.Future[Any]
    arrived: float
    deadline: float


class Batcher:
    """A bounded queue before one thread.

    The oldest job decides which kind of work comes next, and those of its kind that wait go with it. Jobs that wait
    have no answer yet, so the order of kinds is free. A job whose client has gone, or whose deadline has passed, is not
    begun.

    Parameters
    ----------
    kinds: the work by name.
    queue_size: most jobs that wait.
    seconds: time that a job has, from :meth:`ask` to its result.
    report: called after each batch, on the event loop.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        *,
        queue_size: int,
        seconds: float,
        report: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._kinds, self._queue_size, self._seconds, self._report = dict(kinds), queue_size, seconds, report
        self._queue: list[_Job] = []
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storerec-model")
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._seconds_a_job = 0.0
        self._idle_since = -math.inf

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to work; on the event loop that will ask."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Take no more jobs, finish those that wait, and end the thread."""
        self._stopping = True
        self._changed.set()
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._thread.shutdown)

    async def ask(self, kind: str, content: Any) -> Any:
        """Have one job done, and give its result.

        Raises
        ------
        QueueFullError: too many wait already; it says when to come back.
        DeadlineError: there was no result in time. Work that had begun is not taken back.
        NotReadyError: the batcher is stopping.
        """
        if len(self._queue) >= self._queue_size:
            raise QueueFullError(
                f"{len(self._queue)} requests are waiting, which is as many as may", retry_after=self._wait_ahead()
            )
        return await self._result(kind, content, self._seconds)

    async def insist(self, kind: str, content: Any) -> Any:
        """As :meth:`ask`, without a limit of the queue or a deadline: for work of the service itself."""
        return await self._result(kind, content, math.inf)

    async def _result(self, kind: str, content: Any, seconds: float) -> Any:
        if self._stopping:
            raise NotReadyError("the service is stopping", retry_after=1.0)
        loop = asyncio.get_running_loop()
        now = loop.time()
        job = _Job(kind, content, loop.create_future(), now, now + seconds)
        self._queue.append(job)
        self._changed.set()
        limit = asyncio.timeout_at(None if math.isinf(seconds) else job.deadline)
        try:
            async with limit:
                return await job.future
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._too_late(job) from None
        finally:  # the client may have been cancelled, too
            if job in self._queue:
                self._queue.remove(job)

    def _too_late(self, job: _Job) -> DeadlineError:
        begun = "" if job in self._queue else "; it had begun, and what it changes may be changed all the same"
        return DeadlineError(f"no answer within {self._seconds:g} seconds{begun}", retry_after=self._wait_ahead())

    def _wait_ahead(self) -> float:
        """Seconds until what waits now will be done; at least one."""
        return max(1.0, len(self._queue) * self._seconds_a_job)

    async def _work(self) -> None:
        while True:
            self._changed.clear()
            if self._queue:
                await self._gather(self._queue[0])
                if batch := self._taken():
                    await self._run(batch)
            elif self._stopping:
                return
            else:
                await self._changed.wait()

    async def _gather(self, first: _Job) -> None:
        """Wait until the batch of ``first`` is full, or has waited long enough, or nobody wants it any more.

        What came while the model was busy waits a little too: those just answered often ask again at once. Without that
        eight clients that ask one thing after another fall into two groups of four, which take turns and twice as long.
        """
        kind = self._kinds[first.kind]
        while not self._stopping and first in self._queue:
            alike = sum(job.kind == first.kind for job in self._queue)
            if alike >= kind.max_batch:
                return
            since = first.arrived if alike < len(self._queue) else max(first.arrived, self._idle_since)
            until = min(since, first.deadline - 2 * kind.max_wait) + kind.max_wait  # with time left to be answered in
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _taken(self) -> list[_Job]:
        """Take the next batch from the queue; jobs past their deadline are told so and left out."""
        now, batch = asyncio.get_running_loop().time(), list[_Job]()
        for job in list(self._queue):
            if job.deadline <= now:
                if not job.future.done():
                    job.future.set_exception(self._too_late(job))
                self._queue.remove(job)
            elif not batch or (job.kind == batch[0].kind and len(batch) < self._kinds[job.kind].max_batch):
                batch.append(job)
                self._queue.remove(job)
        return batch

    async def _run(self, batch: list[_Job]) -> None:
        loop, kind = asyncio.get_running_loop(), batch[0].kind
        begun = loop.time()
        contents = [job.content for job in batch]
        results = await loop.run_in_executor(self._thread, _results, self._kinds[kind].run, contents)
        self._idle_since = loop.time()
        seconds = self._idle_since - begun
        self._seconds_a_job += _RECENT * (seconds / len(batch) - self._seconds_a_job)
        for job, result in zip(batch, results, strict=True):
            if job.future.done():
                continue  # its client has gone
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        self._report(BatchReport(kind, len(batch), seconds, tuple(begun - job.arrived for job in batch)))


def _results(run: Callable[[list[Any]], Sequence[Any]], contents: list[Any]) -> Sequence[Any]:
    """Results of a batch, one for each job whatever happens."""
    try:
        results = run(contents)
        if len(results) != len(contents):
            raise RuntimeError(f"{len(contents)} jobs gave {len(results)} results")
    except Exception as error:  # it belongs to those who asked; the thread goes on
        return [error] * len(contents)
    return results
