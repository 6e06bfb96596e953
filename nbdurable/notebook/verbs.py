"""`%durable VERB …`: what a person can ask and do. One function per verb, over the client only.

Each takes the session and what follows it, and returns one object that can be shown.
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, Literal

from IPython.core.error import UsageError
from IPython.display import display

from nbdurable.client.picture import handy_name, status_of
from nbdurable.client.views import InvocationView
from nbdurable.errors import (
    ConflictError,
    InvocationNotReadyError,
    TerminalError,
)
from nbdurable.notebook.board import Board
from nbdurable.notebook.handle import Handle
from nbdurable.notebook.meant import run_meant
from nbdurable.notebook.replies import approve, reject
from nbdurable.notebook.restore import restore
from nbdurable.notebook.session import Session
from nbdurable.notebook.up import up
from nbdurable.notebook.upkeep import doctor, export, state
from nbdurable.notebook.widgets.views_html import Sentence
from nbdurable.notebook.words import words_of
from nbdurable.sdk import DefaultSerde

Verb = Callable[[Session, str], Any]

# As many as a page shows without scrolling far.
LISTED_MAX: Final = 30

HELP: Final = """\
%durable ls [--all]                        the newest 30 runs, or all
%durable show ID                           one run: its journal, live, with its buttons
%durable approve [ID [PROMISE [VALUE]]]    answer what it waits for with yes, or with JSON
%durable reject ID [PROMISE] [REASON]      or with no: its await raises TerminalError
   … --comment "TEXT"                      of both: kept beside the answer
%durable cancel ID                         its next await raises TerminalError; it may compensate
%durable pause ID                          keep it from going on
%durable resume ID [REVISION]              try again now what is paused or backs off
%durable accept ID                         of a mismatch: go on with what is recorded
%durable kill ID                           end it now, without running any of its code
%durable restart ID [ENTRY]                a finished one anew, as a new run, from an entry on
%durable purge ID                          forget a finished one; a workflow's key can run again
%durable result ID                         what it returned
%durable attach ID                         wait for that; interrupting detaches
%durable watch ID                          the same, with its live journal
%durable restore [SERVICE …]               run recorded cells again, for runs that lack their code
%durable state SERVICE/KEY [NAME [JSON]]   what a key holds; with a value, put it there
%durable export FOLDER [ID]                the journal as Parquet; --no-payloads for a bug report
%durable doctor                            what is well and what is not
%durable up [--ingress HOST:PORT] …        where it is served over HTTP; --admin, --no-token
%durable up --detach                       have a process keep it that outlives this kernel
%durable sql SELECT …                      ask the journal; or %%durable sql [NAME] above a query
%durable nest                              let code call run_until_complete in this kernel
ID is an id, its beginning, Service/key, or a workflow's key."""


def ls(session: Session, words: list[str]) -> Board:
    if words not in ([], ["--all"]):
        raise UsageError("ls takes nothing but --all")
    return Board(session, None if words else LISTED_MAX)


def show(session: Session, words: list[str]) -> Handle:
    view = _find(session, words, "show")
    return Handle(session, view.id, view.target, DefaultSerde())


def cancel(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "cancel")
    session.client.wait(session.client.cancel(view.id))
    if view.status in ("paused", "backing-off"):
        # It may fail again before it awaits anything.
        return Sentence(
            f"{view.target} is told at its next await, if its code gets so far: it is"
            f" {status_of(view)}. To end it anyway: %durable kill {handy_name(view)}"
        )
    return Sentence(f"cancelled {view.target}: its next await raises TerminalError")


def pause(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "pause")
    session.client.wait(session.client.pause(view.id))
    return Sentence(f"{view.target} is paused; it goes on with %durable resume {handy_name(view)}")


def resume(session: Session, words: list[str]) -> Sentence:
    """On its revision, or on the one with this number: the way back from a mismatch."""
    view = _find_unfinished(session, words[:1], "resume")
    if len(words) > 2 or not all(word.isdecimal() for word in words[1:]):  # noqa: PLR2004 - ID REVISION.
        raise UsageError("write: %durable resume ID [REVISION]")
    revision: int | Literal["keep"] = int(words[1]) if len(words) > 1 else "keep"
    if view.status not in ("paused", "backing-off"):
        raise UsageError(f"{view.target} is neither paused nor backing off: {status_of(view)}")
    try:
        session.client.wait(session.client.resume(view.id, revision))
    except ConflictError as error:
        raise UsageError(str(error)) from None
    return Sentence(f"{view.target} is tried again")


