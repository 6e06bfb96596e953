"""How answers of any thread get to the loop where they are awaited."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from nbdurable.client.returning import heard


async def test_what_is_answered_before_the_loop_turns_wakes_it_once() -> None:
    loop, asked = asyncio.get_running_loop(), [Future[int]() for _ in range(5)]
    waiting = [asyncio.ensure_future(heard(one)) for one in asked]
    await asyncio.sleep(0)
    wakes, wake = [], loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args: wakes.append(args) or wake(*args)
    for place, one in enumerate(asked):
        one.set_result(place)
    assert await asyncio.gather(*waiting) == list(range(5))
    assert len(wakes) == 1


async def test_an_error_is_raised_and_what_was_cancelled_is_cancelled() -> None:
    failed, cancelled = Future[int](), Future[int]()
    failed.set_exception(KeyError("inv_1"))
    cancelled.cancel()
    with pytest.raises(KeyError, match="inv_1"):
        await heard(failed)
    with pytest.raises(asyncio.CancelledError):
        await heard(cancelled)


async def test_what_no_future_can_hold_keeps_nobody_else_waiting() -> None:
    """A StopIteration is refused by asyncio; those behind it are told all the same."""
    odd, plain = Future[int](), Future[int]()
    waiting = [asyncio.ensure_future(heard(odd)), asyncio.ensure_future(heard(plain))]
    await asyncio.sleep(0)
    odd.set_exception(StopIteration())
    plain.set_result(1)
    told = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
    assert isinstance(told[0], RuntimeError)
    assert told[1] == 1


async def test_who_gives_up_cancels_what_was_asked() -> None:
    asked = Future[int]()
    waiting = asyncio.ensure_future(heard(asked))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asked.cancelled()


def test_a_thread_that_runs_one_loop_after_another_hears_on_each() -> None:
    async def hear() -> int:
        asked = Future[int]()
        asyncio.get_running_loop().call_soon(asked.set_result, 7)
        return await heard(asked)

    assert [asyncio.run(hear()) for _ in range(3)] == [7, 7, 7]
