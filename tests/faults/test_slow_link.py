"""The link of a process that has joined is slow, silent or cut: nobody else waits for it.

Both ends are in this process; between them is a wire that a test slows down.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from support.joined import JoinedEngine
from support.relay import Relay
from support.running import WAIT_S_MAX, until

from nbdurable import Context, Service
from nbdurable.invoker import attached
from nbdurable.sdk.definition import Definition
from nbdurable.server import links

there, here = Service("There"), Service("Here")
ran: list[int] = []
names: set[str] = set()
STEP_COUNT = 5


@there.handler()
async def work(ctx: Context, _: None) -> int:
    return sum([await ctx.run_typed(f"step {n}", lambda n=n: really(n)) for n in range(STEP_COUNT)])


@there.handler()
async def wait(ctx: Context, _: None) -> str:
    await ctx.run_typed("before", lambda: really(0))
    name, awakeable = ctx.awakeable(type_hint=str)
    names.add(name)
    return await awakeable


@here.handler()
async def echo(ctx: Context, number: int) -> int:
    return number


def really(n: int) -> int:
    ran.append(n)
    return n


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    names.clear()


class OverWire(JoinedEngine):
    """Joined over a wire of a test's own."""

    def __init__(self, *services: Definition, delay_s: float = 0.0) -> None:
        super().__init__(*services)
        self._delay_s = delay_s
        self._stack = ExitStack()

    def over(self, url: str) -> str:
        port = urlsplit(url).port
        assert port is not None
        self.relay = self._stack.enter_context(Relay(port, delay_s=self._delay_s))
        return f"http://127.0.0.1:{self.relay.port}"

    def close(self) -> None:
        super().close()
        self._stack.close()


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of silence, in a fifth of a second."""
    for module in (attached, links):
        monkeypatch.setattr(module, "PING_EVERY_S", 0.05)
        monkeypatch.setattr(module, "PONG_S_MAX", 0.2)


async def test_a_slow_link_makes_steps_slow_and_nothing_else():
    async with OverWire(there, delay_s=0.02) as joined:
        await joined.owner.client.register(here)
        working = asyncio.create_task(joined.client.service_call(work, None))
        while not working.done():
            assert await joined.owner.client.service_call(echo, 1) == 1
        assert await working == sum(range(STEP_COUNT))
    assert ran == list(range(STEP_COUNT))


async def test_while_a_link_is_silent_everybody_else_goes_on():
    """And what was on its way arrives once, when it speaks again."""
    async with OverWire(there) as joined:
        owner = joined.owner.client
        await owner.register(here)
        waiting = asyncio.create_task(joined.client.service_call(wait, None))
        async with asyncio.timeout(WAIT_S_MAX):
            while not names:  # noqa: ASYNC110 - a handler on another thread says it.
                await asyncio.sleep(0)
        joined.relay.hold()
        await owner.resolve_awakeable(names.copy().pop(), "heard")
        for number in range(20):
            assert await owner.service_call(echo, number) == number
        assert not waiting.done()
        joined.relay.pass_on()
        assert await waiting == "heard"
    assert ran == [0]


async def test_a_link_that_is_cut_in_the_middle_of_a_run_is_made_again():
    """The attempt is lost, which is no failure; the next one begins at the last record."""
    async with OverWire(there) as joined:
        sent = await joined.client.service_send(wait, None)
        await until(joined.owner, sent.invocation_id, lambda view, _: bool(view.open_awakeables))
        connected = joined.relay.connected_count
        joined.relay.cut()
        await until(joined.owner, sent.invocation_id, lambda view, _: view.attempt > 1)
        assert joined.relay.connected_count > connected
        await joined.owner.client.resolve_awakeable(names.copy().pop(), "heard")
        assert await joined.owner.client.attach(sent.invocation_id) == "heard"
        view = await joined.owner.client.invocation(sent.invocation_id)
        assert view.failure_count == 0
    assert ran == [0]


async def test_a_link_that_stays_silent_is_given_up_by_both_ends(quick_pings: None):
    """A wire that was pulled tells nobody; so both ends ask for a sign of life."""
    async with OverWire(there) as joined:
        sent = await joined.client.service_send(wait, None)
        await until(joined.owner, sent.invocation_id, lambda view, _: bool(view.open_awakeables))
        connected = joined.relay.connected_count
        joined.relay.hold()
        await until(joined.owner, sent.invocation_id, lambda view, _: view.status == "ready")
        joined.relay.pass_on()
        await until(joined.owner, sent.invocation_id, lambda view, _: view.attempt > 1)
        assert joined.relay.connected_count > connected
        await joined.owner.client.resolve_awakeable(names.copy().pop(), "heard")
        assert await joined.owner.client.attach(sent.invocation_id) == "heard"
    # A machine that is busy may be silent for a fifth of a second as well, in the middle of it.
    assert set(ran) == {0}
