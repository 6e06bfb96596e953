"""`nbdurable up`, as a real process: what it tells, how it ends, and what outlives kill -9."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import END_S_MAX, Up, nbdurable

from nbdurable.server.address import served_at
from nbdurable.store.lock import is_held


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


def test_what_was_acknowledged_is_true_after_kill_9(start_up: Callable[..., Up]) -> None:
    """Under load from four callers; each notes what it was told, and asks again afterwards."""
    up = start_up("--no-token")
    told: list[int] = []
    enough = threading.Event()

    def call() -> None:
        while True:
            try:
                told.append(up.post("/Counter/ada/add", "1").json)
            except OSError:
                return
            if len(told) >= 100:
                enough.set()

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    assert enough.wait(END_S_MAX)
    os.kill(up.process.pid, signal.SIGKILL)
    for caller in callers:
        caller.join()
    up.process.wait()

    assert sorted(told) == sorted(set(told)), "a sum was told twice"
    again = start_up("--no-token")
    # Those in flight when it died were never acknowledged; each may have counted, or not.
    total = again.post("/Counter/ada/add", "1").json
    assert max(told) < total <= max(told) + len(callers) + 1


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
    assert refused.exit_code in (1, 2)
    assert taught in refused.stderr
    assert "Traceback" not in refused.stderr
