"""`nbdurable up`, as a real process: what it tells, how it ends, and what outlives kill -9."""

from __future__ import annotations

import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from support.command import END_S_MAX, Up, nbdurable
from support.http import JSON, ask

import nbdurable as package
from nbdurable.server.address import served_at
from nbdurable.store.lock import is_held

KILLS, CALLERS, CALLS_EACH = 3, 4, 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_the_services_of_a_file_until_a_signal(
    folder: Path, start_up: Callable[..., Up], number: int
) -> None:
    up = start_up()
    assert up.said["services"] == ["Greeter", "Counter", "Payment"]
    assert up.post("/Greeter/greet", '"Ada"').json == "hello Ada"
    code, err = up.end(number)
    assert code == 0
    assert "closing the journal" in err
    assert "Traceback" not in err
    assert not is_held(folder / ".nbdurable")


def test_what_earlier_processes_have_brought_is_not_served(start_up: Callable[..., Up]) -> None:
    earlier = package.Service("Earlier")

    @earlier.handler()
    async def greet(ctx: package.Context) -> None: ...

    with package.open_sync(services=[earlier]):
        pass
    assert start_up().said["services"] == ["Greeter", "Counter", "Payment"]


def test_others_find_it_by_a_note_that_is_nobody_elses(
    folder: Path, start_up: Callable[..., Up]
) -> None:
    up = start_up()
    served = served_at(folder / ".nbdurable")
    assert served is not None
    assert (served.ingress, served.admin) == (up.said["ingress"], up.said["admin"])
    assert served.headers()["authorization"].startswith("Bearer ")
    note = folder / ".nbdurable" / "owner.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600


def test_it_keeps_the_token_where_it_is_told_to(folder: Path, start_up: Callable[..., Up]) -> None:
    file = folder / "secrets" / "token"
    up = start_up("--token-file", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert up.post("/Greeter/greet", '"Ada"').status == 200
    file.write_text("another")
    assert up.post("/Greeter/greet", '"Ada"').status == 401


def test_without_a_token_the_bare_line_works(start_up: Callable[..., Up]) -> None:
    up = start_up("--no-token")
    assert up.said["token_file"] is None
    assert up.post("/Greeter/greet", '"Ada"').status == 200


def test_a_token_file_that_is_named_wins_over_no_token_that_is_set(
    folder: Path, start_up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBDURABLE_NO_TOKEN", "true")
    up = start_up("--token-file", "token")
    assert up.said["token_file"] == str(folder / "token")
    (folder / "token").write_text("another")
    assert up.post("/Greeter/greet", '"Ada"').status == 401


def test_no_token_wins_over_a_token_file_that_is_set(
    start_up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBDURABLE_TOKEN_FILE", "token")
    up = start_up("--no-token")
    assert up.said["token_file"] is None
    assert up.post("/Greeter/greet", '"Ada"').status == 200


def test_it_ends_by_itself_when_nobody_needs_it(
    start_up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that sleeps for days, or waits for a person, waits as well in a file."""
    # Else it would be a minute before they are suspended.
    monkeypatch.setenv("NBDURABLE_INACTIVITY_TIMEOUT", "0s")
    up = start_up("--idle-exit", "200ms")
    up.post("/Greeter/nap/send", "3")
    up.post("/Payment/order-1/run/send", "100")
    _, err = up.process.communicate(timeout=END_S_MAX)
    assert up.process.returncode == 0
    assert "nothing to do" in err


@pytest.mark.kill
@pytest.mark.slow
def test_what_was_acknowledged_is_true_after_kill_9(start_up: Callable[..., Up]) -> None:
    """Under load, three times: no call is lost, and none that is asked again counts twice."""
    ingress = ("--no-token", "--ingress", f"127.0.0.1:{free_port()}")
    running, is_up = [start_up(*ingress)], threading.Event()
    told: list[int] = []

    def call(caller: int) -> None:
        for n in range(CALLS_EACH):
            headers = {**JSON, "idempotency-key": f"{caller}/{n}"}
            while True:
                is_up.wait()
                try:
                    reply = ask(
                        running[-1].said["ingress"], "POST", "/Counter/ada/add", headers, "1"
                    )
                except (OSError, HTTPException):
                    # Nobody can say what became of it, so it is asked again under its name.
                    continue
                assert reply.status == 200, reply
                told.append(reply.json)
                break

    callers = [threading.Thread(target=call, args=(n,)) for n in range(CALLERS)]
    for caller in callers:
        caller.start()
    is_up.set()
    for part in range(1, KILLS + 1):
        until(lambda part=part: len(told) >= part * CALLERS * CALLS_EACH // (KILLS + 1))
        is_up.clear()
        running[-1].process.kill()
        running[-1].process.wait()
        running.append(start_up(*ingress))
        is_up.set()
    for caller in callers:
        caller.join()

    assert sorted(told) == list(range(1, CALLERS * CALLS_EACH + 1))


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_S_MAX
    while not reached():
        assert time.monotonic() < deadline, "it stands still"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_second_one_is_told_who_has_the_journal(start_up: Callable[..., Up]) -> None:
    up = start_up()
    refused = nbdurable("up", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert refused.exit_code == 75
    assert str(up.process.pid) in refused.stderr


@pytest.mark.parametrize(
    ("words", "taught"),
    [
        (("--no-token", "--ingress", "0.0.0.0:0"), "on loopback only"),
        (("--no-token", "--token-file", "x"), "exclude each other"),
        (("--ingress", "8080"), "write HOST:PORT"),
        (("--idle-exit", "5"), "idle_exit is '5'"),
        (("--app", "nowhere.py"), "there is no file nowhere.py"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder: Path, words: tuple[str, ...], taught: str) -> None:
    refused = nbdurable("up", *words)
    assert refused.exit_code == 2
    assert taught in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(folder.iterdir()) == []
