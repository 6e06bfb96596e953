"""`nbdurable serve`: services for a cluster. What a cluster says to it is in deploy/."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest
from support.command import END_S_MAX, nbdurable, start_apart
from support.http import ask

MANIFEST = {"accept": "application/vnd.restate.endpointmanifest.v3+json"}


FLOWS = "flows.py"


@pytest.fixture(autouse=True)
def flows(folder: Path) -> None:
    """In a folder of its own, for its neighbours can be imported."""
    (folder / FLOWS).write_text(
        "from nbdurable import Service, VirtualObject, Workflow\n"
        "services = [Service('Greeter'), VirtualObject('Counter'), Workflow('Payment')]\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_the_services_of_a_file_until_a_signal(folder: Path, number: int) -> None:
    with start_apart("serve", "--app", f"{FLOWS}:services", "--bind", "127.0.0.1:0") as process:
        try:
            assert process.stdout is not None
            served, at, then = (process.stdout.readline().split() for _ in range(3))
            assert served == ["serving", "Greeter,", "Counter,", "Payment"]
            assert then == ["next", "restate", "deployments", "register", at[1]]
            found = ask(at[1], "GET", "/discover", MANIFEST).json["services"]
            assert [service["name"] for service in found] == ["Greeter", "Counter", "Payment"]
            process.send_signal(number)
            _, err = process.communicate(timeout=END_S_MAX)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert not (folder / ".nbdurable").exists(), "there is nothing to journal here"


@pytest.mark.parametrize(
    ("words", "taught"),
    [
        ((), "Missing option '--app'"),
        (("--app", "nowhere.py"), "there is no file nowhere.py"),
        (("--app", f"{FLOWS}:services", "--bind", "9080"), "write HOST:PORT"),
    ],
)
def test_what_cannot_be_meant_is_a_question_of_usage(
    folder: Path, words: tuple[str, ...], taught: str
) -> None:
    refused = nbdurable("serve", *words)
    assert refused.exit_code == 2
    assert taught in refused.stderr


def test_an_address_that_is_taken_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = nbdurable("serve", "--app", f"{FLOWS}:services", "--bind", address)
    assert refused.exit_code == 1
    assert f"cannot listen on {address}" in refused.stderr


def test_without_the_extra_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    refused = nbdurable("serve", "--app", f"{FLOWS}:services", "--bind", "127.0.0.1:0")
    assert refused.exit_code == 1
    assert "pip install 'nbdurable[restate]'" in refused.stderr
