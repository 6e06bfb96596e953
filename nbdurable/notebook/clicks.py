"""What a click on a run asks for, the same as the magic of that name does."""

# An answer is any value.
# ruff: noqa: ANN401
from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

from nbdurable.client.answers import (
    APPROVED,
    REJECTED_MESSAGE,
    Awaited,
    answer,
    awaited_at,
    reject,
    said_by,
)
from nbdurable.client.drawing import Drawing
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import short_id

# A click that is heard later may be given to the Jupyter server as well. Its page asks there after
# 1,500 ms (door.js), and by then must have been told of what was heard just in time.
LATE_MS: Final = 1300
# Cancelling and killing twice is doing it once.
_NOT_TWICE: Final = ("pause", "resume", "restart")


class Doing(NamedTuple):
    """What is to be awaited, and what to say when it is done."""

    asked: Coroutine[Any, Any, Any]
    done: str


class Clicks:
    """Reads what a page says about the run that is drawn there."""

    def __init__(self, client: EngineClient, drawing: Drawing, who: str) -> None:
        """`who` sits before the page, as a journal names them."""
        self._client = client
        self._who = who
        self._drawing = drawing

    def doing(self, message: dict[str, Any], heard_at_ms: int) -> Doing | str | None:
        """What to do, or a sentence why not; None for what is nobody's click."""
        match message:
            case {"type": "answer", "id": str(ask_id), "value": value}:
                comment = str(message.get("comment") or "")
                asked = self._asked(ask_id)
                if asked is None:
                    return self._is_answered(ask_id)
                verb = "approved" if value is APPROVED else "answered"
                answering = self._answer(asked, value, comment)
                return Doing(answering, f"{verb} '{asked.name}'")
            case {"type": "reject", "id": str(ask_id), "message": str(why)}:
                asked = self._asked(ask_id)
                if asked is None:
                    return self._is_answered(ask_id)
                rejecting = reject(self._client, asked, why or REJECTED_MESSAGE, said_by(self._who))
                return Doing(rejecting, f"rejected '{asked.name}'")
            case {"type": "deed", "name": str(name), "at_ms": int(at_ms)}:
                from_entry = message.get("from_entry", 1)
                return self._deed(name, heard_at_ms - at_ms, from_entry)
            case _:
                return None

    async def _answer(self, asked: Awaited, value: Any, comment: str) -> None:
        await answer(self._client, asked, value, said_by(self._who, comment))

    def _deed(self, name: str, late_ms: int, from_entry: Any) -> Doing | str | None:
        """A late one the Jupyter server may have done, and somebody undone."""
        client, run = self._client, self._drawing.view.id
        if late_ms > LATE_MS and name in _NOT_TWICE:
            return (
                f"{name} was clicked {late_ms // 1000} s ago; it is not done now. If it is still"
                " meant, click again"
            )
        match name:
            case "pause":
                return Doing(client.pause(run), "paused")
            case "resume":
                return Doing(client.resume(run), "it is tried again")
            case "cancel":
                done = "cancelled: its next await raises TerminalError"
                return Doing(client.cancel(run), done)
            case "kill":
                return Doing(client.kill(run), "killed")
            case "restart":
                return Doing(
                    client.restart_as_new(run, from_entry),
                    "it runs anew, as a new run: %durable ls",
                )
            case _:
                return None

    def _asked(self, ask_id: str) -> Awaited | None:
        entry = self._drawing.asked(ask_id)
        return None if entry is None else awaited_at(self._drawing.view, entry)

    def _is_answered(self, ask_id: str) -> str:
        name = short_id(ask_id)
        return f"'{name}' was answered before, or nobody waits for it any more"
