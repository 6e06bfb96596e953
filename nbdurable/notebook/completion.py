"""What TAB offers after a magic: verbs, runs, promises, services and keys, options.

And the handlers behind a key, for which Python's own completion would have to look it up. Never
opens a journal: a TAB must not.
"""

# IPython annotates its completer in part.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"
from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from nbdurable.client.picture import handy_name
from nbdurable.core.values import ObjectId
from nbdurable.errors import NbdurableError
from nbdurable.notebook.bound import BoundDefinition
from nbdurable.notebook.meant import names_of_runs
from nbdurable.notebook.session import Session
from nbdurable.notebook.words import COMMENT

Offer = Callable[[Session, Sequence[str]], list[str]]
Matcher = Callable[[CompletionContext], SimpleMatcherResult]

# Before all of IPython's, which would complete Python in the words of a magic.
_PRIORITY: Final = 1_000
_MAGIC: Final = re.compile(r"\s*%{1,2}(?P<name>durable\w*)\s")
_BEHIND_A_KEY: Final = re.compile(r"(?P<name>[^\W\d]\w*)\[[^\[\]]*\]\.(?P<begun>\w*)$")
_OPTIONS: Final = {
    "approve": [COMMENT],
    "reject": [COMMENT],
    "ls": ["--all"],
    "export": ["--no-payloads"],
    "up": ["--detach", "--ingress", "--admin", "--no-token"],
}


def matcher_of(
    session: Session, verbs: Sequence[str], parsers: Mapping[str, ArgumentParser]
) -> Matcher:
    """A matcher of IPython's. `parsers` are those of the cell magics."""

    @context_matcher(priority=_PRIORITY, identifier="nbdurable")
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        line = context.text_until_cursor
        offers, begun = _offers(session, verbs, parsers, line)
        folded = begun.casefold()
        found = [SimpleCompletion(text=one) for one in offers if one.casefold().startswith(folded)]
        return SimpleMatcherResult(
            completions=found,
            matched_fragment=begun if found else context.token,
            suppress=bool(found),
            ordered=True,
        )

    found: Matcher = matcher
    return found


def _offers(
    session: Session, verbs: Sequence[str], parsers: Mapping[str, ArgumentParser], line: str
) -> tuple[list[str], str]:
    """What may stand at the end of the line, and what of it is typed."""
    behind = _BEHIND_A_KEY.search(line)
    if behind is not None:
        bound = session.shell.user_ns.get(behind["name"])
        return (dir(bound) if isinstance(bound, BoundDefinition) else []), behind["begun"]
    magic = _MAGIC.match(line)
    if magic is None:
        return [], ""
    words = line.split()
    begun = "" if line[-1].isspace() else words.pop()
    # A journal that is just going offers nothing.
    with suppress(NbdurableError):
        if magic["name"] == "durable":
            return _after_durable(session, verbs, words[1:]), begun
        if magic["name"] in parsers:
            return _after_a_cell_magic(session, parsers[magic["name"]], words[1:]), begun
    return [], ""


def _after_durable(session: Session, verbs: Sequence[str], given: Sequence[str]) -> list[str]:
    if not given:
        return [*verbs]
    verb, *rest = given
    return [*_OFFERS.get(verb, _a_run)(session, rest), *_OPTIONS.get(verb, [])]


def _after_a_cell_magic(
    session: Session, parser: ArgumentParser, given: Sequence[str]
) -> list[str]:
    """A name that is there, since most cells are run again, and options."""
    options = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001 - argparse does not list them.
    names = [] if given else _services(session, ())
    return [*names, *options]


def _a_run(session: Session, given: Sequence[str]) -> list[str]:
    return [] if given else names_of_runs(session)


def _a_run_and_what_it_waits_for(session: Session, given: Sequence[str]) -> list[str]:
    if not session.is_open or len(given) > 1:
        return []
    views = session.client.wait(session.client.newest_invocations(asks=True)).views
    if not given:
        return list(dict.fromkeys(handy_name(view) for view in views))
    asked = [view for view in views if given[0] in (view.id, view.key, handy_name(view))]
    return [name for view in asked for name in view.open_promises]


def _services(session: Session, _: Sequence[str]) -> list[str]:
    if not session.is_open:
        return []
    return [one.name for one in session.client.wait(session.client.services())]


def _a_key_and_its_names(session: Session, given: Sequence[str]) -> list[str]:
    if not session.is_open:
        return []
    client = session.client
    if not given:
        views = client.wait(client.newest_invocations()).views
        return sorted({f"{view.service}/{view.key}" for view in views if view.key is not None})
    service, slash, key = given[0].partition("/")
    if len(given) > 1 or not slash:
        return []
    return [*client.wait(client.operator().state(ObjectId(service=service, key=key))).values]


def _a_run_after_its_folder(session: Session, given: Sequence[str]) -> list[str]:
    return names_of_runs(session) if len(given) == 1 else []


def _nothing(_: Session, __: Sequence[str]) -> list[str]:
    return []


_OFFERS: Final[dict[str, Offer]] = {
    "approve": _a_run_and_what_it_waits_for,
    "reject": _a_run_and_what_it_waits_for,
    "restore": _services,
    "state": _a_key_and_its_names,
    "export": _a_run_after_its_folder,
    **dict.fromkeys(("ls", "up", "doctor", "nest", "sql"), _nothing),
}
