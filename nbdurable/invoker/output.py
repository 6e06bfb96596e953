"""What handlers and their steps print, on its way into the journal.

Whoever owns the streams (a notebook) asks `output_var` at each write: in a handler or a step it
holds the writer of that attempt. Replay repeats no output; a step that runs again prints again.

Written from any thread, taken on the handler thread by the attempt, which proposes it with whatever
else was done. What is written is bounded by the core, and here so that nothing is sent for nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from nbdurable.core.attempt import Phase
from nbdurable.core.proposals import WriteOutput
from nbdurable.core.rules.output import OUTPUT_BYTES_MAX
from nbdurable.core.values import OutputStream

# A picture larger than this is left out of the journal; the cell shows it all the same.
DISPLAY_BYTES_MAX: Final = 1024 * 1024
# Text of one attempt that is proposed at once; more does not wait for the next moment.
CHUNK_CHARS_MAX: Final = 64 * 1024


class Output:
    """Mutable, under its lock: what was written and not taken yet.

    Args:
        phase: Where the attempt is: replaying, processing, or closed.
        pending: Called from any thread when there is something to take after there was nothing.
        is_heard: Whether a cell shows what this attempt prints.
    """

    def __init__(
        self, phase: Callable[[], Phase], pending: Callable[[], None], *, is_heard: bool
    ) -> None:
        self.phase = phase
        self.is_heard = is_heard
        self._pending = pending
        self._lock = threading.Lock()
        self._chunks: list[tuple[int | None, OutputStream, list[str]]] = []
        self._written_bytes = 0

    def put(self, completion_id: int | None, stream: OutputStream, text: str) -> None:
        with self._lock:
            if self._written_bytes > OUTPUT_BYTES_MAX:
                return
            self._written_bytes += len(text)
            was_empty = not self._chunks
            last = self._chunks[-1] if self._chunks else None
            if last is not None and last[:2] == (completion_id, stream) and stream != "display":
                last[2].append(text)
            else:
                self._chunks.append((completion_id, stream, [text]))
        if was_empty:
            self._pending()

    def end(self) -> None:
        """The attempt is over, and is not held by whoever may still print."""
        self.phase, self._pending = _closed, _nobody

    def take(self) -> tuple[WriteOutput, ...]:
        if not self._chunks:
            return ()
        with self._lock:
            chunks, self._chunks = self._chunks, []
        return tuple(
            WriteOutput(completion_id=completion_id, stream=stream, payload=payload)
            for completion_id, stream, parts in chunks
            for payload in _payloads(stream, "".join(parts))
        )


def _closed() -> Phase:
    return Phase.CLOSED


def _nobody() -> None:
    pass


class Writer:
    """What prints into an attempt's output: its handler, or one of its steps."""

    def __init__(self, output: Output, completion_id: int | None = None) -> None:
        self._output = output
        self._completion_id = completion_id

    @property
    def is_heard(self) -> bool:
        return self._output.is_heard

    @property
    def is_silent(self) -> bool:
        """Steps are never replayed; and nothing that an attempt does once it is over counts."""
        if self._completion_id is None:
            return self._output.phase() is not Phase.PROCESSING
        return self._output.phase() is Phase.CLOSED

    def of_step(self, completion_id: int) -> Writer:
        return Writer(self._output, completion_id)

    def write(self, stream: OutputStream, text: str) -> None:
        """Text as it was printed, to be recorded unless it is silent."""
        if text and not self.is_silent:
            self._output.put(self._completion_id, stream, text)

    def display(self, bundle: Mapping[str, Any]) -> None:
        """What `display()` shows. Shape: by MIME type, as Jupyter's messages have it."""
        if self.is_silent:
            return
        text = json.dumps(dict(bundle), default=str)
        if len(text) > DISPLAY_BYTES_MAX:
            plain = str(bundle.get("text/plain", "something displayed"))[:CHUNK_CHARS_MAX]
            text = json.dumps({"text/plain": plain})
        self._output.put(self._completion_id, "display", text)


# Whose output is printed in this context; None outside of handlers.
output_var: ContextVar[Writer | None] = ContextVar("nbdurable_output", default=None)


def overwritten(text: str) -> str:
    """As a terminal shows it: what comes after a carriage return stands in place of its line.

    Progress bars redraw themselves ten times a second; the last one of a line is what is kept, with
    its return, so that it stands in place of what was recorded before it too.
    """
    if "\r" not in text:
        return text
    return "\n".join(map(_redrawn, text.replace("\r\n", "\n").split("\n")))


def _redrawn(line: str) -> str:
    drawn = line.rstrip("\r")
    _, returned, last = drawn.rpartition("\r")
    return f"{returned}{last}{line[len(drawn) : len(drawn) + 1]}"


def _payloads(stream: OutputStream, text: str) -> list[bytes]:
    if stream == "display":
        return [text.encode(errors="replace")]
    shown = overwritten(text)
    starts = range(0, len(shown), CHUNK_CHARS_MAX)
    return [shown[start : start + CHUNK_CHARS_MAX].encode(errors="replace") for start in starts]
