"""Access over a link: who asked gets what was answered, as what it is, or the error it was."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbdurable import errors
from nbdurable.client.linked import LinkedAccess
from nbdurable.client.questions import AllInvocations, AllServices, InvocationAndJournal
from nbdurable.core.ids import random_invocation_id
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.proposals import Done, KillInvocation, Refused
from nbdurable.errors import HttpError, LinkLostError, NbdurableError
from nbdurable.invoker.frames import Ask, Leave, Propose, Raised, Told, Watch, encode

ONE = random_invocation_id(1)
SERVICE = ServiceManifest(
    name="S", type="service", handlers=(HandlerManifest(name="h"),), digest="v1"
)


@pytest.fixture
def sent() -> list[Any]:
    return []


@pytest.fixture
def access(sent: list[Any]) -> LinkedAccess:
    return LinkedAccess(sent.append)


def told(id_: int, value: object) -> Told:
    return Told(id=id_, value=msgspec.Raw(encode(value)))


def test_answers_find_who_asked_in_whatever_order_they_come(access: LinkedAccess, sent: list[Any]):
    proposed = access.propose(KillInvocation(invocation_id=ONE))
    asked = access.ask(AllServices())
    assert [type(frame) for frame in sent] == [Propose, Ask]
    access.heard(told(sent[1].id, [SERVICE]))
    access.heard(told(sent[0].id, Done()))
    assert (proposed.result(0), asked.result(0)) == (Done(), [SERVICE])


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (Raised(id=1, name="ConflictError", message="m", status=409), errors.ConflictError),
        (Raised(id=1, name="QueryError", message="m", status=400), errors.QueryError),
        (Raised(id=1, name="HttpError", message="m", status=418), HttpError),
        (Raised(id=1, name="KeyError", message="m", status=500), KeyError),
        (Raised(id=1, name="os", message="m", status=500), NbdurableError),
        (Raised(id=1, name="EngineClosedError", message="m", status=500), LinkLostError),
    ],
)
def test_errors_are_what_they_were_over_there(
    access: LinkedAccess, raised: Raised, error: type[Exception]
):
    """And nothing that is named over a link is made but errors of ours."""
    asked = access.ask(AllInvocations())
    access.heard(raised)
    assert type(asked.exception(0)) is error


def test_an_owner_that_closes_is_not_the_askers_to_open_again(access: LinkedAccess):
    asked = access.ask(AllInvocations())
    access.heard(Raised(id=1, name="EngineClosedError", message="open it again", status=598))
    with pytest.raises(LinkLostError, match=r"ended before it answered.*may have happened or not"):
        asked.result(0)


def test_who_gives_up_says_so_and_hears_nothing_more(access: LinkedAccess, sent: list[Any]):
    asked = access.ask(AllServices())
    asked.cancel()
    assert sent[-1] == Leave(id=sent[0].id)
    access.heard(told(sent[0].id, []))


def test_a_watch_is_told_again_and_again_until_it_ends(access: LinkedAccess, sent: list[Any]):
    seen: list[Any] = []
    question = InvocationAndJournal(invocation_id=ONE)
    end = access.watch(question, lambda both: seen.append(both[1]))
    (watching,) = sent
    assert isinstance(watching, Watch)
    view = {
        "id": ONE,
        "service": "S",
        "handler": "h",
        "key": None,
        "status": "running",
        "attempt": 1,
        "revision": 1,
        "entry_count": 1,
        "created_at_ms": 1,
        "modified_at_ms": 1,
    }
    for _ in range(2):
        access.heard(told(watching.id, (view, ())))
    end()
    access.heard(told(watching.id, (view, ())))
    assert seen == [(), ()]
    assert sent[-1] == Leave(id=watching.id)


def test_when_the_link_is_lost_everyone_is_told(access: LinkedAccess):
    asked = access.ask(AllServices())
    access.lost()
    assert isinstance(asked.exception(0), LinkLostError)
    with pytest.raises(LinkLostError, match="Look, and ask again"):
        access.ask(AllServices())


def test_what_cannot_be_written_is_refused_as_the_journal_would(
    access: LinkedAccess, sent: list[Any]
):
    """Half a character has no bytes; the link must not be lost for it."""
    refused = access.propose(KillInvocation(invocation_id="\ud800"))  # type: ignore[arg-type]
    answer = refused.result(0)
    assert isinstance(answer, Refused)
    assert answer.code == 400
    assert sent == []
