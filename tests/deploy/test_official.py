"""Handlers written for nbdurable, run by the official SDK itself."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
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
    SLEEP_DONE,
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
    durable,
    gather,
    is_internal_exception,
    select,
)
from nbdurable.deploy import restate_app
from nbdurable.deploy.endpoint import App

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


def test_an_option_that_a_cluster_lacks_is_refused():
    """There nothing would ever clear the state, and nobody would be told."""
    box = VirtualObject("Box", state_retention=timedelta(days=30))
    box.handler("look")(an_async_look)
    with pytest.raises(DefinitionError, match="'Box' has a state_retention"):
        restate_app([box])


async def an_async_look(ctx: Any) -> None: ...


async def test_restate_app_is_the_official_application_itself():
    """One call, for whoever has no other use for the `App` between."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx: Context, name: str) -> str: ...

    app = restate_app([greeter])
    assert not isinstance(app, App)
    assert list(await discovered(app)) == ["Greeter"]


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


async def test_a_terminal_error_ends_it_also_as_the_cause_of_another():
    async def handle(ctx: Context) -> None:
        try:
            refuse()
        except TerminalError as error:
            raise ValueError("wrapped") from error

    assert value(await attempt(serving(handle), "S/handle", b"")) == Failed(418, "no tea")


async def test_decorated_steps_are_steps_there_too():
    ran: list[str] = []

    @durable.step
    def inner(name: str) -> str:
        ran.append(name)
        return name.title()

    @durable.step(retries=3, timeout=timedelta(seconds=30))
    async def outer(name: str) -> str:
        return inner(name)

    async def handle(ctx: Context, name: str) -> str:
        return await outer(name)

    answer = await attempt(serving(handle), "S/handle", b'"ada"')
    proposed = [message for message in answer if message.kind == PROPOSE_RUN]
    assert [dict(message.fields)[14] for message in proposed] == [b'"Ada"']
    assert ran == ["ada"]


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_step_that_takes_too_long_has_failed(kind: str):
    never = threading.Event()

    @durable.step(timeout=timedelta(milliseconds=1))
    async def wait_async() -> None:
        await asyncio.Event().wait()

    @durable.step(timeout=timedelta(milliseconds=1))
    def wait_blocking() -> None:
        never.wait()

    async def handle(ctx: Context) -> None:
        await (wait_async() if kind == "async" else wait_blocking())

    try:
        *_, error = await attempt(serving(handle), "S/handle", b"")
    finally:
        never.set()
    assert (error.kind, b"took longer than 0:00:00.001000" in error.fields[2]) == (ERROR, True)


async def test_a_lambda_that_returns_a_coroutine_is_awaited():
    async def answer() -> int:
        return 42

    async def handle(ctx: Context) -> int:
        return await ctx.run_typed("answer", lambda: answer())  # noqa: PLW0108 - the point.

    said = await attempt(serving(handle), "S/handle", b"")
    proposed = next(message for message in said if message.kind == PROPOSE_RUN)
    assert dict(proposed.fields)[14] == b"42"


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


STEPS = (run_command(1, "one"), run_command(2, "two"), run_command(3, "three"))
FIRST_FAILS = (*STEPS, run_failed(1, 418, "no tea"), run_succeeded(3, b"3"), run_succeeded(2, b"2"))
ALL_FAIL = (*STEPS, *(run_failed(i, 418, "no tea") for i in (3, 1, 2)))


@pytest.mark.parametrize(
    ("combined", "journal", "expected"),
    [
        (RestatePromise.all, (*STEPS, *(run_succeeded(i, b"7") for i in (2, 3, 1))), b"[7,7,7]"),
        (RestatePromise.all, FIRST_FAILS, Failed(418, "no tea")),
        (RestatePromise.any, FIRST_FAILS, b"3"),
        (
            RestatePromise.any,
            ALL_FAIL,
            Failed(
                418,
                "none of 3 futures succeeded: step 'one': no tea; step 'two': no tea;"
                " step 'three': no tea",
            ),
        ),
        (RestatePromise.race, FIRST_FAILS, Failed(418, "no tea")),
        (lambda *futures: RestatePromise.race(*futures[1:]), FIRST_FAILS, b"3"),
        (
            lambda one, two, three: RestatePromise.any(RestatePromise.all(one, two), three),
            FIRST_FAILS,
            b"3",
        ),
        (lambda *_: RestatePromise.all(), STEPS, b"[]"),
    ],
)
async def test_a_combination_is_settled_in_the_order_of_the_journal(
    combined: Any, journal: tuple[bytes, ...], expected: Any
):
    async def handle(ctx: Context) -> Any:
        futures = (ctx.run_typed(name, lambda: 0) for name in ("one", "two", "three"))
        return await combined(*futures)

    assert value(await attempt(serving(handle), "S/handle", b"", journal)) == expected


async def test_a_combination_can_be_given_to_the_official_combinators():
    async def handle(ctx: Context) -> list[Any]:
        one, two, three = (ctx.run_typed(name, lambda: 0) for name in ("one", "two", "three"))
        settled = RestatePromise.all_settled(one, two)
        first = await select(both=settled, three=three)
        done = [await future for future in await gather(three, RestatePromise.any(one, two))]
        return [first, done, len(await settled)]

    answer = await attempt(serving(handle), "S/handle", b"", FIRST_FAILS)
    assert value(answer) == b'[["three",3],[3,2],2]'


@pytest.mark.parametrize("late", [True, False])
async def test_a_time_limit_is_a_durable_timer(late: bool):  # noqa: FBT001 - the two cases.
    async def handle(ctx: Context) -> int:
        return await ctx.run_typed("one", lambda: 0).or_timeout(timedelta(seconds=5))

    done, fired = run_succeeded(1, b"1"), frame(SLEEP_DONE, [(1, 2), (4, b"")])
    journal = (run_command(1, "one"), frame(SLEEP, [(1, 99), (11, 2)]))
    journal += (fired, done) if late else (done, fired)
    answer = value(await attempt(serving(handle), "S/handle", b"", journal))
    assert answer == (
        Failed(408, "await-timeout: step 'one' was not there within 0:00:05") if late else b"1"
    )


async def test_what_waits_for_a_combination_suspends_on_its_open_leaves():
    async def handle(ctx: Context) -> Any:
        return await RestatePromise.all(*(ctx.sleep(timedelta(days=1)) for _ in range(2)))

    answer = await attempt(serving(handle), "S/handle", b"")
    assert [message.kind for message in answer] == [SLEEP, SLEEP, SUSPENSION]


async def test_what_only_a_def_handler_may_is_refused_with_a_sentence():
    said: list[str] = []

    async def handle(ctx: Context) -> None:
        try:
            ctx.run_typed("step", lambda: 1).result()
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
