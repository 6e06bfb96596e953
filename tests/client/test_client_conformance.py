"""What holds for every client there is, of an engine here, elsewhere, or of a Restate server.

One program, end to end, over each: the exceptions are the same, and so are the results. What only
an engine's own client can do is in `test_local_client.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.joined import JoinedEngine
from support.restate import restate_server

import nbdurable
from nbdurable import (
    ConflictError,
    Context,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    InvocationRetryPolicy,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.errors import QueryError
from nbdurable.wiring import DurableEngine, SyncDurableEngine

greeter = Service("Greeter", invocation_retry_policy=InvocationRetryPolicy(max_attempts=1))
box, flow = VirtualObject("Box"), Workflow("Flow")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@greeter.handler()
async def wave(ctx: Context) -> None: ...


@greeter.handler()
async def refuse(ctx: Context, what: str) -> None:
    raise TerminalError(f"no {what}", 418)


@greeter.handler()
async def find_nothing(ctx: Context) -> None:
    raise TerminalError("not found", 404)


@greeter.handler()
async def ask_for_it(ctx: Context, key: str) -> str:
    """Leave the id of an awakeable in a box, and wait for it."""
    name, value = ctx.awakeable()
    ctx.object_send(put, key, name)
    return f"got {await value}"


@greeter.handler()
async def nap(ctx: Context, key: str) -> str:
    try:
        ctx.object_send(put, key, "napping")
        await ctx.sleep(timedelta(hours=1))
    except TerminalError as error:
        raise TerminalError(f"woken by {error.status_code}", error.status_code) from None
    return "rested"


@box.handler()
async def put(ctx: ObjectContext, value: str) -> None:
    ctx.set("value", value)


@box.handler(kind="shared")
async def look(ctx: ObjectSharedContext) -> str | None:
    return await ctx.get("value")


@flow.main()
async def run(ctx: WorkflowContext, order: int) -> list[Any]:
    return [ctx.key(), order, await ctx.promise("approved").value()]


@flow.handler()
async def approve(ctx: WorkflowSharedContext, how: str) -> None:
    await ctx.promise("approved").resolve(how)


SERVICES = (greeter, box, flow)


# -- every client ---------------------------------------------------------------------------------


@contextmanager
def _local(folder: Path) -> Iterator[Any]:
    with SyncDurableEngine(DurableEngine(folder / "journal", SERVICES)) as engine:
        yield engine.opened.client


@contextmanager
def _joined(folder: Path) -> Iterator[Any]:
    with SyncDurableEngine(JoinedEngine(*SERVICES, path=folder / "journal")) as engine:
        yield engine.opened.client


@contextmanager
def _served(folder: Path) -> Iterator[nbdurable.Serving]:
    opening = DurableEngine(folder / "journal", SERVICES)
    with SyncDurableEngine(opening), nbdurable.serve(opening) as serving:
        yield serving


@contextmanager
def _waiting(folder: Path) -> Iterator[Any]:
    """`with connect(…)`: its methods are awaited here, so that one suite serves all."""
    with (
        _served(folder) as serving,
        nbdurable.connect(
            serving.ingress_url, token=serving.token, admin_url=serving.admin_url
        ) as client,
    ):
        yield _Awaited(client)


class _Awaited:
    """A client whose methods wait, called on another thread, as it is from code without asyncio."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*args: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *args, **named)

        return call


