"""Output of handlers: into the journal, and to the cell that has submitted them; replay is silent.

That cell may capture it, by `%%capture` or `redirect_stdout`: then it goes where that cell's own
output goes. What another cell captures meanwhile is not the handler's affair, although streams are
one for all threads: the streams that are there are wrapped, and ask whose output it is.

They are wrapped, not patched: IPython puts back each stream's `write` at the end of every cell, the
one that loads us included.

Source: jupyter.md, 1.4 (a submitting cell's context routes what is printed on any thread).
"""

# IPython annotates its capture in part.
# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: ANN401 - what IPython hands to a publisher is any value.
from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, Final

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbdurable.core.values import OutputStream
from nbdurable.invoker.output import output_var

_STREAMS: Final[tuple[OutputStream, ...]] = ("stdout", "stderr")


# All that puts other streams in the place of ours for a while; `%%capture` is the last of them.
_REDIRECTIONS: Final[tuple[Any, ...]] = (redirect_stdout, redirect_stderr, capture_output)


class _Place:
    """Mutable: where a cell's output goes, and the bars that are not shown yet.

    Args:
        streams: By their names.
        publish: What shows what the cell displays.
    """

    def __init__(self, streams: dict[OutputStream, Any], publish: Callable[..., Any]) -> None:
        self.publish = publish
        self._streams = streams
        self._bars: dict[OutputStream, str] = {}

    def write(self, name: OutputStream, text: str) -> None:
        """A bar that redraws itself is shown from its second state on, with the first one.

        What a cell shows after the first, such as the run's own journal, would part them: a page
        draws a line anew only while nothing is below it.
        """
        if not text:  # As `print` ends with, where it ends no line.
            return
        first = self._bars.get(name)
        if first is None and text.startswith("\r") and "\n" not in text:
            self._bars[name] = text
            return
        if "\n" in text:
            self._bars.pop(name, None)
        elif first:
            self._bars[name] = ""
        self._streams[name].write((first or "") + text)


# Where the cell shows its output that has submitted the handler of this context.
_place_var: ContextVar[_Place | None] = ContextVar("nbdurable_place", default=None)


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
            place = _place_var.get()
            # A file that a cell has captured into is closed with the cell; the run goes on.
            with suppress(ValueError):
                if place is None:
                    self._inner.write(text)
                else:
                    place.write(self._name, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


class _CapturingPublisher:
    """What stands in the place of a publisher's `publish`, as the streams do in theirs."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self.inner = inner

    def __call__(self, data: dict[str, Any], *args: Any, **more: Any) -> None:
        writer = output_var.get()
        if writer is None:
            self.inner(data, *args, **more)
            return
        writer.display(data)
        if writer.is_heard and not writer.is_silent:
            place = _place_var.get()
            publish = self.inner if place is None else place.publish
            token = output_var.set(_Unrecorded())  # type: ignore[arg-type] # What it is asked for.
            try:
                publish(data, *args, **more)
            finally:
                output_var.reset(token)


class _Unrecorded:
    """Hears what a terminal prints of what is displayed, which is recorded as it is."""

    is_heard, is_silent = True, False

    def write(self, stream: OutputStream, text: str) -> None: ...

    def display(self, data: object) -> None: ...


class Capture:
    """Mutable: while it lasts, whatever redirects output does it around ours."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def begin(self) -> None:
        self.renew()
        for kind in _REDIRECTIONS:
            kind.__enter__ = _followed(kind.__enter__, self._redirected)

    def renew(self, *_: object) -> None:
        """Before every cell: somebody may have put other streams in the place of ours.

        On the main thread only, where streams are replaced and put back.
        """
        for name in _STREAMS:
            present = getattr(sys, name)
            if not isinstance(present, CapturingStream):
                _swap(name, present, CapturingStream(present, name))
        publisher = self._shell.display_pub
        if not isinstance(publisher.publish, _CapturingPublisher):
            vars(publisher)["publish"] = _CapturingPublisher(publisher.publish)

    def end(self) -> None:
        for kind in _REDIRECTIONS:
            kind.__enter__ = kind.__enter__.__wrapped__
        for name in _STREAMS:
            present = getattr(sys, name)
            if isinstance(present, CapturingStream):
                _swap(name, present, present._inner)  # noqa: SLF001 - of our own.
        vars(self._shell.display_pub).pop("publish", None)

    def _redirected(self) -> None:
        """Handlers and steps that redirect their own output have it all to themselves."""
        is_cell = threading.current_thread() is threading.main_thread()
        if is_cell and output_var.get() is None:
            self.renew()


@contextmanager
def shown_here(shell: InteractiveShell) -> Iterator[None]:
    """What is submitted meanwhile shows its output where this cell shows its own now."""
    streams: dict[OutputStream, Any] = {n: _inner(getattr(sys, n)) for n in _STREAMS}
    token = _place_var.set(_Place(streams, _inner(shell.display_pub.publish)))
    try:
        yield
    finally:
        _place_var.reset(token)


def _inner(found: Any) -> Any:
    match found:
        case CapturingStream():
            return found._inner  # noqa: SLF001 - of our own.
        case _CapturingPublisher():
            return found.inner
        case _:
            return found


def _followed(enter: Callable[[Any], Any], then: Callable[[], None]) -> Callable[[Any], Any]:
    @functools.wraps(enter)
    def entering(manager: Any) -> Any:
        entered = enter(manager)
        then()
        return entered

    return entering


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
