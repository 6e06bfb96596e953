"""The loop in virtual time: what asyncio promises holds, and waiting is free."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import pytest

from nbdurable.testing import DeadlockError, Scheduler, VirtualLoop
from nbdurable.testing.scheduler import CALLBACKS_AT_ONE_TIME_MAX, EndlessError


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner


def now_s() -> float:
    return asyncio.get_running_loop().time()


# -- time --------------------------------------------------------------------------------------


def test_sleeping_takes_exactly_as_long_as_it_says(runner: asyncio.Runner):
    async def main() -> float:
        await asyncio.sleep(86_400 * 365)
        return now_s()

    assert runner.run(main()) == 86_400 * 365


def test_sleepers_wake_in_the_order_of_their_time_and_then_of_their_coming(runner: asyncio.Runner):
    woke: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woke.append(name)

    async def main() -> None:
        await asyncio.gather(sleep("c", 2), sleep("a", 1), sleep("b", 1), sleep("now", 0))

    runner.run(main())
    assert woke == ["now", "a", "b", "c"]


def test_a_timeout_is_virtual_too(runner: asyncio.Runner):
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3_600):
                await asyncio.sleep(7_200)
        return now_s()

    assert runner.run(main()) == 3_600


def test_cancelled_timers_neither_fire_nor_pile_up(runner: asyncio.Runner):
    fired: list[int] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for number in range(10_000):
            loop.call_later(60, fired.append, number).cancel()
        await asyncio.sleep(120)
        return len(loop._timers)

    assert runner.run(main()) < 1_000
    assert fired == []


def test_code_that_polls_sees_time_pass(runner: asyncio.Runner):
    """Else a loop of `sleep(0)` would stop the clock it waits for."""

    async def main() -> float:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.002, done.set_result, None)
        while not done.done():  # noqa: ASYNC110 - polling is what this is about.
            await asyncio.sleep(0)
        return now_s()

    assert runner.run(main()) >= 0.002


# -- asyncio's promises ------------------------------------------------------------------------


def test_callbacks_run_in_the_order_they_were_asked_for(runner: asyncio.Runner):
    ran: list[int] = []

    async def main() -> None:
        for number in range(5):
            asyncio.get_running_loop().call_soon(ran.append, number)
        await asyncio.sleep(0)

    runner.run(main())
    assert ran == [0, 1, 2, 3, 4]


def test_tasks_keep_their_names_contexts_and_results(runner: asyncio.Runner):
    who = contextvars.ContextVar("who", default="nobody")

    async def ask() -> str:
        return who.get()

    async def main() -> list[str]:
        who.set("ada")
        here = asyncio.create_task(ask(), name="named")
        there = asyncio.create_task(ask(), context=contextvars.Context())
        return [here.get_name(), await here, await there]

    assert runner.run(main()) == ["named", "ada", "nobody"]


def test_what_an_abandoned_generator_holds_is_freed(runner: asyncio.Runner):
    freed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            freed.append("numbers")

    async def main() -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(1)

    runner.run(main())
    assert freed == ["numbers"]


def test_an_exception_in_a_callback_is_handled_and_stops_nothing(runner: asyncio.Runner):
    met: list[Any] = []

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: met.append(context["exception"]))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return "went on"

    assert runner.run(main()) == "went on"
    assert [type(error) for error in met] == [ZeroDivisionError]


def test_threads_are_waited_for(runner: asyncio.Runner):
    """In real time, because that is what a thread takes."""
    gate = threading.Event()

    async def main() -> list[Any]:
        waiting = asyncio.create_task(asyncio.to_thread(gate.wait, 10))
        opened = await asyncio.to_thread(lambda: gate.set() or "opened")
        return [opened, await waiting]

    assert runner.run(main()) == ["opened", True]


def test_while_a_thread_works_timers_are_not_held_up(runner: asyncio.Runner):
    gate = threading.Event()

    async def main() -> bool:
        asyncio.get_running_loop().call_later(0.02, gate.set)
        return await asyncio.to_thread(gate.wait, 10)

    assert runner.run(main())


def test_sockets_are_refused_with_what_to_do_instead(runner: asyncio.Runner):
    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    with pytest.raises(NotImplementedError, match="`def` step"):
        runner.run(main())


def test_within_another_loop_it_refuses_to_run():
    async def main() -> None:
        loop = VirtualLoop()
        try:
            loop.run_forever()
        finally:
            loop.close()

    with pytest.raises(RuntimeError, match="from within another event loop"):
        asyncio.run(main())


# -- several loops -----------------------------------------------------------------------------


def crowd(seed: int) -> list[str]:
    """Three loops, as three threads would, each doing five things."""
    scheduler, ran = Scheduler(Random(seed)), []
    loops = [VirtualLoop(scheduler, name) for name in "abc"]

    async def work(name: str) -> None:
        for number in range(5):
            assert asyncio.get_running_loop().name == name  # type: ignore[attr-defined]
            ran.append(f"{name}{number}")
            await asyncio.sleep(0)

    tasks = [loop.create_task(work(loop.name)) for loop in loops]

    async def main() -> None:
        while not all(task.done() for task in tasks):  # noqa: ASYNC110 - they are of other loops.
            await asyncio.sleep(0.001)

    loops[0].run_until_complete(main())
    for loop in loops:
        loop.close()
    return ran


def test_loops_take_turns_in_an_order_drawn_from_the_seed():
    orders = {tuple(crowd(seed)) for seed in range(10)}
    assert len(orders) > 5
    for order in orders:
        for name in "abc":
            own = [entry for entry in order if entry[0] == name]
            assert own == sorted(own), "the order within a loop is asyncio's"


def test_the_same_seed_is_the_same_order():
    assert [crowd(seed) for seed in range(5)] == [crowd(seed) for seed in range(5)]


def test_nothing_of_a_closed_loop_runs_any_more():
    """As of a thread whose process was killed."""
    scheduler, ran = Scheduler(), []
    main_loop, other = VirtualLoop(scheduler, "main"), VirtualLoop(scheduler, "other")

    async def never_again() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            ran.append("unwound")

    async def main() -> None:
        other.create_task(never_again())
        await asyncio.sleep(0.5)
        other.close()
        other.call_soon_threadsafe(ran.append, "late")
        await asyncio.sleep(5)
        assert ran == []

    main_loop.run_until_complete(main())
    main_loop.close()
    other.bury()
    assert ran == ["unwound"]


# -- what cannot go on -------------------------------------------------------------------------


def test_waiting_for_what_never_comes_is_an_error_that_says_where(runner: asyncio.Runner):
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"test_virtual_loop\.py:\d+ in main"):
        runner.run(main())


def test_going_round_in_circles_is_an_error_where_a_bound_is_set():
    scheduler = Scheduler()
    scheduler.callbacks_max = 1_000

    async def main() -> None:
        while True:  # noqa: ASYNC110 - the circle.
            await asyncio.sleep(0)

    with (
        asyncio.Runner(loop_factory=lambda: VirtualLoop(scheduler)) as runner,
        pytest.raises(EndlessError, match="1000 callbacks"),
    ):
        runner.run(main())
    assert CALLBACKS_AT_ONE_TIME_MAX > 1_000


def test_importing_the_package_and_its_plugin_is_cheap():
    """The plugin is imported in every project that has nbdurable installed."""
    shown = subprocess.run(
        [sys.executable, "-c", "import nbdurable.testing.plugin, sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    ours = {name for name in shown.stdout.split() if name.startswith("nbdurable")}
    assert ours == {
        "nbdurable",
        "nbdurable.errors",
        "nbdurable.testing",
        "nbdurable.testing.plugin",
    }
    assert "duckdb" not in shown.stdout.split()
