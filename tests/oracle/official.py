"""The official SDK: its ASGI app, called in this process, without a socket.

In request/response mode one call is one attempt: it is given the whole journal, and answers with
what it adds until it must suspend. In live mode the request stays open, and answers arrive on it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Callable
from typing import Any

from oracle.journals import (
    Asked,
    Attempted,
    Came,
    Ending,
    Entry,
    Failed,
    Label,
    came_of_name,
    commands,
    until_idle,
    value_of,
)
from oracle.wire import Frame, Message, decode, encode

INVOCATION = b"\x01" * 16
CANCEL_SIGNAL = 1
VOID_KINDS = ("Sleep", "CompletePromise")
CALLEE = "inv_callee_"
# Source: restate-semantics.md, 1.2 – the invocation's id and the signal's number, in base64url.
AWAKEABLE = "sign_1"


async def request(app: Any, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """One HTTP/1.1 exchange with an ASGI app."""
    status, chunks = 0, []
    asked = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            await asyncio.Event().wait()
        asked.set()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        nonlocal status
        status = event.get("status", status)
        chunks.append(event.get("body", b""))

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST" if body else "GET",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    leave_sigterm()
    assert status == 200, (status, chunks)
    return b"".join(chunks)


def leave_sigterm() -> None:
    """The app takes SIGTERM over; a test run must still be one that can be ended."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def discover(app: Any, version: int = 4) -> Any:
    accept = f"application/vnd.restate.endpointmanifest.v{version}+json"
    return json.loads(await request(app, "/discover", {"accept": accept}))


class Official:
    """Immutable: one handler of one app, one invocation of it."""

    def __init__(
        self,
        app: Any,
        service: str,
        handler: str,
        *,
        argument: bytes = b"",
        key: str = "",
        state: dict[str, bytes] | None = None,
        seed: int = 0,
        protocol: int = 6,
    ) -> None:
        self._app = app
        self._path = f"/invoke/{service}/{handler}"
        self._start: Message = {
            "id": INVOCATION,
            "debug_id": "inv_official",
            "state_map": [
                {"key": name.encode(), "value": value} for name, value in (state or {}).items()
            ],
            "key": key,
            "random_seed": seed,
        }
        self._input: Message = {"value": {"content": argument}}
        self._protocol = protocol

    async def attempt(self, journal: list[Entry]) -> Attempted:
        body = encode("Input", self._input)
        count = 1
        for position, entry in enumerate(journal):
            kind, message = entry.native
            body += encode(kind, message)
            count += 1
            if kind in ("Call", "OneWayCall"):
                body += encode("CallInvocationIdNotification", _callee(journal, position))
                count += 1
        body = encode("Start", {**self._start, "known_entries": count}) + body
        content_type = f"application/vnd.restate.invocation.v{self._protocol}"
        answer = await request(self._app, self._path, {"content-type": content_type}, body)
        entries, ending = list[Entry](), None
        for frame in decode(answer):
            assert ending is None, f"{frame} after the end of the attempt"
            ending = _heard(journal, entries, frame)
        assert ending is not None, f"the attempt has no end: {entries}"
        return Attempted(entries, ending)

    def live(self) -> Live:
        return Live(self._app, self._path, self._start, self._input, self.came)

    def came(self, journal: list[Entry], label: Label, result: bytes | Failed) -> Entry:
        message: Message
        if isinstance(label, int):
            kind, command = commands(journal)[label].native
            message = {"completion_id": command["completion_id"]}
        else:
            kind = "Signal"
            match label.split():
                case ["awakeable", number]:
                    message = {"signal_id": int(number)}
                case ["signal", name, _]:
                    message = {"signal_name": name}
                case _:
                    message = {"signal_id": CANCEL_SIGNAL}
        if isinstance(result, Failed):
            message["failure"] = result._asdict()
        elif (
            kind in ("Sleep", "CompletePromise")
            or label == "cancel"
            or (kind == "PeekPromise" and not result)
        ):
            message["void"] = {}
        else:
            message["value"] = {"content": result}
        seen = result if isinstance(result, Failed) else value_of(result)
        return Entry(Came(label=label, result=seen), (f"{kind}Notification", message))


class Live:
    """Mutable: one attempt whose answers arrive while it is alive, as over HTTP/2.

    Protocol V7, in which the record of a step is acknowledged instead of sent back.
    """

    def __init__(
        self,
        app: Any,
        path: str,
        start: Message,
        given: Message,
        came: Callable[[list[Entry], Label, bytes | Failed], Entry],
    ) -> None:
        self.journal: list[Entry] = []
        self.ending: Ending | None = None
        self._came = came
        # None is the end of the connection.
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._sent.put_nowait(encode("Start", {**start, "known_entries": 1}))
        self._sent.put_nowait(encode("Input", given))
        self._task = asyncio.create_task(app(self._scope(path), self._receive, self._hear))

    async def idle(self) -> None:
        leave_sigterm()
        await until_idle(lambda: len(self.journal) if self.ending is None else -1)
        if self._task.done():
            self._task.result()

    def tell(self, label: Label, result: bytes | Failed) -> None:
        entry = self._came(self.journal, label, result)
        self.journal.append(entry)
        self._sent.put_nowait(encode(*entry.native))

    async def close(self) -> None:
        """Hang up: a handler of theirs that is cancelled waits for that first."""
        self._sent.put_nowait(None)
        await self._task

    def _scope(self, path: str) -> dict[str, Any]:
        return {
            "type": "http",
            "http_version": "2",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/vnd.restate.invocation.v7")],
        }

    async def _receive(self) -> dict[str, Any]:
        sent = await self._sent.get()
        if sent is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": sent, "more_body": True}

    async def _hear(self, event: dict[str, Any]) -> None:
        for frame in decode(event.get("body", b"")):
            self.ending = _heard([], self.journal, frame) or self.ending
            match frame:
                case "Call" | "OneWayCall", _:
                    callee = _callee(self.journal, len(self.journal) - 1)
                    self._sent.put_nowait(encode("CallInvocationIdNotification", callee))
                case "ProposeRunCompletion", message:
                    ack = {"completion_id": message["completion_id"]}
                    self._sent.put_nowait(encode("ProposeRunCompletionAck", ack))
                case _:
                    pass


