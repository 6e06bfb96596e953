"""`%durable VERB …`: what a person can ask and do. One function per verb, over the client only.

Each takes the session and its words and returns one object that can be shown.
"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable, Coroutine
from typing import Any, Final

from IPython.core.error import UsageError

from nbdurable.client import answers
from nbdurable.client.picture import handy_name, status_of
from nbdurable.client.views import InvocationView
from nbdurable.errors import (
    ConflictError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    TerminalError,
)
from nbdurable.notebook.handle import Handle
from nbdurable.notebook.session import Session
from nbdurable.notebook.widgets.views_html import InvocationTable, Sentence
from nbdurable.sdk import DefaultSerde

Verb = Callable[[Session, list[str]], Any]

# As many as a page shows without scrolling far.
LISTED_MAX: Final = 30

HELP: Final = """\
%durable ls [--all]                        runs, newest first
%durable show ID                           one run: its journal, live, with its buttons
%durable approve ID [PROMISE]              answer what it waits for with yes
%durable reject ID [PROMISE] [MESSAGE]     or with no: its await raises TerminalError
%durable cancel ID                         its next await raises TerminalError; it may compensate
%durable resume ID                         try again now what is paused or backs off
%durable kill ID                           end it now, without running any of its code
%durable result ID                         what it returned
%durable sql SELECT …                      ask the journal; or %%durable sql [NAME] above a query
%durable nest                              let code call run_until_complete in this kernel
ID is an id, its beginning, Service/key, or a workflow's key."""


def ls(session: Session, words: list[str]) -> InvocationTable:
    if words not in ([], ["--all"]):
        raise UsageError("ls takes nothing but --all")
    count_max = None if words else LISTED_MAX
    views, count = session.client.wait(session.client.newest_invocations(count_max))
    return InvocationTable(tuple(views), count - len(views))


def show(session: Session, words: list[str]) -> Handle:
    view = _find(session, words, "show")
    return Handle(session, view.id, view.target, DefaultSerde())


def approve(session: Session, words: list[str]) -> Sentence:
    view = _find(session, words[:1], "approve") if words else _only_one_waiting(session)
    promise = _promise(view, words[1] if len(words) > 1 else None, "approve")
    answer = answers.approve(session.client, view, promise)
    return _answered(session, answer, f"approved '{promise}' of {_who(view)}")


def reject(session: Session, words: list[str]) -> Sentence:
    view = _find(session, words[:1], "reject")
    rest = words[1:]
    # The first word names a promise, unless the only one there is to reject is another.
    names_promise = bool(rest) and (rest[0] in view.open_promises or not view.open_promises)
    promise = _promise(view, rest[0] if names_promise else None, "reject")
    message = " ".join(rest[1:] if names_promise else rest) or answers.REJECTED_MESSAGE
    answer = answers.reject(session.client, view, promise, message)
    return _answered(session, answer, f"rejected '{promise}' of {_who(view)}: {message}")


def cancel(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "cancel")
    session.client.wait(session.client.cancel(view.id))
    return Sentence(f"cancelled {view.target}: its next await raises TerminalError")


def resume(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "resume")
    if view.status not in ("paused", "backing-off"):
        raise UsageError(f"{view.target} is neither paused nor backing off: {status_of(view)}")
    try:
        session.client.wait(session.client.resume(view.id))
    except ConflictError as error:
        raise UsageError(str(error)) from None
    return Sentence(f"{view.target} is tried again")


def kill(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "kill")
    session.client.wait(session.client.kill(view.id))
    return Sentence(f"killed {view.target}")


def result(session: Session, words: list[str]) -> Any:  # noqa: ANN401 - the user's value.
    view = _find(session, words, "result")
    try:
        return session.client.wait(session.client.output(view.id))
    except InvocationNotReadyError:
        raise UsageError(f"{view.target} has no result yet: {status_of(view)}") from None
    except TerminalError as error:
        raise UsageError(f"{view.target} failed: [{error.status_code}] {error}") from None


def nest(_session: Session, words: list[str]) -> Sentence:
    """Never done unasked: it patches asyncio for everybody in this process."""
    if words:
        raise UsageError("nest takes no arguments")
    try:
        importlib.import_module("nest_asyncio2").apply()
    except ModuleNotFoundError:
        importlib.import_module("nest_asyncio").apply()
        return Sentence(
            "nest_asyncio is applied. While a nested loop runs it can lose clicks on widgets; "
            "nest-asyncio2 does not, and is preferred where it is installed."
        )
    return Sentence("nest_asyncio2 is applied")


VERBS: Final[dict[str, Verb]] = {
    "ls": ls,
    "show": show,
    "approve": approve,
    "reject": reject,
    "cancel": cancel,
    "resume": resume,
    "kill": kill,
    "result": result,
    "nest": nest,
}


def names_to_complete(session: Session) -> list[str]:
    """What may stand for a run. Never opens a journal: a TAB must not."""
    if not session.is_open:
        return []
    views = session.client.wait(session.client.invocations())
    return list(dict.fromkeys(handy_name(view) for view in reversed(views)))


def _find(session: Session, words: list[str], verb: str) -> InvocationView:
    if len(words) != 1:
        raise UsageError(f"write: %durable {verb} ID, where ID is an id, its beginning, or a key")
    try:
        return session.client.wait(session.client.find(words[0]))
    except InvocationNotFoundError:
        raise UsageError(f"no run is called {words[0]!r}; %durable ls shows them") from None
    except ConflictError as error:
        raise UsageError(str(error)) from None


def _only_one_waiting(session: Session) -> InvocationView:
    """Who says only `approve` means the run that asks, if there is just one."""
    views = session.client.wait(session.client.invocations())
    match [view for view in views if view.open_promises]:
        case [view]:
            return view
        case asking:
            raise UsageError(
                f"{len(asking)} runs wait for somebody; write: %durable approve ID, where ID is an"
                " id, its beginning, or a key"
            )


def _find_unfinished(session: Session, words: list[str], verb: str) -> InvocationView:
    view = _find(session, words, verb)
    if view.is_done:
        raise UsageError(f"{view.target} has finished: {status_of(view)}")
    return view


def _promise(view: InvocationView, named: str | None, verb: str) -> str:
    if view.key is None:
        raise UsageError(f"{view.target} is no workflow and has no promises")
    name, waits = handy_name(view), view.open_promises
    if named is not None:
        if waits and named not in waits:
            raise UsageError(f"{_who(view)} waits for {', '.join(map(repr, waits))}, not {named!r}")
        return named
    match waits:
        case (promise,):
            return promise
        case () if view.is_done:
            raise UsageError(f"{_who(view)} waits for nobody: it has {status_of(view)}")
        case ():
            raise UsageError(
                f"{_who(view)} waits for nobody yet; to answer in advance, name the promise: "
                f"%durable {verb} {name} PROMISE"
            )
        case _:
            raise UsageError(
                f"{_who(view)} waits for several; write one of: "
                + ", ".join(f"%durable {verb} {name} {shlex.quote(promise)}" for promise in waits)
            )


def _answered(session: Session, answer: Coroutine[Any, Any, None], done: str) -> Sentence:
    """Not an error when somebody was faster: a click and Run All may well meet."""
    try:
        session.client.wait(answer)
    except ConflictError as error:
        return Sentence(f"{error}; it is answered once, and that answer stands")
    return Sentence(done)


def _who(view: InvocationView) -> str:
    return f"{view.service}/{view.key}"
