"""Approve and reject: with no kernel alive it is to open, to commit and to close."""

from __future__ import annotations

import json
from pathlib import Path

from support.command import nbdurable
from support.flows import SERVICES

import nbdurable as package
from nbdurable.client.answers import at
from nbdurable.wiring import this_person


def result_of(run: str) -> object:
    """What it comes to when its code is there again."""
    with package.open_sync(services=SERVICES) as engine:
        return engine.client.attach(engine.client.find(run).id)


def test_an_approval_outlives_the_command_that_gave_it(reached: Path) -> None:
    approved = nbdurable("approve", "order-1")
    assert approved.exit_code == 0
    assert approved.stdout == "approved 'approved' of Payment/order-1\n"
    assert result_of("order-1") == "captured 100"


def test_a_rejection_is_a_terminal_error_with_the_persons_words(reached: Path) -> None:
    nbdurable("reject", "order-1", "--message", "too dear")
    seen = json.loads(nbdurable("show", "order-1", "--json").stdout)
    assert seen["journal"][-1]["failure"] == "[403] too dear"


def test_a_rejection_has_a_comment_beside_what_the_run_is_told(reached: Path) -> None:
    nbdurable("reject", "order-1", "--message", "too dear", "--comment", "ask again in May")
    shown = json.loads(nbdurable("show", "order-1", "--json").stdout)["journal"][-1]
    assert shown["failure"] == "[403] too dear"
    assert shown["answered"]["comment"] == "ask again in May"


def test_who_has_answered_and_why_is_kept(reached: Path) -> None:
    """Months later somebody asks who let the money go."""
    nbdurable("approve", "order-1", "--comment", "the boss agrees", "--by", "ada")
    nbdurable("approve", "Greeter/ask", "--value", '"small"')
    shown = nbdurable("show", "order-1").stdout
    assert "by ada at " in shown
    assert "“the boss agrees”" in shown
    asked = json.loads(nbdurable("show", "Greeter/ask", "--json").stdout)["journal"]
    (answered,) = [entry["answered"] for entry in asked if entry["answered"]]
    assert answered["by"] == at(this_person(), "terminal")
    refused = nbdurable("approve", "order-1", "--comment", "x" * 3_000)
    assert refused.exit_code == 2
    assert "the comment has 3000 characters" in refused.stderr


def test_an_awakeable_is_answered_by_its_run_or_its_id(reached: Path) -> None:
    view = json.loads(nbdurable("show", "Greeter/ask", "--json").stdout)["invocation"]
    (awakeable,) = view["open_awakeables"]
    assert nbdurable("approve", awakeable, "--value", '"small"').exit_code == 0
    assert result_of("Greeter/ask") == "heard small"


def test_who_says_no_run_means_the_only_one_that_asks(reached: Path) -> None:
    several = nbdurable("approve")
    assert several.exit_code == 2
    assert "2 runs wait" in several.stderr
    nbdurable("approve", "Greeter/ask", "--value", '"small"')
    assert nbdurable("approve").stdout == "approved 'approved' of Payment/order-1\n"
    assert nbdurable("approve").exit_code == 4


def test_an_answer_is_given_once(reached: Path) -> None:
    nbdurable("approve", "order-1")
    again = nbdurable("reject", "order-1", "approved")
    assert again.exit_code == 1
    assert "that answer stands" in again.stderr


def test_what_does_not_wait_is_said(reached: Path) -> None:
    assert "waits for 'approved', not for 'nope'" in nbdurable("approve", "order-1", "nope").stderr
    assert "waits for nobody" in nbdurable("approve", "Greeter/greet").stderr
    assert nbdurable("approve", "order-1", "--value", "{").exit_code == 2


def test_an_answer_has_the_type_that_was_asked_for(reached: Path) -> None:
    """In the handler it would be a failure, and nobody would be asked again."""
    refused = nbdurable("approve", "Greeter/ask", "size")
    assert refused.exit_code == 2
    assert '{"enum":["large","small"]}' in refused.stderr
    shown = nbdurable("show", "Greeter/ask")
    assert "size: Which size?" in shown.stdout
    assert '"order": 7' in shown.stdout
    assert nbdurable("approve", "Greeter/ask", "--value", '"large"').exit_code == 0
    assert result_of("Greeter/ask") == "heard large"


def test_what_is_no_awakeable_is_said(reached: Path) -> None:
    assert nbdurable("approve", "sign_1nonsense").exit_code == 2
