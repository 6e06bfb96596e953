"""Who asks a Restate server and an engine of ours the same, and notes down what each answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import httpx

# Long for a machine under load; only what fails waits for it.
ANSWER_S_MAX = 30.0
UNSET: Any = object()

_IDS = re.compile(r"\b(?:inv|sign|prom|dp)_1[0-9A-Za-z_-]+")
# Of the headers, those that say something of an answer; of these two only that they are there.
_HEADERS = ("content-type", "x-restate-error-source", "x-restate-id", "idempotency-expires")
_OPAQUE = frozenset({"x-restate-id", "idempotency-expires"})


class Said(NamedTuple):
    """An answer, without what differs from run to run: ids are numbered, keys have no mark."""

    asked: str
    status: int
    headers: dict[str, str]
    body: Any


class Asked(NamedTuple):
    """One of the two that are asked."""

    ingress_url: str
    admin_url: str
    status_of: Callable[[str], str]
    """Of an invocation, by its id."""


class Both(NamedTuple):
    """A cluster, and an engine here."""

    there: Asked
    here: Asked


class Caller:
    """Mutable: `said`, in the order it was asked."""

    def __init__(self, client: httpx.AsyncClient, asked: Asked) -> None:
        self._client = client
        self._asked = asked
        self._mark = uuid4().hex
        self._numbers: dict[str, str] = {}
        self.said: list[Said] = []

    def key(self, name: str = "key") -> str:
        """One that no other scenario uses: counts of tries live as long as the process."""
        return f"{name}-{self._mark}"

    async def call(self, *path: str, arg: Any = UNSET, **headers: str) -> Any:
        """`call("Counter", key, "add", arg=1)`; noted down."""
        return await self._noted("POST", _path(*path), arg, headers)

    async def send(self, *path: str, arg: Any = UNSET, **headers: str) -> str:
        """The id of what was sent; noted down."""
        answer = await self._noted("POST", _path(*path, "send"), arg, headers)
        return str(answer["invocationId"])

    async def get(self, *path: str) -> Any:
        """A question about an invocation or a workflow; noted down."""
        return await self._noted("GET", _path("restate", *path), UNSET, {})

    async def attach(self, invocation_id: str) -> Any:
        return await self.get("invocation", invocation_id, "attach")

    async def order(self, verb: str, invocation_id: str) -> None:
        """Cancel or kill, by the admin API; noted down."""
        path = f"/invocations/{invocation_id}/{verb}"
        reply = await self._client.patch(self._asked.admin_url + path)
        self._note("PATCH", path, reply)

    async def until(self, *path: str, arg: Any = UNSET, answers: Any) -> None:
        """Call until it answers so; only the last answer is noted down."""
        reply = None
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                while reply is None or _body(reply) != answers:
                    reply = await self._ask("POST", _path(*path), arg, {})
        except TimeoutError:
            said = None if reply is None else reply.text
            raise AssertionError(f"{path} still answers {said!r}, not {answers!r}") from None
        self._note("POST", _path(*path), reply)

    async def until_over(self, invocation_id: str) -> None:
        """Until nothing happens to it any more unless a person does it."""
        async with asyncio.timeout(ANSWER_S_MAX):
            status = None
            while status not in {"completed", "paused"}:
                status = await asyncio.to_thread(self._asked.status_of, invocation_id)

    # -- inside -------------------------------------------------------------------------------

    async def _noted(self, method: str, path: str, arg: Any, headers: dict[str, str]) -> Any:
        reply = await self._ask(method, path, arg, headers)
        self._note(method, path, reply)
        return _body(reply)

    async def _ask(
        self, method: str, path: str, arg: Any, headers: dict[str, str]
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None
        if arg is not UNSET:
            content = arg if isinstance(arg, bytes) else json.dumps(arg)
            named["content-type"] = "application/json"
        return await self._client.request(
            method, self._asked.ingress_url + path, content=content, headers=named
        )

    def _note(self, method: str, path: str, reply: httpx.Response) -> None:
        headers = {
            name: "…" if name in _OPAQUE else reply.headers[name]
            for name in _HEADERS
            if name in reply.headers
        }
        if path.endswith("/attach"):
            # There if it was over already, which is chance.
            headers.pop("idempotency-expires", None)
        said = Said(f"{method} {path}", reply.status_code, headers, _body(reply))
        self.said.append(Said(*(self._alike(part) for part in said)))

    def _alike(self, part: Any) -> Any:
        match part:
            case str():
                return _IDS.sub(self._number, part.replace(f"-{self._mark}", ""))
            case dict():
                return {self._alike(name): self._alike(value) for name, value in part.items()}
            case list():
                return [self._alike(item) for item in part]
            case _:
                return part

    def _number(self, found: re.Match[str]) -> str:
        prefix = found[0].partition("_")[0]
        return self._numbers.setdefault(found[0], f"{prefix}_{len(self._numbers)}")


def _path(*segments: str) -> str:
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def _body(reply: httpx.Response) -> Any:
    try:
        return json.loads(reply.content) if reply.content else None
    except ValueError:
        return reply.content
