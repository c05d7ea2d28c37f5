"""The work queue: each key once, one worker a key, failures are retried with growing pauses."""

import asyncio
from collections import Counter

import pytest

from model_garden.controller import queue as queues
from model_garden.controller.queue import WorkQueue


class Work:
    """Notes what is worked on; holds each key until it is let go."""

    def __init__(self) -> None:
        self.queue: WorkQueue[str] = WorkQueue()
        self.seen: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.changed = asyncio.Condition()
        self.answer: float | None = None
        self.failures = 0

    async def __call__(self, key: str) -> float | None:
        self.now[key] += 1
        assert self.now[key] == 1, "never two workers on one key"
        async with self.changed:
            self.seen[key] += 1
            self.changed.notify_all()
        await self.gate.wait()
        self.now[key] -= 1
        if self.failures:
            self.failures -= 1
            raise RuntimeError("asked to fail")
        return self.answer

    async def until(self, key: str, times: int) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.seen[key] >= times)


def run(scenario, workers: int = 4) -> Work:
    async def main() -> Work:
        work = Work()
        running = asyncio.create_task(work.queue.run(workers, work))
        try:
            await scenario(work)
        finally:
            running.cancel()
            await asyncio.wait([running])
        return work

    return asyncio.run(main())


def test_a_key_added_many_times_is_worked_on_once() -> None:
    async def scenario(work: Work) -> None:
        for _ in range(5):
            work.queue.add("a")
        work.queue.add("b")
        work.gate.set()
        await work.until("b", 1)

    assert run(scenario, workers=1).seen == {"a": 1, "b": 1}


def test_a_key_added_while_it_is_worked_on_is_worked_on_once_more() -> None:
    async def scenario(work: Work) -> None:
        work.queue.add("a")
        await work.until("a", 1)
        work.queue.add("a")
        work.queue.add("a")
        work.gate.set()
        await work.until("a", 2)

    assert run(scenario).seen["a"] == 2


def test_no_more_keys_at_once_than_workers() -> None:
    async def scenario(work: Work) -> None:
        for key in "abcde":
            work.queue.add(key)
        await work.until("b", 1)
        assert len(work.queue) == 3

    assert sum(run(scenario, workers=2).seen.values()) == 2


def test_a_key_is_worked_on_again_after_the_time_its_work_returned() -> None:
    async def scenario(work: Work) -> None:
        work.answer = 0.01
        work.gate.set()
        work.queue.add("a")
        await work.until("a", 3)

    run(scenario)


def test_the_earlier_of_two_times_counts() -> None:
    async def scenario(work: Work) -> None:
        work.gate.set()
        work.queue.add_after("a", 3600)
        work.queue.add_after("a", 0.01)
        work.queue.add_after("a", 3600)
        await work.until("a", 1)

    run(scenario)


def test_a_failure_is_retried_and_the_pauses_double(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(work: Work) -> None:
        work.failures = 3
        work.gate.set()
        work.queue.add("a")
        await work.until("a", 4)

    before, queues.FIRST_PAUSE_SECONDS = queues.FIRST_PAUSE_SECONDS, 0.01
    try:
        run(scenario)
    finally:
        queues.FIRST_PAUSE_SECONDS = before
    assert caplog.text.count("asked to fail") >= 3
