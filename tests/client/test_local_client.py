"""What a client can count on: every method, and what it raises when it cannot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.joined import JoinedEngine
from support.running import HandClock, durable, until, until_status

import nbdurable
from nbdurable import (
    ConflictError,
    Context,
    DefinitionError,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    InvocationRetryPolicy,
    Service,
    TerminalError,
    Workflow,
    WorkflowContext,
)
from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

CLIENTS = {"joined": JoinedEngine, "local": durable}
NOBODY = "inv_1aaaaaaaaaaaaaaaaaaaaaaaaaa"
Opened = Callable[..., DurableEngine]


@pytest.fixture(params=sorted(CLIENTS))
def opened(request: pytest.FixtureRequest) -> Opened:
    return CLIENTS[request.param]


service = Service("Greeter", invocation_retry_policy=InvocationRetryPolicy(max_attempts=1))
flow = Workflow("Payment")


@service.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@service.handler()
async def fail(ctx: Context) -> None:
    raise TerminalError("no", 402)


@service.handler()
async def wait(ctx: Context) -> str:
    return await ctx.awakeable(type_hint=str)[1]


@service.handler()
async def stumble(ctx: Context) -> None:
    raise ValueError("a bug")


@flow.main()
async def run(ctx: WorkflowContext, amount: int) -> list[Any]:
    return [amount, await ctx.promise("approval", type_hint=str)]


async def waiting(engine: DurableEngine) -> InvocationView:
    sent = await engine.client.service_send(wait, None)
    return await until(engine, sent.invocation_id, lambda v, _: bool(v.open_awakeables))


async def test_a_call_gives_the_result_and_a_send_the_id(opened: Opened):
    async with opened(service, flow) as engine:
        client = engine.client
        assert await client.service_call(greet, "ada") == "hello ada"
        sent = await client.service_send(greet, "bob")
        assert (sent.status_code, sent.existing) == (202, False)
        assert await client.attach(sent.invocation_id) == "hello bob"
        assert await client.output(sent.invocation_id) == "hello bob"


async def test_generic_calls_speak_bytes(opened: Opened):
    async with opened(service) as engine:
        assert await engine.client.generic_call("Greeter", "greet", b'"ada"') == b'"hello ada"'
        sent = await engine.client.generic_send("Greeter", "greet", b'"ada"')
        assert await engine.client.attach(sent.invocation_id) == "hello ada"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (("Nobody", "greet", None), 404),
        (("Greeter", "no", None), 404),
        (("Greeter", "greet", "k"), 400),
    ],
)
async def test_what_cannot_be_called_is_an_http_error(
    opened: Opened, target: tuple[str, str, str | None], code: int
):
    async with opened(service) as engine:
        name, handler, key = target
        with pytest.raises(HttpError) as raised:
            await engine.client.generic_call(name, handler, b"", key=key)
        assert raised.value.status_code == code


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ({"idempotency_key": 7}, "an idempotency key is a text, not 7; write: '7'"),
        ({"idempotency_key": "\ud800"}, "has half a character"),
        ({"headers": {"a": 1}}, "the header 'a' is a text, not 1"),
        ({"headers": 5}, "headers are a dict of texts, not 5"),
    ],
)
async def test_what_no_journal_can_hold_is_a_400_with_a_sentence(
    opened: Opened, address: dict[str, Any], says: str
):
    async with opened(service) as engine:
        with pytest.raises(HttpError) as raised:
            await engine.client.service_call(greet, "ada", **address)
    assert raised.value.status_code == 400
    assert says in raised.value.message


async def test_a_failure_is_a_terminal_error_with_its_code(opened: Opened):
    async with opened(service) as engine:
        with pytest.raises(TerminalError, match="no") as raised:
            await engine.client.service_call(fail, None)
        assert raised.value.status_code == 402


async def test_headers_reach_the_handler(opened: Opened):
    echo = Service("Echo")

    @echo.handler()
    async def headers(ctx: Context) -> dict[str, str]:
        return ctx.request().headers

    async with opened(echo) as engine:
        said = await engine.client.service_call(headers, None, headers={"traceparent": "x"})
        assert said == {"traceparent": "x"}


@pytest.mark.parametrize("method", ["attach", "output", "invocation", "journal"])
async def test_looking_at_what_is_not_there_is_not_found(opened: Opened, method: str):
    async with opened(service) as engine:
        with pytest.raises(InvocationNotFoundError):
            await getattr(engine.client, method)(NOBODY)


@pytest.mark.parametrize("verb", ["cancel", "kill", "pause", "resume", "purge"])
async def test_verbs_on_what_is_not_there_are_not_found(opened: Opened, verb: str):
    async with opened(service) as engine:
        with pytest.raises(InvocationNotFoundError):
            await getattr(engine.client, verb)(NOBODY)


@pytest.mark.parametrize("verb", ["cancel", "kill", "pause", "resume"])
async def test_verbs_on_what_is_done_are_conflicts(opened: Opened, verb: str):
    async with opened(service) as engine:
        sent = await engine.client.service_send(greet, "ada")
        await engine.client.attach(sent.invocation_id)
        with pytest.raises(ConflictError):
            await getattr(engine.client, verb)(sent.invocation_id)


async def test_an_output_that_is_not_there_yet_is_not_ready(opened: Opened):
    async with opened(service) as engine:
        view = await waiting(engine)
        with pytest.raises(InvocationNotReadyError):
            await engine.client.output(view.id)
        with pytest.raises(ConflictError):
            await engine.client.purge(view.id)


async def test_giving_up_an_attach_leaves_the_invocation_alone(opened: Opened):
    async with opened(service) as engine:
        view = await waiting(engine)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await engine.client.attach(view.id)
        await engine.client.resolve_awakeable(view.open_awakeables[0], "on")
        assert await engine.client.attach(view.id) == "on"


async def test_cancel_kill_and_purge(opened: Opened):
    async with opened(service) as engine:
        client = engine.client
        for verb, message in [(client.cancel, "cancelled"), (client.kill, "killed")]:
            view = await waiting(engine)
            await verb(view.id)
            with pytest.raises(TerminalError, match=message) as raised:
                await client.attach(view.id)
            assert raised.value.status_code == 409
            await client.purge(view.id)
            with pytest.raises(InvocationNotFoundError):
                await client.invocation(view.id)


async def test_pause_and_resume(opened: Opened):
    async with opened(service) as engine:
        client = engine.client
        view = await waiting(engine)
        await client.pause(view.id)
        assert (await client.invocation(view.id)).status == "paused"
        await client.resolve_awakeable(view.open_awakeables[0], "on")
        assert (await client.invocation(view.id)).status == "paused"
        await client.resume(view.id)
        assert await client.attach(view.id) == "on"


async def test_a_paused_invocation_says_why(opened: Opened):
    async with opened(service) as engine:
        sent = await engine.client.service_send(stumble, None)
        view = await until_status(engine, sent.invocation_id, "paused")
        assert view.headline == "paused: ValueError('a bug')"


async def test_awakeables_may_be_rejected_and_bad_ids_are_said(opened: Opened):
    async with opened(service) as engine:
        client = engine.client
        view = await waiting(engine)
        await client.reject_awakeable(view.open_awakeables[0], "declined", 402)
        with pytest.raises(TerminalError, match="declined"):
            await client.attach(view.id)
        with pytest.raises(HttpError, match="bad awakeable id"):
            await client.resolve_awakeable("nonsense", 1)


async def test_a_workflow_by_its_name_or_its_handler(opened: Opened):
    async with opened(flow) as engine:
        client = engine.client
        first = await client.workflow_send(run, "k", 100)
        again = await client.workflow_send(run, "k", 100)
        assert (again.invocation_id, again.existing) == (first.invocation_id, True)
        for which in (run, "Payment"):
            with pytest.raises(InvocationNotReadyError):
                await client.workflow_output(which, "k")
            with pytest.raises(InvocationNotFoundError):
                await client.workflow_attach(which, "other")
        await client.resolve_promise("Payment", "k", "approval", "yes")
        for which in (run, "Payment"):
            assert await client.workflow_attach(which, "k") == [100, "yes"]
        with pytest.raises(ConflictError):
            await client.resolve_promise("Payment", "k", "approval", "no")
        with pytest.raises(ConflictError):
            await client.workflow_call(run, "k", 100)
        with pytest.raises(HttpError, match="no workflow named"):
            await client.workflow_attach("Nobody", "k")
        with pytest.raises(HttpError, match="idempotency key"):
            await client.workflow_call(run, "k2", 1, idempotency_key="x")


async def test_a_delayed_send_shows_when_it_begins(opened: Opened):
    clock = HandClock()
    async with opened(service, clock=clock) as engine:
        client = engine.client
        sent = await client.service_send(greet, "ada", send_delay=timedelta(minutes=1))
        view = await client.invocation(sent.invocation_id)
        assert (view.status, view.wakes_at_ms) == ("scheduled", clock.now_ms() + 60_000)
        await client.cancel(view.id)
        with pytest.raises(TerminalError, match="canceled"):
            await client.attach(view.id)


async def test_finding_by_id_prefix_target_and_key(opened: Opened):
    async with opened(service, flow) as engine:
        client = engine.client
        sent = await client.workflow_send(run, "order-456", 100)
        await waiting(engine)
        for text in (
            sent.invocation_id,
            sent.invocation_id[:12],
            "Payment/order-456/run",
            "Payment/order-456",
            "order-456",
        ):
            assert (await client.find(text)).id == sent.invocation_id
        with pytest.raises(InvocationNotFoundError):
            await client.find("order-457")


async def test_finding_several_is_a_conflict_unless_one_is_still_going(opened: Opened):
    async with opened(service) as engine:
        client = engine.client
        views = [await waiting(engine) for _ in range(2)]
        with pytest.raises(ConflictError, match="any of 2"):
            await client.find("Greeter/wait")
        await client.kill(views[0].id)
        assert (await client.find("Greeter/wait")).id == views[1].id
        await client.kill(views[1].id)
        assert (await client.find("Greeter/wait")).id == views[1].id


async def test_the_journal_shows_entries_in_order_with_their_values(opened: Opened):
    steps = Service("Steps")

    @steps.handler()
    async def handle(ctx: Context, name: str) -> str:
        await ctx.run_typed("one", lambda: 1)
        try:
            await ctx.run_typed("two", lambda: 1 / 0, nbdurable.RunOptions(max_attempts=1))
        except TerminalError:
            return name

    async with opened(steps) as engine:
        sent = await engine.client.service_send(handle, "ada")
        await engine.client.attach(sent.invocation_id)
        entries = await engine.client.journal(sent.invocation_id)
    assert [(e.kind, e.name, e.status, e.value) for e in entries] == [
        ("Input", "handle", "done", '"ada"'),
        ("Run", "one", "done", "1"),
        ("Run", "two", "failed", None),
        ("Output", None, "done", '"ada"'),
    ]


async def test_watching_tells_the_first_and_the_last_state_and_not_every_one(opened: Opened):
    """A person cannot follow a thousand changes a second; the last one must not be missed."""
    many = Service("Many")

    @many.handler()
    async def handle(ctx: Context) -> str:
        for n in range(300):
            await ctx.run_typed(f"step {n}", lambda: None)
        return "done"

    told: list[tuple[str, int]] = []
    finished = threading.Event()

    def listen(view: InvocationView, entries: tuple[EntryView, ...]) -> None:
        told.append((view.status, len(entries)))
        if view.is_done:
            finished.set()

    async with opened(many) as engine:
        sent = await engine.client.service_send(handle, None)
        end = await asyncio.to_thread(engine.client.watch, sent.invocation_id, listen)
        assert await engine.client.attach(sent.invocation_id) == "done"
        assert await asyncio.to_thread(finished.wait, 10)
        end()
        end()
    assert told[-1] == ("completed", 302)
    assert len(told) < 150


async def test_watching_what_is_not_there_tells_nothing(opened: Opened):
    async with opened(service) as engine:
        told: list[Any] = []
        end = await asyncio.to_thread(engine.client.watch, NOBODY, lambda *args: told.append(args))
        await engine.client.service_call(greet, "ada")
        end()
    assert told == []


def test_waiting_from_synchronous_code(opened: Opened):
    engine = opened(service)
    engine.start()
    try:
        engine.client.wait(engine.register_all())
        assert engine.client.wait(engine.client.service_call(greet, "ada")) == "hello ada"
        with pytest.raises(TerminalError):
            engine.client.wait(engine.client.service_call(fail, None))
    finally:
        engine.close()


async def test_services_and_invocations_are_listed(opened: Opened):
    async with opened(service, flow) as engine:
        client = engine.client
        assert [manifest.name for manifest in await client.services()] == ["Greeter", "Payment"]
        sent = [await client.service_send(greet, name) for name in ("ada", "bob")]
        assert [view.id for view in await client.invocations()] == [s.invocation_id for s in sent]


async def test_registering_again_says_whether_it_changed(opened: Opened):
    async with opened(service) as engine:
        again = await engine.client.register(service)
        assert (again.revision, again.is_new) == (1, False)
        changed = await engine.client.register(service, digest="other")
        assert (changed.revision, changed.is_new) == (2, True)


async def test_options_that_the_journal_cannot_hold_are_refused_when_registered(opened: Opened):
    odd = Service("Odd", metadata={"owner": 3})  # type: ignore[dict-item] # The mistake itself.

    @odd.handler()
    async def handle(ctx: Context) -> None:
        pass

    async with opened() as engine:
        with pytest.raises(HttpError, match="metadata"):
            await engine.client.register(odd)
        odd.invocation_retry_policy = InvocationRetryPolicy(max_attempts="3")  # type: ignore[arg-type] # As above.
        with pytest.raises(DefinitionError, match="max_attempts"):
            await engine.client.register(odd)


@pytest.mark.parametrize("generic", [False, True])
async def test_a_workflow_key_runs_once_even_when_its_code_is_not_loaded(
    opened: Opened,
    generic: bool,  # noqa: FBT001
):
    """Without the code here the client took the run for a plain handler: each send was one more."""
    store = MemoryStore()
    async with opened(flow, store=store):
        pass
    async with opened(store=store) as engine:
        client = engine.client

        async def send() -> RestateClientSendHandle:
            if generic:
                return await client.generic_send("Payment", "run", b"1", key="k")
            return await client.workflow_send(run, "k", 1)

        one, two = await send(), await send()
        assert (one.existing, two.existing) == (False, True)
        assert one.invocation_id == two.invocation_id
        assert [view.status for view in await client.invocations()] == ["ready"]
        with pytest.raises(HttpError, match="idempotency key"):
            await client.generic_send("Payment", "run", b"1", key="k", idempotency_key="i")


async def test_what_is_private_is_refused_to_clients_and_open_to_handlers(opened: Opened):
    private, public = Service("Private", ingress_private=True), Service("Public")

    @private.handler()
    async def hidden(ctx: Context) -> str:
        return "secret"

    @public.handler()
    async def tell(ctx: Context) -> str:
        return await ctx.service_call(hidden, None)

    async with opened(private, public) as engine:
        client = engine.client
        for asked in (
            client.service_call(hidden, None),
            client.service_send(hidden, None),
            client.generic_call("Private", "hidden", b""),
        ):
            with pytest.raises(HttpError, match="not public") as raised:
                await asked
            assert raised.value.status_code == 400
        assert await client.service_call(tell, None) == "secret"


async def test_an_old_awakeable_id_does_not_answer_a_run_of_after_a_purge(opened: Opened):
    asking = Workflow("Asking")

    @asking.main()
    async def ask(ctx: WorkflowContext) -> str:
        return await ctx.awakeable(type_hint=str)[1]

    async with opened(asking) as engine:
        client, ids = engine.client, []
        for _ in range(2):
            sent = await client.workflow_send(ask, "k", None)
            view = await until(engine, sent.invocation_id, lambda v, _: bool(v.open_awakeables))
            ids += view.open_awakeables
            if len(ids) == 1:
                await client.kill(view.id)
                await client.purge(view.id)
        await client.resolve_awakeable(ids[0], "old")
        assert not (await client.invocation(view.id)).is_done
        await client.resolve_awakeable(ids[1], "new")
        assert await client.attach(view.id) == "new"


async def test_the_beginning_of_an_id_means_the_only_one_that_has_it(opened: Opened):
    """Of two that begin alike neither is meant, though only one could still be cancelled."""
    async with opened(service) as engine:
        client = engine.client
        views = [await waiting(engine) for _ in range(2)]
        await client.kill(views[0].id)
        with pytest.raises(ConflictError, match="any of 2"):
            await client.find("inv_1")
        assert (await client.find(views[0].id)).id == views[0].id


async def test_the_newest_are_listed_and_the_others_counted(opened: Opened):
    """A list of 10^5 runs would keep the engine from committing for half a second."""
    async with opened(service, flow) as engine:
        client = engine.client
        waits, killed = [await waiting(engine) for _ in range(2)]
        await client.kill(killed.id)
        run_id = (await client.workflow_send(run, "order-456", 100)).invocation_id
        await until(engine, run_id, lambda view, _: bool(view.open_promises))

        async def listed(count_max: int | None = None, **only: Any) -> tuple[list[str], int]:
            found = await client.newest_invocations(count_max, **only)
            return [view.id for view in found.views], found.found_count

        assert await listed(1) == ([run_id], 3)
        assert await listed() == ([run_id, killed.id, waits.id], 3)
        assert await listed(services=["Greeter"]) == ([killed.id, waits.id], 2)
        assert await listed(statuses=["failed"]) == ([killed.id], 1)
        assert await listed(statuses=["unfinished"]) == ([run_id, waits.id], 2)
        assert await listed(statuses=["completed", "scheduled"]) == ([killed.id], 1)
        assert await listed(asks=True, services=["Payment"]) == ([run_id], 1)
