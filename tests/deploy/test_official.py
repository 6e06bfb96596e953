"""Handlers written for nbdurable, run by the official SDK itself."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from support.restate_server import (
    CALL,
    CALL_DONE,
    CALL_ID,
    END,
    ERROR,
    GET_STATE,
    OUTPUT,
    PROPOSE_RUN,
    SET_STATE,
    SLEEP,
    SUSPENSION,
    Failed,
    attempt,
    frame,
    parse,
    request,
    run_command,
    run_failed,
    run_succeeded,
    value,
)

import nbdurable
from nbdurable import (
    Context,
    ContextMisuseError,
    DefinitionError,
    InvocationRetryPolicy,
    JournalValueCodec,
    ObjectContext,
    RestatePromise,
    RetryableError,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    as_completed,
    current_context,
    gather,
    is_internal_exception,
    select,
)

MANIFEST = b"application/vnd.restate.endpointmanifest.v4+json"


async def discovered(app: Any) -> dict[str, Any]:
    found = json.loads(await request(app, "/discover", accept=MANIFEST))
    return {service["name"]: service for service in found["services"]}


async def test_a_cluster_discovers_the_same_services_with_the_same_options():
    greeter = Service(
        "Greeter",
        description="Greets.",
        inactivity_timeout=timedelta(seconds=5),
        invocation_retry_policy=InvocationRetryPolicy(max_attempts=3, on_max_attempts="kill"),
    )
    counter, flow = VirtualObject("Counter", enable_lazy_state=True), Workflow("Flow")

    @greeter.handler(metadata={"team": "tea"}, ingress_private=True)
    async def greet(ctx: Context, name: str) -> str:
        """Say hello."""
        return name

    @counter.handler(kind="shared")
    async def total(ctx: Any) -> int: ...

    @flow.main(workflow_retention=timedelta(days=2))
    async def run(ctx: WorkflowContext, text: str) -> None: ...

    @flow.handler()
    async def approve(ctx: Any) -> None: ...

    found = await discovered(nbdurable.app([greeter, counter, flow]))
    assert [service["ty"] for service in found.values()] == [
        "SERVICE",
        "VIRTUAL_OBJECT",
        "WORKFLOW",
    ]
    assert found["Greeter"]["inactivityTimeout"] == 5_000
    assert found["Greeter"]["retryPolicyMaxAttempts"] == 3
    (greets,) = found["Greeter"]["handlers"]
    assert (greets["name"], greets["documentation"]) == ("greet", "Say hello.")
    assert (greets["metadata"], greets["ingressPrivate"]) == ({"team": "tea"}, True)
    assert found["Counter"]["handlers"][0]["ty"] == "SHARED"
    kinds = {handler["name"]: handler["ty"] for handler in found["Flow"]["handlers"]}
    assert kinds == {"run": "WORKFLOW", "approve": "SHARED"}


def serving(handle: Any) -> Any:
    service = Service("S")
    service.handler("handle")(handle)
    return nbdurable.app([service])


def refuse(*_: Any) -> None:
    raise TerminalError("no tea", 418)


def busy(*_: Any) -> None:
    raise RetryableError("busy", 503, timedelta(seconds=7))


async def test_steps_are_run_recorded_and_replayed():
    async def handle(ctx: Context, name: str) -> list[Any]:
        greeting = await ctx.run_typed("greet", str.title, RunOptions(), name)
        length = await ctx.run("length", len, args=(greeting,))
        return [greeting, length, current_context() is ctx, str(ctx.request().id)]

    app = serving(handle)
    first = await attempt(app, "S/handle", b'"ada"')
    proposed = next(message for message in first if message.kind == PROPOSE_RUN)
    assert dict(proposed.fields)[14] == b'"Ada"'
    journal = (run_command(1, "greet"), run_succeeded(1, b'"Ada"'))
    journal += (run_command(2, "length"), run_succeeded(2, b"3"))
    replayed = await attempt(app, "S/handle", b'"ada"', journal)
    assert value(replayed) == b'["Ada",3,true,"inv_1"]'
    assert replayed[-1].kind == END


async def test_errors_are_those_that_each_side_knows():
    """`except nbdurable.TerminalError` catches theirs; what is raised of ours is terminal there."""

    async def handle(ctx: Context, how: str) -> str:
        if how == "terminal":
            refuse()
        if how == "retryable":
            busy()
        try:
            return await ctx.run_typed("step", refuse)
        except TerminalError as error:
            return f"caught {error.status_code} {error.message}"

    app = serving(handle)
    assert value(await attempt(app, "S/handle", b'"terminal"')) == Failed(418, "no tea")
    (error,) = await attempt(app, "S/handle", b'"retryable"')
    assert (error.kind, error.fields[2]) == (ERROR, b"busy")
    failed = (run_command(1, "step"), run_failed(1, 418, "no tea"))
    assert value(await attempt(app, "S/handle", b'"step"', failed)) == b'"caught 418 no tea"'


async def test_any_other_error_is_the_attempts_and_is_tried_again():
    """The official SDK follows what caused an error, for ever if it caused itself."""

    async def handle(ctx: Context) -> None:
        raise ValueError("not yet")

    (error,) = await attempt(serving(handle), "S/handle", b"")
    assert (error.kind, error.fields[2]) == (ERROR, b"ValueError('not yet')")


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_terminal_error_in_a_step_is_recorded_as_one(kind: str):
    """Else the cluster would retry for ever what was meant to end."""

    async def refuse_async() -> None:
        refuse()

    async def handle(ctx: Context) -> None:
        await ctx.run_typed("step", refuse_async if kind == "async" else refuse)

    answer = await attempt(serving(handle), "S/handle", b"")
    proposed = next(message for message in answer if message.kind == PROPOSE_RUN)
    assert b"no tea" in proposed.fields[15]


async def test_combinators_work_on_official_futures():
    async def handle(ctx: Context) -> list[Any]:
        one, two = ctx.run_typed("one", lambda: 1), ctx.run_typed("two", lambda: 2)
        first = await select(one=one, late=ctx.sleep(timedelta(days=1)))
        both = [await future for future in await gather(one, two)]
        return [first, both, [await future async for future in as_completed(one, two)]]

    journal = (run_command(1, "one"), run_command(2, "two"), frame(SLEEP, [(1, 99), (11, 3)]))
    journal += (run_succeeded(1, b"1"), run_succeeded(2, b"2"))
    answer = await attempt(serving(handle), "S/handle", b"", journal)
    assert value(answer) == b'[["one",1],[1,2],[1,2]]'


async def test_calls_name_the_same_functions():
    service, counter = Service("S"), VirtualObject("Counter")

    @counter.handler()
    async def add(ctx: ObjectContext, n: int) -> int:
        total = (await ctx.get("n", type_hint=int) or 0) + n
        ctx.set("n", total)
        return total

    @service.handler()
    async def handle(ctx: Context) -> int:
        return await ctx.object_call(add, "k", 5)

    app = nbdurable.app([service, counter])
    (call, *_) = await attempt(app, "S/handle", b"")
    assert call.kind == CALL
    assert (call.fields[1], call.fields[2], call.fields[5]) == (b"Counter", b"add", b"k")
    journal = (
        frame(CALL, [(1, "Counter"), (2, "add"), (3, b"5"), (5, "k"), (10, 1), (11, 2)]),
        frame(CALL_ID, [(1, 1), (16, "inv_2")]),
        frame(CALL_DONE, [(1, 2), (5, [(1, b"12")])]),
    )
    assert value(await attempt(app, "S/handle", b"", journal)) == b"12"
    answer = await attempt(app, "Counter/add", b"5", key="k")
    assert [message.kind for message in answer] == [GET_STATE, SET_STATE, OUTPUT, END]
    assert value(answer) == b"5"


async def test_its_suspension_is_control_flow_here_too():
    """`is_internal_exception` is how careful code tells it from a failure."""
    seen: list[bool] = []

    async def handle(ctx: Context) -> str:
        try:
            await ctx.sleep(timedelta(days=1))
        except BaseException as error:
            seen.append(is_internal_exception(error))
            raise
        return "awake"

    answer = await attempt(serving(handle), "S/handle", b"")
    assert answer[-1].kind == SUSPENSION
    assert OUTPUT not in [message.kind for message in answer]
    assert seen == [True]


@pytest.mark.parametrize("what", ["promise", "timeout", "result"])
async def test_what_only_nbdurable_has_is_refused_with_a_sentence(what: str):
    said: list[str] = []

    async def handle(ctx: Context) -> None:
        future = ctx.run_typed("step", lambda: 1)
        try:
            match what:
                case "promise":
                    RestatePromise.all(future)
                case "timeout":
                    future.or_timeout(timedelta(1))
                case _:
                    future.result()
        except ContextMisuseError as error:
            said.append(str(error))

    await attempt(serving(handle), "S/handle", b"")
    assert "restate-sdk" in said[0]


@pytest.mark.parametrize("how", ["codec", "provider"])
async def test_a_codec_of_ours_is_theirs(how: str):
    class Reversing(JournalValueCodec):
        def encode(self, buf: bytes) -> bytes:
            return buf[::-1]

        async def decode(self, buf: bytes) -> bytes:
            return buf[::-1]

    async def provide() -> JournalValueCodec:
        return Reversing()

    service = Service("S")

    @service.handler()
    async def handle(ctx: Context, text: str) -> str:
        return text.upper()

    codec = Reversing() if how == "codec" else provide
    app = nbdurable.app([service], journal_value_codec=codec)
    assert value(await attempt(app, "S/handle", b'"cba"')) == b'"CBA"'


async def test_a_def_handler_is_refused():
    def handle(ctx: Context) -> None: ...

    with pytest.raises(DefinitionError, match="which restate-sdk does not run; write: async def"):
        await request(serving(handle), "/health")


async def test_without_the_official_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    async def handle(ctx: Context) -> None: ...

    monkeypatch.setitem(sys.modules, "restate", None)
    with pytest.raises(ImportError, match=r"pip install 'nbdurable\[restate\]'"):
        await request(serving(handle), "/health")


def test_the_small_server_reads_what_it_writes():
    """What the tests above are read through."""
    assert list(parse(b"\x08\x96\x01\x12\x02hi")) == [(1, 150), (2, b"hi")]