def accept(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "accept")
    if view.mismatch is None:
        raise UsageError(f"{view.target} has no mismatch to accept: {status_of(view)}")
    session.client.wait(session.client.accept_mismatch(view.id))
    return Sentence(f"{view.target} goes on with what is recorded")


def kill(session: Session, words: list[str]) -> Sentence:
    view = _find_unfinished(session, words, "kill")
    entries = session.client.wait(session.client.journal(view.id))
    session.client.wait(session.client.kill(view.id))
    steps = [e.name for e in entries if e.kind == "Run" and e.status == "running"]
    at_work = ", ".join(f"'{name}'" for name in steps)
    # A thread cannot be ended from outside; what its step does is recorded nowhere.
    still = f"; its step {at_work} may still be at work, unrecorded" if steps else ""
    return Sentence(f"killed {view.target}{still}")


def restart(session: Session, words: list[str]) -> Handle:
    """A finished run anew, as a new run: with its input, or with its journal before an entry."""
    view = _find(session, words[:1], "restart")
    if len(words) > 2 or not all(word.isdecimal() for word in words[1:]):  # noqa: PLR2004 - ID ENTRY.
        raise UsageError("write: %durable restart ID [ENTRY]; %durable show numbers them")
    if view.is_run:
        raise UsageError(
            f"a workflow runs once per key; to run {view.target} again, forget it first:"
            f" %durable purge {handy_name(view)}"
        )
    first = int(words[1]) if len(words) > 1 else 1
    again = session.client.wait(session.client.restart_as_new(view.id, first))
    return Handle(session, again, view.target, DefaultSerde())


def purge(session: Session, words: list[str]) -> Sentence:
    view = _find(session, words, "purge")
    if not view.is_done:
        raise UsageError(
            f"{view.target} is {status_of(view)}, and only what has ended can be forgotten:"
            f" %durable kill {handy_name(view)}"
        )
    session.client.wait(session.client.purge(view.id))
    free = "; its key can run again" if view.is_run else ""
    return Sentence(f"forgot {view.target}{free}")


def result(session: Session, words: list[str]) -> Any:  # noqa: ANN401 - the user's value.
    view = _find(session, words, "result")
    try:
        return session.client.wait(session.client.output(view.id))
    except InvocationNotReadyError:
        raise UsageError(f"{view.target} has no result yet: {status_of(view)}") from None
    except TerminalError as error:
        raise UsageError(f"{view.target} failed: [{error.status_code}] {error}") from None


def attach(session: Session, words: list[str]) -> Any:  # noqa: ANN401 - the user's value.
    """Wait for what it returns. `await` of a handle does it and lets buttons work meanwhile."""
    view = _find(session, words, "attach")
    return Handle(session, view.id, view.target, DefaultSerde()).result()


def watch(session: Session, words: list[str]) -> None:
    """Show it until it is over."""
    handle = show(session, words)
    display(handle)
    handle.result()


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


def _of_words(does: Callable[[Session, list[str]], Any], before_value: int | None = None) -> Verb:
    return lambda session, text: does(session, words_of(text, before_value))


VERBS: Final[dict[str, Verb]] = {
    "ls": _of_words(ls),
    "show": _of_words(show),
    "approve": approve,
    "reject": reject,
    "cancel": _of_words(cancel),
    "pause": _of_words(pause),
    "resume": _of_words(resume),
    "accept": _of_words(accept),
    "kill": _of_words(kill),
    "restart": _of_words(restart),
    "purge": _of_words(purge),
    "result": _of_words(result),
    "attach": _of_words(attach),
    "watch": _of_words(watch),
    "restore": _of_words(restore),
    "state": _of_words(state, before_value=2),
    "export": _of_words(export),
    "doctor": _of_words(doctor),
    "up": _of_words(up),
    "nest": _of_words(nest),
}


def _find(session: Session, words: list[str], verb: str) -> InvocationView:
    if len(words) != 1:
        raise UsageError(f"write: %durable {verb} ID, where ID is an id, its beginning, or a key")
    return run_meant(session, words[0])


def _find_unfinished(session: Session, words: list[str], verb: str) -> InvocationView:
    view = _find(session, words, verb)
    if view.is_done:
        raise UsageError(f"{view.target} has finished: {status_of(view)}")
    return view