def _callee(journal: list[Entry], position: int) -> Message:
    """The server answers a call with the id of its callee at once; one key has one callee."""
    called = journal[position]
    label = next(
        label
        for label, entry in enumerate(commands(journal))
        if entry is called or _has_same_callee(entry.seen, called.seen)
    )
    return {
        "completion_id": called.native[1]["invocation_id_completion_id"],
        "invocation_id": f"{CALLEE}{label}",
    }


def _has_same_callee(one: Asked | Came, other: Asked | Came) -> bool:
    return (
        isinstance(one, Asked)
        and isinstance(other, Asked)
        and one.idempotency_key is not None
        and (one.target, one.idempotency_key) == (other.target, other.idempotency_key)
    )


def _heard(journal: list[Entry], entries: list[Entry], frame: Frame) -> Ending | None:
    """Add what the SDK said to the entries; returns the ending, if it said that."""
    kind, message = frame
    so_far = journal + entries
    match kind:
        case "Suspension":
            waits_for = _waits_for(so_far, message.get("awaiting_on", message))
            return Ending(how="suspended", waits_for=waits_for)
        case "Error":
            return Ending(how="failed", failure=Failed(message["code"], message["message"]))
        case "End":
            return Ending(how="ended")
        case "AwaitingOn":
            pass
        case "ProposeRunCompletion":
            entries.append(_recorded_run(so_far, message))
        case _:
            entries.append(Entry(_asked(kind, message), (kind, message)))
    return None


def _recorded_run(journal: list[Entry], message: Message) -> Entry:
    """The server stores a proposed result and sends it back as a notification."""
    label = _label_of(journal, message["completion_id"])
    result = message.get("value", b"")
    native: Message = {"completion_id": message["completion_id"]}
    if "failure" in message:
        native["failure"] = message["failure"]
        return Entry(
            Came(label=label, result=_failed(message["failure"])), ("RunNotification", native)
        )
    native["value"] = {"content": result}
    return Entry(Came(label=label, result=value_of(result)), ("RunNotification", native))


def _label_of(journal: list[Entry], completion_id: int) -> Label:
    for label, entry in enumerate(commands(journal)):
        _, command = entry.native
        if command.get("completion_id") == completion_id:
            return label
        if command.get("invocation_id_completion_id") == completion_id:
            return f"callee {label}"
    raise AssertionError(f"nothing has completion {completion_id}")


def _waits_for(journal: list[Entry], future: Message) -> frozenset[Label]:
    labels = {_label_of(journal, number) for number in future.get("completions", ())}
    labels |= {
        f"awakeable {number}" for number in future.get("signals", ()) if number != CANCEL_SIGNAL
    }
    labels |= {
        f"signal {name} {came_of_name(journal, name)}" for name in future.get("named_signals", ())
    }
    for nested in future.get("nested", ()):
        labels |= _waits_for(journal, nested)
    return frozenset(labels)


def _asked(kind: str, message: Message) -> Asked:
    return Asked(
        kind=kind,
        name=message.get("name"),
        key=message.get("key") if kind not in ("Call", "OneWayCall") else None,
        target=(message["service"], message.get("key"), message["handler"])
        if kind in ("Call", "OneWayCall")
        else None,
        value=_value(kind, message),
        headers=tuple((pair["key"], pair["value"]) for pair in message.get("headers", ())),
        idempotency_key=message.get("idempotency_key"),
        is_delayed="invoke_time" in message,
        whom=_whom(message),
        signal=message.get("signal_id") or message.get("signal_name"),
    )


def _value(kind: str, message: Message) -> Any:
    if "failure" in message:
        return _failed(message["failure"])
    if "argument" in message:
        return value_of(message["argument"])
    if kind in ("Call", "OneWayCall"):
        return b""
    if "state_keys" in message:
        return [key.decode() for key in message["state_keys"].get("keys", ())]
    if "value" in message:
        return value_of(message["value"].get("content", b""))
    return None


def _whom(message: Message) -> Label | None:
    """Whom a signal, an attach or an answer is for: `callee 3`, `awakeable 17`, or as written."""
    named = message.get("invocation_id") or message.get("awakeable_id")
    if named is None:
        return None
    if named.startswith(CALLEE):
        return f"callee {named.removeprefix(CALLEE)}"
    if named.startswith(AWAKEABLE) and "foreign" not in named:
        encoded = named.removeprefix(AWAKEABLE)
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        return f"awakeable {int.from_bytes(raw[len(INVOCATION) :], 'big')}"
    return str(named)


def _failed(failure: Message) -> Failed:
    return Failed(failure["code"], failure.get("message", ""))