CLIENTS = {"local": _local, "joined": _joined, "connected, waiting": _waiting}
CONNECTED = ("connected", pytest.param("restate", marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What is slow to start, started at first need, and once."""
    with ExitStack() as stack:
        started: dict[str, Any] = {"stack": stack, "folder": tmp_path_factory.mktemp("places")}
        yield started


@pytest.fixture(params=[*CLIENTS, *CONNECTED])
def client_of(request: pytest.FixtureRequest, places: dict[str, Any]) -> Iterator[Any]:
    """Opens an `async with` of the client."""
    which = request.param
    if which not in places:
        folder = places["folder"] / which.replace(", ", "-")
        folder.mkdir()
        match which:
            case "restate":
                app = nbdurable.app(SERVICES, protocol="request_response")
                opening = restate_server(app, folder)
            case "connected":
                opening = _served(folder)
            case _:
                opening = CLIENTS[which](folder)
        places[which] = places["stack"].enter_context(opening)
    place = places[which]
    match which:
        case "restate":
            yield lambda: nbdurable.connect(place.ingress, admin_url=place.admin)
        case "connected":
            yield lambda: nbdurable.connect(
                place.ingress_url, token=place.token, admin_url=place.admin_url
            )
        case _:
            yield lambda: _Open(place)


class _Open:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def __aenter__(self) -> Any:
        return self._client

    async def __aexit__(self, *_: object) -> None: ...


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Of this test's own: all share one engine."""
    return request.node.name


async def boxed(client: Any, key: str) -> str:
    """What a handler has left for us, once it has."""
    while (value := await client.object_call(look, key, None)) is None:
        pass
    return value


# -- calls and sends ------------------------------------------------------------------------------


async def test_calls_return_what_the_handlers_return(client_of: Any, key: str):
    async with client_of() as client:
        assert await client.service_call(greet, "ada") == "hello ada"
        assert await client.service_call(wave, None) is None
        await client.object_call(put, key, "ä/b")
        assert await client.object_call(look, key, None) == "ä/b"
        assert await client.generic_call("Greeter", "greet", b'"bob"') == b'"hello bob"'


async def test_what_a_handler_refuses_is_a_terminal_error_with_its_code(client_of: Any):
    async with client_of() as client:
        with pytest.raises(TerminalError, match="no tea") as raised:
            await client.service_call(refuse, "tea")
        assert raised.value.status_code == 418


async def test_who_does_not_exist_cannot_be_called(client_of: Any):
    async with client_of() as client:
        for service, handler in (("Nobody", "greet"), ("Greeter", "nothing")):
            with pytest.raises(HttpError) as raised:
                await client.generic_call(service, handler, b'"x"')
            assert raised.value.status_code == 404


async def test_what_was_sent_can_be_attached_to(client_of: Any):
    async with client_of() as client:
        sent = await client.service_send(greet, "ada")
        assert not sent.existing
        assert await client.attach(sent.invocation_id) == "hello ada"
        assert await client.output(sent.invocation_id) == "hello ada"
        later = await client.service_send(greet, "bob", send_delay=timedelta(milliseconds=1))
        assert await client.attach(later.invocation_id) == "hello bob"


async def test_an_idempotency_key_finds_the_first_invocation(client_of: Any, key: str):
    async with client_of() as client:
        first = await client.service_send(greet, "ada", idempotency_key=key)
        second = await client.service_send(greet, "bob", idempotency_key=key)
        assert (second.invocation_id, second.existing) == (first.invocation_id, True)
        assert await client.service_call(greet, "bob", idempotency_key=key) == "hello ada"


async def test_a_failure_can_be_attached_to_as_well(client_of: Any):
    """Also one that reads as if the invocation were not there."""
    async with client_of() as client:
        sent = await client.service_send(refuse, "tea")
        with pytest.raises(TerminalError, match="no tea"):
            await client.attach(sent.invocation_id)
        sent = await client.service_send(find_nothing, None)
        for ask in (client.attach, client.output):
            with pytest.raises(TerminalError, match="not found"):
                await ask(sent.invocation_id)


async def test_an_invocation_that_never_was_is_not_found(client_of: Any):
    async with client_of() as client:
        sent = await client.service_send(greet, "ada")
        await client.attach(sent.invocation_id)
        unknown = sent.invocation_id[:-4] + "AAAA"
        for ask in (client.attach, client.output, client.cancel, client.kill):
            with pytest.raises(InvocationNotFoundError):
                await ask(unknown)


# -- workflows ------------------------------------------------------------------------------------


async def test_a_workflow_runs_once_and_can_be_waited_for_by_its_key(client_of: Any, key: str):
    async with client_of() as client:
        first = await client.workflow_send(run, key, 7)
        second = await client.workflow_send(run, key, 8)
        assert (second.invocation_id, second.existing) == (first.invocation_id, True)
        for workflow in (run, "Flow"):
            with pytest.raises(InvocationNotReadyError):
                await client.workflow_output(workflow, key)
        with pytest.raises(ConflictError, match="already invoked"):
            await client.workflow_call(run, key, 9)
        await client.workflow_call(approve, key, "yes")
        for workflow in (run, "Flow"):
            assert await client.workflow_attach(workflow, key) == [key, 7, "yes"]
        assert await client.workflow_output(run, key) == [key, 7, "yes"]


# Restate refuses scopes (400) until its virtual queues are enabled.
@pytest.mark.parametrize("client_of", [*CLIENTS, "connected"], indirect=True)
async def test_a_workflow_of_a_scope_is_waited_for_by_its_scope(client_of: Any, key: str):
    async with client_of() as client:
        await client.generic_send("Flow", "run", b"7", key, scope="t")
        with pytest.raises(InvocationNotReadyError):
            await client.workflow_output(run, key, scope="t")
        with pytest.raises(InvocationNotFoundError):
            await client.workflow_output(run, key)
        await client.generic_call("Flow", "approve", b'"yes"', key, scope="t")
        for workflow in (run, "Flow"):
            assert await client.workflow_attach(workflow, key, scope="t") == [key, 7, "yes"]


# -- people's verbs -------------------------------------------------------------------------------


async def test_an_awakeable_is_resolved_from_outside(client_of: Any, key: str):
    async with client_of() as client:
        sent = await client.service_send(ask_for_it, key)
        await client.resolve_awakeable(await boxed(client, key), "it")
        assert await client.attach(sent.invocation_id) == "got it"


async def test_an_awakeable_is_rejected_from_outside(client_of: Any, key: str):
    async with client_of() as client:
        sent = await client.service_send(ask_for_it, key)
        await client.reject_awakeable(await boxed(client, key), "not today")
        with pytest.raises(TerminalError, match="not today"):
            await client.attach(sent.invocation_id)


@pytest.mark.parametrize("verb", ["cancel", "kill"])
async def test_what_runs_can_be_ended_and_ends_with_409(client_of: Any, key: str, verb: str):
    """A handler hears of a cancellation, and of a kill it does not."""
    async with client_of() as client:
        sent = await client.service_send(nap, key)
        await boxed(client, key)
        with pytest.raises(InvocationNotReadyError):
            await client.output(sent.invocation_id)
        await getattr(client, verb)(sent.invocation_id)
        with pytest.raises(TerminalError) as raised:
            await client.attach(sent.invocation_id)
        assert raised.value.status_code == 409
        assert ("woken by" in raised.value.message) == (verb == "cancel")
        with pytest.raises(ConflictError, match="already completed"):
            await client.cancel(sent.invocation_id)


async def test_what_is_purged_is_forgotten(client_of: Any):
    async with client_of() as client:
        sent = await client.service_send(greet, "ada")
        await client.attach(sent.invocation_id)
        await client.purge(sent.invocation_id)
        with pytest.raises(InvocationNotFoundError):
            await client.output(sent.invocation_id)


async def test_a_pause_lasts_until_it_is_resumed(client_of: Any, key: str):
    async with client_of() as client:
        sent = await client.service_send(ask_for_it, key)
        awakeable = await boxed(client, key)
        await client.pause(sent.invocation_id)
        await client.resume(sent.invocation_id)
        await client.resolve_awakeable(awakeable, "it")
        assert await client.attach(sent.invocation_id) == "got it"


# -- SQL ------------------------------------------------------------------------------------------


async def test_sql_is_answered_over_the_tables_that_restate_has(client_of: Any, key: str):
    async with client_of() as client:
        sent = await client.object_send(put, key, "x")
        await client.attach(sent.invocation_id)
        found = await client.query(
            "select target_service_name, target_handler_name, status from sys_invocation"
            f" where id = '{sent.invocation_id}'"
        )
        assert found.dicts() == [
            {
                "target_service_name": "Box",
                "target_handler_name": "put",
                "status": "completed",
            }
        ]
        with pytest.raises(QueryError):
            await client.query("select nothing from nowhere")
