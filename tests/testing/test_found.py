"""What simulations have found, each by hand and as small as it can be; the seeds are in seeds.txt.

Each test is about whole processes in virtual time, where a commit takes as long as one likes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from nbdurable import Context, HttpError, ObjectContext, Service, VirtualObject
from nbdurable.client.local import LocalClient
from nbdurable.core.proposals import CloseLink, PurgeInvocation
from nbdurable.store.memory import MemoryStore
from nbdurable.testing import VirtualLoop
from nbdurable.testing.env import DurableEnv
from nbdurable.testing.process import Process
from nbdurable.testing.programs import INACTIVITIES, LAYERS, Cast, Stage

# Long enough for anything to arrive while it is under way.
COMMIT_S = 10.0


def in_virtual_time(main: Callable[[Process, LocalClient], Any], *services: Any) -> Any:
    """Run the test on a process whose commits take their time."""

    async def live() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        process = Process(loop.scheduler, MemoryStore(), commit_s=lambda: COMMIT_S / 2)
        await process.start()
        client = LocalClient(process.engine, process.link)
        for service in services:
            await client.register(service)
        try:
            return await main(process, client)
        finally:
            await process.close()
            process.bury()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(live())


def test_a_result_reaches_its_caller_though_it_is_purged_in_the_same_commit():
    """The engine once died of it: what was to be published was not there any more."""
    service = Service("S")
    began = []

    @service.handler()
    async def handle(ctx: Context) -> str:
        began.append(1)
        await asyncio.sleep(COMMIT_S * 1.5)
        return "done"

    async def main(process: Process, client: LocalClient) -> str:
        sent = await client.service_send(handle, None)
        attached = asyncio.create_task(client.attach(sent.invocation_id))
        while not began:  # noqa: ASYNC110 - the handler runs on another loop.
            await asyncio.sleep(COMMIT_S / 10)
        await asyncio.sleep(COMMIT_S)
        # While this is committed the handler returns, and somebody purges it.
        busy = asyncio.create_task(client.service_send(handle, None))
        await asyncio.sleep(COMMIT_S * 0.8)
        purging = process.engine.propose(PurgeInvocation(invocation_id=sent.invocation_id))
        value = await attached
        await asyncio.wrap_future(purging)
        await busy
        assert [view.id for view in await client.invocations()] == [(await busy).invocation_id]
        return value

    assert in_virtual_time(main, service) == "done"


def test_code_that_arrives_over_a_closed_link_is_refused():
    """Loaded, its attempts would have been started on nothing, and run for ever.

    After a failed commit the engine loads all code again that it knows; the link may have been
    closed in the meantime.
    """
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> str:
        return "done"

    async def main(process: Process, client: LocalClient) -> None:
        closing = process.engine.propose(CloseLink(link=process.link.name))
        loading = asyncio.create_task(client.register(service))
        await asyncio.wrap_future(closing)
        with pytest.raises(HttpError, match=r"410.*is closed"):
            await loading

    in_virtual_time(main, service)


@pytest.mark.parametrize("how", ["set", "clear"])
def test_what_a_restarted_invocation_wrote_in_its_first_life_is_not_written_again(how: str):
    """It once read its own old writes, and wrote over what others had written since."""
    obj = VirtualObject("O")

    @obj.handler()
    async def write(ctx: ObjectContext, value: int) -> int | None:
        if how == "set":
            ctx.set("n", value)
        else:
            ctx.clear("n")
        await ctx.run_typed("step", lambda: None)
        return await ctx.get("n", type_hint=int)

    @obj.handler()
    async def put(ctx: ObjectContext, value: int) -> None:
        ctx.set("n", value)

    async def main() -> list[Any]:
        client = env.client
        sent = await client.object_send(write, "k", 1)
        first = await client.attach(sent.invocation_id)
        await client.object_call(put, "k", 5)
        again = await client.restart_as_new(sent.invocation_id, from_entry=2)
        return [first, await client.attach(again)]

    with DurableEnv([obj]) as env:
        assert env.run(main) == [1 if how == "set" else None, 5]


def test_futures_inside_of_what_is_observed_are_counted_at_any_depth():
    """Found by a soak, of its own model: those of the next attempt are others, and no harm."""
    told: list[BaseException] = []
    cast = Cast()
    cast.stage = Stage(Stumbling(), told.append)
    # All of one that gives the futures themselves; then the attempt fails, and another observes it.
    program = [["sleep", 1], ["all_settled", 0], ["all", 1], ["await", 2], ["stumble"]]

    async def main(process: Process, client: LocalClient) -> int:
        argument = json.dumps(program).encode()
        sent = await client.generic_send(LAYERS[0], "interpret", argument, key="a")
        return await client.attach(sent.invocation_id)

    assert in_virtual_time(main, *cast.services[INACTIVITIES[-1]]) == len(program)
    assert told == []


class Stumbling(Random):
    """Mutable: what fails with a probability fails once, and never again."""

    def random(self) -> float:
        has_failed, self.has_failed = getattr(self, "has_failed", False), True
        return 1.0 if has_failed else 0.0
