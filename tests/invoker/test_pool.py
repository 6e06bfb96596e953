"""The threads of `def` steps: what ends is told once, in whatever thread it ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nbdurable.invoker.pool import StepThreads


def joined(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(30)
            assert not thread.is_alive()


async def test_what_ends_while_the_loop_is_busy_wakes_it_once() -> None:
    pool, loop = StepThreads(1, "busy"), asyncio.get_running_loop()
    wakes, wake = [], loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args: wakes.append(args) or wake(*args)
    results = [pool.run(lambda i=i: i, loop) for i in range(8)]
    pool.close()
    joined("busy-1")
    assert len(wakes) == 1
    assert await asyncio.gather(*results) == list(range(8))


async def test_what_was_cancelled_before_its_turn_is_not_called() -> None:
    pool, loop = StepThreads(1, "test"), asyncio.get_running_loop()
    go, called = threading.Event(), []
    first = pool.run(go.wait, loop)
    second = pool.run(lambda: called.append("second"), loop)
    third = pool.run(lambda: called.append("third"), loop)
    second.cancel()
    go.set()
    await asyncio.gather(first, third)
    assert called == ["third"]
    pool.close()


async def test_what_a_call_raises_is_raised_where_it_is_awaited() -> None:
    pool, loop = StepThreads(2, "test"), asyncio.get_running_loop()
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0, loop)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await pool.run(lambda: next(iter(())), loop)
    pool.close()


def test_a_call_that_outlives_its_loop_leaves_no_thread_behind() -> None:
    pool, go, over = StepThreads(1, "late"), threading.Event(), threading.Event()

    def late() -> None:
        go.wait()
        over.set()

    async def begin() -> None:
        pool.run(late, asyncio.get_running_loop())

    asyncio.run(begin())
    pool.close()
    go.set()
    assert over.wait(30)
    joined("late-1")
