"""The micro-batcher, with work that is arithmetic."""

import asyncio
import threading
import time

import pytest

from storerec.serving.batcher import Batcher, Kind
from storerec.serving.refusals import DeadlineError, NotReadyError, QueueFullError
from tests.serving.asynchronous import asynchronous, until


class Bench:
    """A batcher whose kind ``double`` can be held up, and a note of all batches it ran."""

    def __init__(self, *, max_batch=8, max_wait=0.0, queue_size=100, seconds=20.0):
        self.ran, self.reports = [], []
        self.go = threading.Event()
        self.go.set()
        kinds = {"double": Kind(self.double, max_batch, max_wait), "single": Kind(self.single)}
        self.batcher = Batcher(kinds, queue_size=queue_size, seconds=seconds, report=self.reports.append)

    def double(self, numbers):
        self.ran.append(numbers)
        self.go.wait(20)
        return [2 * number for number in numbers]

    def single(self, jobs):
        self.ran.append(jobs)
        if jobs == ["raise"]:
            raise ZeroDivisionError("of all")
        return [ValueError("of one") if job == "refuse" else job for job in jobs]

    async def __aenter__(self):
        self.batcher.start()
        return self

    async def __aexit__(self, *_):
        self.go.set()
        await self.batcher.stop()

    def ask(self, content, kind="double"):
        return asyncio.create_task(self.batcher.ask(kind, content))

    async def hold(self, content=0):
        """Keep the thread busy with one job until ``go`` is set."""
        self.go.clear()
        task = self.ask(content)
        await until(lambda: self.ran and self.ran[-1] == [content])
        return task


@asynchronous
async def test_what_comes_while_the_thread_is_busy_shares_batches_in_its_order():
    async with Bench(max_batch=4) as bench:
        first = await bench.hold()
        tasks = [bench.ask(number) for number in range(1, 11)]
        await until(lambda: bench.batcher.depth == 10)
        bench.go.set()
        assert await asyncio.gather(first, *tasks) == [2 * number for number in range(11)]
        assert bench.ran == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        assert [(one.kind, one.size) for one in bench.reports] == [("double", n) for n in (1, 4, 4, 2)]
        assert all(len(one.waited) == one.size for one in bench.reports)


@asynchronous
async def test_the_first_job_waits_for_others_but_no_longer_than_it_must():
    async with Bench(max_batch=3, max_wait=0.4) as bench:
        begun = time.monotonic()
        one = bench.ask(1)
        await asyncio.sleep(0.05)
        assert await asyncio.gather(one, bench.ask(2)) == [2, 4]
        assert 0.35 < time.monotonic() - begun < 5
    async with Bench(max_batch=3, max_wait=15) as bench:
        begun = time.monotonic()
        assert await asyncio.gather(*[bench.ask(number) for number in range(3)]) == [0, 2, 4]
        assert time.monotonic() - begun < 5  # a full batch waits for nobody
        alone = bench.ask("alone", "single")  # and what is never gathered does not either
        assert await asyncio.wait_for(alone, 5) == "alone"
        assert [len(one) for one in bench.ran] == [3, 1]


@asynchronous
async def test_a_full_queue_refuses_at_once_says_when_to_come_back_and_keeps_what_waits():
    async with Bench(queue_size=2) as bench:
        first = await bench.hold()
        waiting = [bench.ask(1), bench.ask(2)]
        await until(lambda: bench.batcher.depth == 2)
        with pytest.raises(QueueFullError) as refused:
            await bench.batcher.ask("double", 3)
        assert refused.value.retry_after >= 1
        urgent = asyncio.create_task(bench.batcher.insist("single", "urgent"))
        await until(lambda: bench.batcher.depth == 3)  # the service's own work is not refused
        bench.go.set()
        assert await asyncio.gather(first, *waiting, urgent) == [0, 2, 4, "urgent"]
        assert await bench.batcher.ask("double", 3) == 6


@asynchronous
async def test_a_job_past_its_deadline_is_given_up_and_never_begun():
    async with Bench(seconds=0.2) as bench:
        first = await bench.hold()
        begun = time.monotonic()
        with pytest.raises(DeadlineError) as late:
            await bench.batcher.ask("double", 1)
        assert 0.15 < time.monotonic() - begun < 5
        assert "begun" not in str(late.value)
        assert bench.batcher.depth == 0
        with pytest.raises(DeadlineError, match="it had begun"):  # that one's time is over as well
            await first
        bench.go.set()
        assert await bench.batcher.ask("double", 2) == 4
        assert bench.ran == [[0], [2]]


