"""What a real Restate 1.7.12 answered, request by request, and what is answered here.

The answers are recorded by record.py. Whatever differs from them stands in `DIFFERENT`, with the
reason; what is listed there and does not differ fails too.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest
from exchanges import Conversations, Player, differences, read
from record import recorded
from support.served import SERVICES

import nbdurable
from nbdurable import ServeOptions
from nbdurable.wiring import DurableEngine, SyncDurableEngine

RECORDED: Conversations = {**read("ingress.json"), **read("admin.json")}


class Difference(NamedTuple):
    """`where` and `what` are patterns: of `conversation: request`, and of parts of the answer."""

    why: str
    where: tuple[str, ...]
    what: tuple[str, ...]


ALL = ("status", "content_type", "source", "body", "body.*")
SERVICE = ("*: GET admin /services*", "a patch: PATCH admin /services/Private")
DIFFERENT = [
    Difference(
        "a traceback stays in the journal (design 6.2)",
        ("failures: POST ingress /Greeter/crash",),
        ("body.stacktrace",),
    ),
    Difference(
        "what is refused says why, in JSON as every other error of this API; there some are plain"
        " text and some are empty",
        (
            "the server: GET admin /nope",
            "the server: GET admin /services/",
            "the server: PUT *",
            "a patch: PATCH admin /services/Private",
            "state: POST admin /services/Counter/state",
            "deployments: DELETE *",
            "orders to nobody: GET *",
            "orders to nobody: PATCH */zzz",
            "a completed one: PATCH *[?]from=x",
            "a completed one: DELETE *[?]mode=zzz",
            "sql: POST admin /query",
            "sql: GET *",
        ),
        ("content_type", "body"),
    ),
    Difference(
        "the same, in words that say what to do",
        (
            "a patch: PATCH admin /services/Nope",
            "orders to nobody: PATCH admin /invocations/nope/*",
            "cancel a running one: PATCH */pause",
            "cancel a running one: PATCH */resume",
            "cancel a scheduled one: PATCH */pause",
            "cancel a scheduled one: PATCH */resume",
            "cancel a scheduled one: PATCH */restart-as-new",
            "* one: PATCH *[?]deployment=*",
            "pause and resume: PATCH *[?]deployment=nope",
            "a completed one: PATCH */restart-as-new",
            "a workflow is not restarted: PATCH */restart-as-new",
            "sql: POST admin /query",
        ),
        ("body.message",),
    ),
    Difference(
        "unknown things are refused and not accepted, and never our fault (design 6.8)",
        (
            "state: POST admin /services/Nope/state",
            "orders to nobody: DELETE *",
            "deployments: GET admin /deployments/dp_nope",
            "sql: POST admin /query",
        ),
        ALL,
    ),
    Difference(
        "what is cancelled or killed before it began is kept like any result (DECISIONS 0051, P11)",
        (
            "cancel a scheduled one: GET ingress *",
            "cancel a scheduled one: PATCH */cancel",
            "kill a scheduled one: *",
            "cancel a queued one: GET ingress *",
        ),
        ALL,
    ),
    Difference("kept for 30 days (DECISIONS 0031)", SERVICE, ("*_retention",)),
    Difference("no abort timeout unless asked for (DECISIONS 0032)", SERVICE, ("*abort_timeout",)),
    Difference(
        "a handler's policy is shown with all that holds for it, or not at all if it has none",
        SERVICE,
        ("*retry_policy", "*retry_policy.*"),
    ),
    Difference(
        "a deployment is one revision of one service, in the process that defines it; none is"
        " registered by an address",
        ("deployments: * admin /deployments*",),
        ALL,
    ),
    Difference(
        "it is one process, of another version, without that server's feature flags",
        ("the server: GET admin /version", "the server: GET admin /cluster-health"),
        ("body.*",),
    ),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str]]]:
    """Of each conversation, the requests whose answers differ, and where."""
    folder = tmp_path_factory.mktemp("recorded") / ".nbdurable"
    engine = SyncDurableEngine(DurableEngine(folder, SERVICES, logs_failures=False))
    found: dict[str, list[tuple[str, str]]] = {}
    with engine, nbdurable.serve(engine.opened, ServeOptions(has_token=False)) as serving:
        for about, exchanges in RECORDED.items():
            player = Player(serving.ingress_url, serving.admin_url)
            found[about] = [
                (exchange.line, part)
                for exchange in exchanges
                for part in differences(exchange.answer, player.play(exchange))
            ]
    return found


def is_listed(difference: Difference, about: str, line: str, part: str) -> bool:
    return any(fnmatchcase(f"{about}: {line}", where) for where in difference.where) and any(
        fnmatchcase(part, what) for what in difference.what
    )


@pytest.mark.parametrize("about", RECORDED)
def test_it_answers_as_restate_answered(found: dict[str, list[tuple[str, str]]], about: str):
    unlisted = [
        (line, part)
        for line, part in found[about]
        if not any(is_listed(difference, about, line, part) for difference in DIFFERENT)
    ]
    assert unlisted == []


@pytest.mark.parametrize("difference", DIFFERENT, ids=lambda difference: difference.why[:40])
def test_what_is_said_to_differ_does(
    found: dict[str, list[tuple[str, str]]], difference: Difference
):
    """In every place that is named: what has become alike is taken off the list."""
    for where in difference.where:
        alone = difference._replace(where=(where,))
        assert any(
            is_listed(alone, about, line, part)
            for about, differing in found.items()
            for line, part in differing
        ), where


@pytest.mark.slow
def test_the_recorded_answers_are_what_restate_answers(
    restate_program: Callable[[str], Path], tmp_path: Path
):
    """If its version was raised, record them anew: `python tests/server/record.py`."""
    again = recorded(restate_program, tmp_path)
    differing = [
        (about, before.line, part)
        for file in again.values()
        for about, exchanges in file.items()
        for before, now in zip(RECORDED[about], exchanges, strict=True)
        for part in differences(before.answer, now.answer)
    ]
    assert differing == []
