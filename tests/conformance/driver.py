"""The suite's client: calls by name, JSON in and out, as it would come over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from support.running import WAIT_S_MAX

from conformance.services import (
    blocking,
    collections,
    command_interpreter,
    counter,
    failing,
    interpreter,
    proxy,
    utils,
)
from nbdurable import DurableEngine

SERVICES = [
    counter.counter,
    collections.list_object,
    collections.map_object,
    proxy.proxy,
    blocking.holder,
    blocking.block_and_wait,
    blocking.cancel_runner,
    blocking.cancel_blocking,
    blocking.kill_runner,
    blocking.kill_singleton,
    failing.failing,
    failing.non_deterministic,
    failing.other,
    utils.test_utils,
    command_interpreter.interpreter,
    interpreter.helper,
    *interpreter.layers,
]


def fresh() -> str:
    """A key that no other scenario uses: counts of tries outlive an engine."""
    return uuid4().hex


class Runtime:
    """An open engine with all services. `Counter/key/add` names a handler."""

    def __init__(self, engine: DurableEngine) -> None:
        self.engine = engine
        self.client = engine.client

    async def call(self, path: str, argument: Any = None, **options: Any) -> Any:
        """Every call carries a random idempotency key, as the suite's do."""
        options.setdefault("idempotency_key", fresh())
        return _read(await self.client.generic_call(**_target(path, argument), **options))

    async def send(self, path: str, argument: Any = None, **options: Any) -> str:
        sent = await self.client.generic_send(**_target(path, argument), **options)
        return sent.invocation_id

    async def run(self, path: str, argument: Any = None) -> Any:
        """A workflow's run, which takes no idempotency key."""
        return await self.call(path, argument, idempotency_key=None)

    async def unfinished(self) -> list[str]:
        """What is not over yet, for whoever waits until all is."""
        return [repr(view) for view in await self.client.invocations() if not view.is_done]

    async def attach(self, invocation_id: str) -> Any:
        return await self.client.attach(invocation_id)


async def eventually(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Ask until the answer is as expected. Every question goes to the engine, so time passes."""
    answer = None
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            while (answer := await ask()) != expected:
                pass
    except TimeoutError:
        raise AssertionError(f"still {answer!r}, not {expected!r}") from None


def message(argument: Any) -> list[int]:
    """An argument as `Proxy` takes it: the bytes of its JSON, as numbers."""
    return list(_bytes(argument))


def said(numbers: list[int]) -> Any:
    """An answer as `Proxy` gives it."""
    return _read(bytes(numbers))


def _target(path: str, argument: Any) -> dict[str, Any]:
    service, *key, handler = path.split("/")
    return {
        "service": service,
        "key": key[0] if key else None,
        "handler": handler,
        "arg": argument if isinstance(argument, bytes) else _bytes(argument),
    }


def _bytes(argument: Any) -> bytes:
    return b"" if argument is None else json.dumps(argument).encode()


def _read(answer: bytes) -> Any:
    try:
        return json.loads(answer) if answer else None
    except ValueError:
        return answer
