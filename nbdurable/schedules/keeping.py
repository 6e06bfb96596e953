"""The schedules of a journal, for whoever has a client of it: a command, a notebook, a script.

Owns: what is asked of the objects in `service.py`, and that their code is there to answer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal, TypeVar, cast

import msgspec

from nbdurable.client.engine import EngineClient
from nbdurable.core.builtin import SCHEDULE_SERVICE
from nbdurable.core.manifest import ServiceManifest
from nbdurable.errors import DefinitionError, HttpError, TerminalError
from nbdurable.schedules import service
from nbdurable.schedules.plan import Spec
from nbdurable.schedules.service import INDEX_KEY, Kept, While
from nbdurable.schedules.times import check
from nbdurable.sdk import canonical_json
from nbdurable.sdk.context import HandlerType
from nbdurable.sdk.handler import INPUT_ARITY, Handler, handler_from_callable

T = TypeVar("T")

DAY_MS: Final = 86_400_000
_NOT_FOUND: Final = 404

# What is called: a service, one object, or a workflow, whose runs have the keys of their fires.
Target = tuple[Literal["service", "object", "workflow"], str, str | None, str]


class Schedules:
    """Stateless; each method is a call of an object that keeps a schedule.

    All but `put` and `all` raise HttpError 404 for a schedule that is not there.
    """

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def put(self, name: str, spec: Spec) -> Kept:
        """Make it, or change the one that has this name.

        Raises:
            DefinitionError: Its name or its times are none.
        """
        if not name or name == INDEX_KEY:
            raise DefinitionError(f"{name!r} cannot be the name of a schedule")
        check(spec.when, spec.tz)
        await self._load()
        return await self._client.object_call(service.put, name, spec)

    async def all(self) -> dict[str, Kept]:
        """By name, in its order."""
        if not await self._are_any():
            return {}
        names = await self._client.object_call(service.names, INDEX_KEY, None)
        found = {name: await self._client.object_call(service.show, name, None) for name in names}
        return {name: kept for name, kept in found.items() if kept is not None}

    async def show(self, name: str) -> Kept:
        kept = None
        if await self._are_any():
            kept = await self._client.object_call(service.show, name, None)
        if kept is None:
            raise _unknown(name)
        return kept

    async def pause(self, name: str) -> Kept:
        return await self._ask(service.pause, name)

    async def resume(self, name: str) -> Kept:
        return await self._ask(service.resume, name)

    async def trigger(self, name: str) -> str:
        """The id of the run that begins now."""
        return await self._ask(service.trigger, name)

    async def backfill(self, name: str, days: int) -> list[str]:
        """The ids of the runs of the past days; those that have run do not run again."""
        until_ms = self._client.now_ms()
        span = While(from_ms=until_ms - days * DAY_MS, until_ms=until_ms)
        return await self._ask(service.backfill, name, span)

    async def remove(self, name: str) -> None:
        await self._ask(service.remove, name)

    async def _ask(self, handler: HandlerType[Any, T], name: str, arg: object = None) -> T:
        if not await self._are_any():
            raise _unknown(name)
        try:
            return await self._client.object_call(handler, name, arg)
        except TerminalError as error:
            if error.status_code == _NOT_FOUND:
                raise _unknown(name) from None
            raise

    async def _are_any(self) -> bool:
        """Whether there were ever schedules here; then their code is loaded somewhere."""
        if SCHEDULE_SERVICE not in {known.name for known in await self._client.services()}:
            return False
        await self._load()
        return True

    async def _load(self) -> None:
        """Here, for as long as this process lasts; an owner that hears of it loads it as well."""
        for definition in service.BUILT_IN:
            await self._client.register(definition, digest=service.DIGESTS[definition.name])


async def target_of(client: EngineClient, called: object, key: str | None) -> Target:
    """What a schedule is to call: a handler, or `Report/build` or `Counter/ada/add`.

    Raises:
        DefinitionError: It cannot be called like that.
        HttpError: 404, there is no such handler.
    """
    if not isinstance(called, str):
        handler: Handler[Any, Any] = handler_from_callable(cast("Any", called))
        tag, name = handler.service_tag, handler.name
        key = key if key is not None else getattr(called, "key", None)
        return _checked(tag.kind, tag.name, key, name)
    named, _, rest = called.partition("/")
    between, slash, name = rest.rpartition("/")
    manifest = await _manifest(client, named)
    if manifest.handler(name) is None:
        names = ", ".join(handler.name for handler in manifest.handlers)
        raise HttpError(_NOT_FOUND, f"{named} has no handler '{name}'; it has: {names}")
    kind: Literal["service", "object", "workflow"] = (
        "object" if manifest.type == "virtual_object" else manifest.type
    )
    return _checked(kind, named, key if key is not None else between if slash else None, name)


def argument_of(called: object, value: object) -> bytes:
    """What the handler is sent, as its own serde writes it; JSON for one that is named."""
    if isinstance(called, str):
        return b"" if value is None else canonical_json.write(value)
    handler: Handler[Any, Any] = handler_from_callable(cast("Any", called))
    if handler.arity < INPUT_ARITY:
        if value is not None:
            raise DefinitionError(f"{handler.name} takes no input; leave {value!r} out")
        return b""
    return handler.handler_io.input_serde.serialize(value)


def ms_of(length: timedelta | None) -> int | None:
    return None if length is None else length // timedelta(milliseconds=1)


def spec_of(target: Target, when: str, argument: bytes, **policy: Any) -> Spec:  # noqa: ANN401 - fields of it.
    """The schedule that calls this target with this argument, JSON or nothing."""
    kind, called, key, handler = target
    try:
        text = argument.decode() or None
        if text is not None:
            msgspec.json.decode(argument)
    except ValueError:
        raise DefinitionError(
            f"a schedule keeps its input as JSON, and that of {handler!r} is none; give the handler"
            " a serde that writes JSON"
        ) from None
    return Spec(
        when=when, service=called, handler=handler, kind=kind, key=key, argument=text, **policy
    )


async def _manifest(client: EngineClient, name: str) -> ServiceManifest:
    known = {each.name: each for each in await client.services()}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise HttpError(_NOT_FOUND, f"there is no service '{name}'; there are: {names}")
    return known[name]


def _checked(
    kind: Literal["service", "object", "workflow"], called: str, key: str | None, handler: str
) -> Target:
    if kind == "object" and not key:
        raise DefinitionError(f"{called} is keyed; say which key the schedule calls")
    if kind != "object" and key:
        has = "has no keys" if kind == "service" else "gets a key of each fire's own"
        raise DefinitionError(f"{called} {has}; leave the key {key!r} out")
    return kind, called, key, handler


def _unknown(name: str) -> HttpError:
    return HttpError(_NOT_FOUND, f"there is no schedule '{name}'; see `nbdurable schedule ls`")
