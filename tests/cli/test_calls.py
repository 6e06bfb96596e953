"""Calls by name with no code there: what is sent is kept, and what cannot be read is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import nbdurable
from support.flows import SERVICES

import nbdurable as package


def test_what_is_sent_runs_when_its_code_is_there(reached: Path) -> None:
    sent = nbdurable("send", "Counter/ada/add", "4", "--json")
    assert sent.exit_code == 0
    assert "it waits for its code" in sent.stderr
    with package.open_sync(services=SERVICES) as engine:
        assert engine.client.attach(json.loads(sent.stdout)["id"]) == 7


def test_a_call_does_not_wait_for_code_that_is_not_there(reached: Path) -> None:
    called = nbdurable("call", "Greeter/greet", '"Ada"')
    assert called.exit_code == 3
    assert "waits for its code" in called.stderr
    as_json = nbdurable("call", "Greeter/greet", '"Ada"', "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["status"]) == (3, "ready")


def test_a_result_is_printed_as_it_is(reached: Path) -> None:
    attached = nbdurable("attach", "Greeter/greet")
    assert (attached.exit_code, attached.stdout) == (0, '"hello Ada"\n')
    failed = nbdurable("attach", "Greeter/fail")
    assert (failed.exit_code, failed.stderr) == (1, "[418] no tea\n")
    as_json = json.loads(nbdurable("attach", "Greeter/fail", "--json").stdout)
    assert as_json["failure"] == {"code": 418, "message": "no tea"}
    assert nbdurable("attach", "order-1").exit_code == 3


def test_a_key_may_have_slashes(reached: Path) -> None:
    sent = nbdurable("send", "Counter/a/b/add", "4")
    view = json.loads(nbdurable("show", sent.stdout.strip(), "--json").stdout)["invocation"]
    assert view["key"] == "a/b"


def test_input_comes_from_a_file_or_from_standard_input(reached: Path) -> None:
    (reached / "n.json").write_text("4")
    for run in (
        nbdurable("send", "Counter/ada/add", "@n.json"),
        nbdurable("send", "Counter/ada/add", "-", typed="4"),
    ):
        seen = json.loads(nbdurable("show", run.stdout.strip(), "--json").stdout)
        assert seen["journal"][0]["value"] == "4"


@pytest.mark.parametrize(
    ("words", "code", "taught"),
    [
        (("Nobody/greet", '"x"'), 4, "there are: Counter, Greeter, Payment"),
        (("Greeter/grete", '"x"'), 4, "it has: greet, fail"),
        (("Counter/add", "1"), 2, "write Counter/KEY/add"),
        (("Greeter/ada/greet", '"x"'), 2, "write Greeter/greet"),
        (("Greeter", '"x"'), 2, "write SERVICE/HANDLER"),
        (("Greeter/greet", "Ada"), 2, "a text is written"),
        (("Greeter/greet",), 2, "no input is none"),
        (("Greeter/ask", "1"), 2, "takes no input"),
        (("Greeter/greet", "@none.json"), 2, "cannot be read"),
        (("Greeter/greet", '"x"', "--delay", "5"), 2, "write e.g. 10s"),
        (("Greeter/greet", '"x"', "--header", "a"), 2, "write NAME=VALUE"),
    ],
)
def test_what_cannot_be_called_is_refused_in_words(
    reached: Path, words: tuple[str, ...], code: int, taught: str
) -> None:
    refused = nbdurable("send", *words)
    assert (refused.exit_code, taught in refused.stderr) == (code, True), refused.stderr
