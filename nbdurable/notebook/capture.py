"""Output of handlers: into the journal, and to the cell that has submitted them; replay is silent.

Everything else that is printed goes where it went. The streams are wrapped, not patched: IPython
puts back each stream's `write` at the end of every cell, the one that loads us included.

Source: jupyter.md, 1.4 (a submitting cell's context routes what is printed on any thread).
"""

# ruff: noqa: ANN401 - what IPython hands to a publisher is any value.
from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, Final

from IPython.core.interactiveshell import InteractiveShell

from nbdurable.core.values import OutputStream
from nbdurable.invoker.output import output_var

_STREAMS: Final[tuple[OutputStream, ...]] = ("stdout", "stderr")


class CapturingStream:
    """A stream that asks first whose output it is. All else is the stream's it stands for."""

    def __init__(self, inner: Any, name: OutputStream) -> None:
        self._inner = inner
        self._name = name

    def __repr__(self) -> str:
        return f"<CapturingStream of {self._inner!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        writer = output_var.get()
        if writer is None or not isinstance(text, str):
            written: int = self._inner.write(text)
            return written
        writer.write(self._name, text)
        if writer.is_heard and not writer.is_silent:
            self._inner.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


class Capture:
    """Mutable: what is put back in the end."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._streams: dict[OutputStream, CapturingStream] = {}

    def begin(self) -> None:
        self.renew()
        publisher = self._shell.display_pub
        publish = publisher.publish

        def publish_or_capture(data: dict[str, Any], *args: Any, **more: Any) -> None:
            writer = output_var.get()
            if writer is not None:
                writer.display(data)
            if writer is None or (writer.is_heard and not writer.is_silent):
                publish(data, *args, **more)

        vars(publisher)["publish"] = publish_or_capture

    def renew(self, *_: object) -> None:
        """Before every cell: somebody may have put other streams in the place of ours.

        On the main thread only, where streams are replaced and put back.
        """
        for name in _STREAMS:
            present = getattr(sys, name)
            if not isinstance(present, CapturingStream):
                self._streams[name] = CapturingStream(present, name)
                _swap(name, present, self._streams[name])

    def end(self) -> None:
        for name, stream in self._streams.items():
            _swap(name, stream, stream._inner)  # noqa: SLF001 - of our own.
        self._streams = {}
        vars(self._shell.display_pub).pop("publish", None)


@contextmanager
def heard() -> Iterator[None]:
    """The streams ask whose output it is, also where somebody has put others in their place."""
    with ExitStack() as stack:
        if not isinstance(sys.stdout, CapturingStream):
            stack.enter_context(redirect_stdout(CapturingStream(sys.stdout, "stdout")))
        if not isinstance(sys.stderr, CapturingStream):
            stack.enter_context(redirect_stderr(CapturingStream(sys.stderr, "stderr")))
        yield


def _swap(name: OutputStream, old: object, new: Any) -> None:
    """Where it is not what we have left there, somebody else has come, and stays."""
    if getattr(sys, name) is old:
        setattr(sys, name, new)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)
