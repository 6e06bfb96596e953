"""The scenarios of the conformance suite, as a client of the ingress walks through them.

Each is the questions only; what is right is what the other side answers too, and that none of them
waits for ever. The services are those of `conformance.services`; `conformance/README.md` names the
scenarios. What has to restart a server or turn a clock is not here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from caller import Caller
from conformance.programs import KEY_COUNT, Expected, counts_of, generated
from conformance.services.blocking import TREE_DEPTH
from conformance.services.interpreter import LAYERS
from conformance.test_calls import CALL, SEND, adding, append
from conformance.test_signals import rejected, resolved, returns, signal, throws

Scenario = Callable[[Caller], Awaitable[Any]]
INTERPRETER = "VirtualObjectCommandInterpreter"
FLOW, UTILS = "BlockAndWaitWorkflow", "TestUtilsService"
PROGRAM_COUNT = 12


# -- state, calls and sends -----------------------------------------------------------------------


async def add(caller: Caller) -> None:
    key = caller.key()
    for by in (1, 2):
        await caller.call("Counter", key, "add", arg=by)
    await caller.call("Counter", key, "reset")
    await caller.call("Counter", key, "get")


async def clear_all(caller: Caller) -> None:
    key, other = caller.key(), caller.key("other")
    for name in ("one", "two"):
        await caller.call("MapObject", key, "set", arg={"key": name, "value": f"my {name}"})
    await caller.call("MapObject", other, "set", arg={"key": "one", "value": "untouched"})
    await caller.call("MapObject", key, "clearAll")
    await caller.call("MapObject", key, "get", arg="one")
    await caller.call("MapObject", key, "clearAll")
    await caller.call("MapObject", other, "get", arg="one")


async def ordering(caller: Caller, order: list[bool]) -> None:
    key = caller.key()
    requests = [append(key, str(i), one_way=one_way) for i, one_way in enumerate(order)]
    await caller.call("Proxy", "manyCalls", arg=requests)
    await caller.call("ListObject", key, "get")


async def regular_call(caller: Caller) -> None:
    await caller.call("Proxy", "call", arg=adding(caller.key()))
    await caller.call("Counter", caller.key(), "get")


async def one_way_calls(caller: Caller, **options: Any) -> None:
    key = caller.key()
    for _ in range(3):
        await caller.attach(await caller.call("Proxy", "oneWayCall", arg=adding(key, **options)))
    await caller.call("Counter", key, "get")


async def delayed_calls(caller: Caller) -> None:
    for _ in range(10):
        await caller.call("Proxy", "oneWayCall", arg=adding(caller.key(), delayMillis=50))
    await caller.until("Counter", caller.key(), "get", answers=10)


async def idempotent_calls(caller: Caller) -> None:
    key, same = caller.key(), caller.key("same")
    for _ in range(2):
        await caller.call("Proxy", "call", arg=adding(key, idempotencyKey=same))
        await caller.call("Counter", key, "add", arg=1, idempotency_key=same)
        await caller.send("Counter", key, "add", arg=1, idempotency_key=same)
    await caller.get("invocation", "Counter", key, "add", same, "output")
    await caller.call("Counter", key, "get")


async def headers(caller: Caller) -> None:
    received = await caller.call(UTILS, "echoHeaders", x_my_custom_header="my-value")
    assert received["x-my-custom-header"] == "my-value"
    # What else a handler is told of a request is the client's and the connection's.
    caller.said.clear()


async def raw_bytes(caller: Caller) -> None:
    await caller.call(UTILS, "rawEcho", arg=random.Random(20261125).randbytes(100))


async def delayed_send(caller: Caller) -> None:
    sent = await caller.send(UTILS, "uppercaseEcho", arg="ada", idempotency_key=caller.key())
    await caller.attach(sent)
    await caller.get("invocation", sent, "output")


# -- failures -------------------------------------------------------------------------------------


async def terminal_error(caller: Caller, handler: str, metadata: dict[str, str] | None) -> None:
    request = {"errorMessage": "my error", "metadata": metadata}
    for _ in range(2):
        await caller.call("Failing", caller.key(), handler, arg=request)


async def state_before_a_failure(caller: Caller) -> None:
    await caller.call("Counter", caller.key(), "addThenFail", arg=1)
    await caller.call("Counter", caller.key(), "get")


async def tries_of(caller: Caller, handler: str, *arg: int) -> None:
    await caller.call("Failing", caller.key(), handler, **({"arg": arg[0]} if arg else {}))


async def executed_steps(caller: Caller) -> None:
    await caller.call(UTILS, "countExecutedSideEffects", arg=3)


async def input_that_is_no_json(caller: Caller) -> None:
    await caller.call(UTILS, "echo", arg=b"{")


async def non_determinism(caller: Caller, handler: str) -> None:
    """What comes behind the difference does not happen; what does instead, differs."""
    key = caller.key()
    await caller.call("Counter", key, "add", arg=1)
    sent = await caller.send("NonDeterministic", key, handler)
    await caller.until_over(sent)
    await caller.order("kill", sent)
    await caller.attach(sent)
    await caller.call("Counter", key, "get")


# -- waiting --------------------------------------------------------------------------------------


async def sleeps(caller: Caller) -> None:
    chance = random.Random(20261125)
    arguments = [[chance.randint(10, 50) for _ in range(20)] for _ in range(50)]
    await asyncio.gather(*(caller.call(UTILS, "sleepConcurrently", arg=arg) for arg in arguments))


async def interpreted(caller: Caller, command: dict[str, Any], *signals: Any) -> None:
    """What one command comes to, when these signals are sent to it one after the other."""
    key = caller.key()
    sent = await caller.send(INTERPRETER, key, "interpretCommands", arg={"commands": [command]})
    for handler, request in signals:
        await caller.call(UTILS, handler, arg={"invocationId": sent, **request})
    await caller.attach(sent)
    await caller.call(INTERPRETER, key, "getResults")


async def first_success(caller: Caller) -> None:
    key = caller.key()
    commands = [throws(f"no {i}") for i in range(3)]
    commands += [{"type": "createAwakeable", "awakeableKey": f"awk{i}"} for i in (1, 2)]
    command = {"type": "awaitAnySuccessful", "commands": commands}
    sent = await caller.send(INTERPRETER, key, "interpretCommands", arg={"commands": [command]})
    for i in (1, 2):
        await caller.until(INTERPRETER, key, "hasAwakeable", arg=f"awk{i}", answers=True)
    refused = {"awakeableKey": "awk2", "reason": "no"}
    await caller.call(INTERPRETER, key, "rejectAwakeable", arg=refused)
    resolving = {"awakeableKey": "awk1", "value": "awk1-result"}
    await caller.call(INTERPRETER, key, "resolveAwakeable", arg=resolving)
    await caller.attach(sent)


async def workflow(caller: Caller) -> None:
    key = caller.key()
    sent = await caller.send(FLOW, key, "run", arg="Francesco")
    await caller.until(FLOW, key, "getState", answers="Francesco")
    await caller.get("workflow", FLOW, key, "output")
    await caller.call(FLOW, key, "unblock", arg="Till")
    await caller.get("workflow", FLOW, key, "attach")
    await caller.get("workflow", FLOW, key, "output")
    assert await caller.send(FLOW, key, "run", arg="Francesco") == sent
    await caller.call(FLOW, key, "run", arg="Francesco")
    await caller.call(FLOW, key, "unblock", arg="again")
    await caller.call(FLOW, key, "getState")


# -- cancel and kill ------------------------------------------------------------------------------


async def past_the_awakeable(caller: Caller, key: str) -> None:
    await caller.until("AwakeableHolder", key, "hasAwakeable", answers=True)
    await caller.call("AwakeableHolder", key, "unlock", arg="go on")


async def cancelled(caller: Caller, operation: str, *, by_handler: bool) -> None:
    key = caller.key()
    sent = await caller.send("CancelTestRunner", key, "startTest", arg=operation)
    await past_the_awakeable(caller, key)
    if by_handler:
        await caller.call(UTILS, "cancelInvocation", arg=sent)
    else:
        await caller.order("cancel", sent)
    await caller.attach(sent)
    await caller.call("CancelTestRunner", key, "verifyTest")
    await caller.call("CancelTestBlockingService", key, "isUnlocked")


async def killed(caller: Caller) -> None:
    keys = [caller.key()]
    for depth in range(TREE_DEPTH - 1, 0, -1):
        keys.append(f"{keys[-1]}/{depth}")
    sent = await caller.send("KillTestRunner", keys[0], "startCallTree")
    await past_the_awakeable(caller, keys[-1])
    await caller.order("kill", sent)
    for key in keys:
        await caller.call("KillTestSingleton", key, "isUnlocked")
    await caller.attach(sent)


# -- the fuzzer -----------------------------------------------------------------------------------


async def programs(caller: Caller) -> None:
    """Every increment counts once, whatever goes wrong on the way."""
    chance = random.Random(20261125)
    given = [(str(chance.randrange(KEY_COUNT)), generated(chance)) for _ in range(PROGRAM_COUNT)]
    for key, program in given:
        await caller.send("ObjectInterpreterL0", key, "interpret", arg=program)
    expected = Expected()
    for key, program in given:
        expected += counts_of(program, key)
    for level in range(LAYERS):
        for key in map(str, range(KEY_COUNT)):
            name = f"ObjectInterpreterL{level}"
            await caller.until(name, key, "counter", answers=expected[level, key])


METADATA = {"why": "it is a test", "ünï": "cødé"}
SIGNALS = [f"s{i}" for i in range(3)]


def awaiting(how: str, *awaited: dict[str, Any]) -> dict[str, Any]:
    return {"type": how, "commands": list(awaited)}


SCENARIOS: dict[str, Scenario] = {
    "State.add": add,
    "State.listStateAndClearAll": clear_all,
    "State.proxyOneWayAdd": one_way_calls,
    "CallOrdering.send-call-call": partial(ordering, order=[SEND, CALL, CALL]),
    "CallOrdering.call-send-call": partial(ordering, order=[CALL, SEND, CALL]),
    "CallOrdering.send-send-call": partial(ordering, order=[SEND, SEND, CALL]),
    "ServiceToService.regularCall": regular_call,
    "ServiceToService.oneWayCallWithIdempotencyKey": partial(one_way_calls, idempotencyKey="once"),
    "ServiceToService.callWithIdempotencyKey": idempotent_calls,
    "ServiceToService.oneWayCallWithDelay": delayed_calls,
    "Ingress.headersPassThrough": headers,
    "Ingress.rawHandler": raw_bytes,
    "Ingress.sendAndOutput": delayed_send,
    **{
        f"UserErrors.{handler}-{'with' if metadata else 'no'}-metadata": partial(
            terminal_error, handler=handler, metadata=metadata
        )
        for handler in (
            "terminallyFailingCall",
            "callTerminallyFailingCall",
            "terminallyFailingSideEffect",
        )
        for metadata in (None, METADATA)
    },
    "UserErrors.setStateThenFailShouldPersistState": state_before_a_failure,
    "UserErrors.inputThatIsNoJson": input_that_is_no_json,
    "UserErrors.invocationWithEventualSuccess": lambda caller: tries_of(
        caller, "failingCallWithEventualSuccess"
    ),
    "RunRetry.withSuccess": lambda caller: tries_of(
        caller, "sideEffectSucceedsAfterGivenAttempts", 3
    ),
    "RunRetry.executedOnlyOnce": lambda caller: tries_of(
        caller, "sideEffectSucceedsAfterGivenAttempts", 1
    ),
    "RunRetry.withExhaustedAttempts": lambda caller: tries_of(
        caller, "sideEffectFailsAfterGivenAttempts", 3
    ),
    "RunFlush.flush": executed_steps,
    **{
        f"NonDeterminismErrors.{handler}": partial(non_determinism, handler=handler)
        for handler in (
            "eitherSleepOrCall",
            "callDifferentMethod",
            "backgroundInvokeWithDifferentTargets",
            "setDifferentKey",
        )
    },
    "Sleep.manySleeps": sleeps,
    "Combinators.awakeableOrTimeoutUsingAwaitAny": lambda caller: interpreted(
        caller,
        awaiting(
            "awaitAny",
            {"type": "createAwakeable", "awakeableKey": "awk1"},
            {"type": "sleep", "timeoutMillis": 20},
        ),
    ),
    "Combinators.awakeableOrTimeoutUsingAwakeableTimeoutCommand": lambda caller: interpreted(
        caller, {"type": "awaitAwakeableOrTimeout", "awakeableKey": "awk1", "timeoutMillis": 20}
    ),
    "Combinators.firstSuccessfulCompletedAwakeable": first_success,
    "Combinators.signalFirstSuccessfulOrAllFailed": lambda caller: interpreted(
        caller,
        awaiting("awaitFirstSucceededOrAllFailed", *map(signal, SIGNALS)),
        rejected("s0", "err0"),
        resolved("s1", "success1"),
    ),
    "Combinators.signalAllSuccessfulOrFirstFailed": lambda caller: interpreted(
        caller,
        awaiting("awaitAllSucceededOrFirstFailed", *map(signal, SIGNALS)),
        resolved("s2", "val2"),
        resolved("s0", "val0"),
        resolved("s1", "val1"),
    ),
    "Combinators.signalAllCompleted": lambda caller: interpreted(
        caller,
        awaiting("awaitAllCompleted", *map(signal, SIGNALS)),
        resolved("s0", "val0"),
        rejected("s1", "err1"),
        resolved("s2", "val2"),
    ),
    "Combinators.signalFirstCompleted": lambda caller: interpreted(
        caller, awaiting("awaitFirstCompleted", *map(signal, SIGNALS)), resolved("s1", "first")
    ),
    "Combinators.mixedRunWinsRaceAgainstSignal": lambda caller: interpreted(
        caller, awaiting("awaitFirstCompleted", returns("runval"), signal("s"))
    ),
    "Combinators.mixedSignalWinsAfterRunFails": lambda caller: interpreted(
        caller,
        awaiting("awaitFirstSucceededOrAllFailed", throws("fail"), signal("s")),
        resolved("s", "sigval"),
    ),
    "Combinators.mixedAllSucceededRunAndSignal": lambda caller: interpreted(
        caller,
        awaiting("awaitAllSucceededOrFirstFailed", returns("runval"), signal("s")),
        resolved("s", "sigval"),
    ),
    "Combinators.mixedAllCompletedRunSignalAndFailedRun": lambda caller: interpreted(
        caller,
        awaiting("awaitAllCompleted", returns("runval"), signal("s"), throws("fail")),
        resolved("s", "sigval"),
    ),
    "Signals.resolve": lambda caller: interpreted(
        caller, {"type": "awaitOne", "command": signal("s")}, resolved("s", "value")
    ),
    "Signals.reject": lambda caller: interpreted(
        caller, {"type": "awaitOne", "command": signal("s")}, rejected("s", "boom")
    ),
    "WorkflowAPI.setAndResolve": workflow,
    **{
        f"Cancellation.{whom}-{operation}": partial(
            cancelled, operation=operation, by_handler=by_handler
        )
        for whom, by_handler in (("cancelFromAdminAPI", False), ("cancelFromContext", True))
        for operation in ("CALL", "SLEEP", "AWAKEABLE")
    },
    "KillInvocation.kill": killed,
    "Fuzzer": programs,
}