@asynchronous
async def test_a_deadline_that_passes_while_the_loop_is_busy_is_seen_when_the_job_would_begin():
    async with Bench(seconds=0.1, max_wait=0.05) as bench:
        task = bench.ask(1)
        await asyncio.sleep(0)  # it is in the queue now
        time.sleep(0.3)
        with pytest.raises(DeadlineError):
            await task
        assert bench.ran == []


@asynchronous
async def test_a_job_whose_client_has_gone_is_not_run():
    async with Bench() as bench:
        first = await bench.hold()
        gone, stays = bench.ask(1), bench.ask(2)
        await until(lambda: bench.batcher.depth == 2)
        gone.cancel()
        first.cancel()  # that one is under way: its result goes nowhere
        await until(lambda: bench.batcher.depth == 1)
        bench.go.set()
        assert await stays == 4
        assert bench.ran == [[0], [2]]


@asynchronous
async def test_a_client_that_goes_while_its_batch_gathers_takes_nobody_along():
    async with Bench(max_wait=0.3) as bench:
        gone = bench.ask(1)
        await until(lambda: bench.batcher.depth == 1)
        gone.cancel()
        assert await bench.ask(2) == 4
        assert bench.ran == [[2]]


@asynchronous
async def test_an_error_goes_to_whom_it_belongs_and_the_thread_goes_on():
    async with Bench() as bench:
        with pytest.raises(ValueError, match="of one"):
            await bench.batcher.ask("single", "refuse")
        with pytest.raises(ZeroDivisionError, match="of all"):
            await bench.batcher.ask("single", "raise")
        assert await bench.batcher.ask("single", "fine") == "fine"


@asynchronous
async def test_results_of_another_number_are_an_error_and_not_somebody_elses():
    batcher = Batcher({"odd": Kind(lambda jobs: jobs[1:], 8)}, queue_size=8, seconds=20)
    batcher.start()
    with pytest.raises(RuntimeError, match="1 jobs gave 0 results"):
        await batcher.ask("odd", 1)
    await batcher.stop()


@asynchronous
async def test_kinds_take_turns_by_their_oldest_job():
    async with Bench() as bench:
        first = await bench.hold()
        asked = [(1, "double"), ("a", "single"), (2, "double"), ("b", "single")]
        tasks = []
        for content, kind in asked:
            tasks.append(bench.ask(content, kind))
            await asyncio.sleep(0)
        bench.go.set()
        await asyncio.gather(first, *tasks)
        assert bench.ran == [[0], [1, 2], ["a"], ["b"]]


@asynchronous
async def test_a_stop_answers_what_waits_and_takes_no_more():
    bench = Bench(max_batch=2)
    async with bench:
        first = await bench.hold()
        waiting = [bench.ask(number) for number in (1, 2, 3)]
        await until(lambda: bench.batcher.depth == 3)
        stop = asyncio.create_task(bench.batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError):
            await bench.batcher.ask("double", 4)
        bench.go.set()
        await stop
        assert await asyncio.gather(first, *waiting) == [0, 2, 4, 6]


@asynchronous
async def test_what_waited_is_joined_by_those_just_answered():
    async with Bench(max_batch=4, max_wait=0.5) as bench:
        first = await bench.hold(1)  # alone: nobody came in its half second
        second = bench.ask(2)
        await until(lambda: bench.batcher.depth == 1)
        await asyncio.sleep(0.6)  # more than it would wait for others, were the model idle
        bench.go.set()
        assert await first == 2
        again = bench.ask(3)
        assert await asyncio.gather(second, again) == [4, 6]
        assert bench.ran == [[1], [2, 3]]


@asynchronous
async def test_nobody_waits_for_others_before_another_kind_or_up_to_the_deadline():
    async with Bench(max_batch=4, max_wait=0.5) as bench:
        first = await bench.hold(1)
        second, other = bench.ask(2), bench.ask("one", "single")
        await until(lambda: bench.batcher.depth == 2)
        await asyncio.sleep(0.6)
        bench.go.set()
        await first
        again = bench.ask(3)
        await asyncio.gather(second, other, again)
        assert bench.ran == [[1], [2], ["one"], [3]]
    async with Bench(max_batch=4, max_wait=5.0, seconds=2.0) as bench:
        assert await bench.ask(1) == 2
