"""Commands beside a running `up`, which has the code: runs go on while one looks."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest
from support.command import END_S_MAX, Up, nbdurable, start_apart


@pytest.fixture(autouse=True)
def up(start_up: Callable[..., Up]) -> Up:
    return start_up()


def test_a_call_is_answered() -> None:
    called = nbdurable("call", "Greeter/greet", '"Ada"')
    assert (called.exit_code, called.stdout) == (0, '"hello Ada"\n')
    failed = nbdurable("call", "Greeter/fail", '"no tea"')
    assert (failed.exit_code, failed.stderr) == (1, "[418] no tea\n")
    once = [nbdurable("call", "Counter/ada/add", "1", "--idempotency-key", "k") for _ in range(2)]
    assert [one.stdout for one in once] == ["1\n", "1\n"]
    assert "was there already" in once[1].stderr


def test_a_workflows_key_that_has_a_run_is_attached_to() -> None:
    nbdurable("send", "Payment/order-1/run", "100")
    again = nbdurable("call", "Payment/order-1/run", "200", "--timeout", "1ms")
    assert again.exit_code == 3
    assert "attached to" in again.stderr
    nbdurable("approve", "order-1", "approved")
    assert nbdurable("attach", "order-1").stdout == '"captured 100"\n'


def test_a_run_is_watched_until_somebody_approves_it() -> None:
    nbdurable("send", "Payment/order-1/run", "100")
    watching = start_apart("watch", "order-1")
    assert watching.stdout is not None
    seen = []
    while not any("approved" in line for line in seen):
        seen.append(watching.stdout.readline())
        assert seen[-1], watching.communicate()[1]
    assert nbdurable("approve").exit_code == 0
    out, _ = watching.communicate(timeout=END_S_MAX)
    assert watching.returncode == 0
    assert out.splitlines()[-1] == "Payment/order-1/run succeeded"


@pytest.mark.parametrize("verb", ["attach", "watch", "call"])
def test_who_waits_for_a_paused_run_is_told_what_to_do(verb: str) -> None:
    nbdurable("send", "Payment/order-1/run", "100")
    words = ("Payment/order-1/run", "100") if verb == "call" else ("order-1",)
    waiting = start_apart(verb, *words)
    assert nbdurable("pause", "order-1").exit_code == 0
    _, err = waiting.communicate(timeout=END_S_MAX)
    assert waiting.returncode == 3
    assert "Payment/order-1/run is paused: " in err
    assert "nbdurable resume Payment/order-1" in err


def test_who_does_not_wait_is_told_the_status_that_is_listed() -> None:
    nbdurable("send", "Payment/order-1/run", "100")
    watching = start_apart("watch", "order-1")
    assert watching.stdout is not None
    while "waits for" not in (line := watching.stdout.readline()):
        assert line, watching.communicate()[1]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=END_S_MAX)
    looked = nbdurable("attach", "order-1", "--now")
    assert (looked.exit_code, "waits for 'approved'" in looked.stderr) == (3, True)
    for how in (("--now",), ("--timeout", "1ms")):
        told = nbdurable("attach", "order-1", "--json", *how)
        assert told.exit_code == 3
        assert json.loads(told.stdout)["status"] in ("running", "suspended")


def test_who_stops_looking_leaves_the_run_alone() -> None:
    sent = nbdurable("send", "Greeter/nap", "3")
    watching = start_apart("watch", sent.stdout.strip(), "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["invocation"]["handler"] == "nap"
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=END_S_MAX)
    assert watching.returncode == 3
    assert "the run goes on" in err
    assert "Traceback" not in err
    view = json.loads(nbdurable("show", "Greeter/nap", "--json").stdout)["invocation"]
    assert view["status"] != "completed"


def test_a_run_that_sleeps_says_who_wakes_it(up: Up) -> None:
    nbdurable("send", "Greeter/nap", "3")
    watching = start_apart("watch", "Greeter/nap")
    assert watching.stdout is not None
    while "sleeps until" not in (line := watching.stdout.readline()):
        assert line, watching.communicate()[1]
    watching.kill()
    watching.communicate()
    last = nbdurable("show", "Greeter/nap").stdout.splitlines()[-1]
    assert last.startswith("at ")
    assert last.endswith(f"(pid {up.process.pid})")


def test_code_is_where_the_owner_is(up: Up) -> None:
    (greeter, *_) = json.loads(nbdurable("services", "--json").stdout)
    assert str(up.process.pid) in greeter["loaded_in"]


@pytest.mark.kill
def test_a_command_whose_owner_dies_says_so(up: Up) -> None:
    """Neither a traceback nor silence: a script can tell it from every other failure."""
    nbdurable("send", "Payment/order-1/run", "100")
    watching = start_apart("watch", "order-1", "--json")
    assert watching.stdout is not None
    assert watching.stdout.readline()
    up.process.kill()
    _, err = watching.communicate(timeout=END_S_MAX)
    assert watching.returncode == 75, err
    assert "went away" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_owner_that_hangs_is_told_of(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lock and listens, so that only its silence tells."""
    monkeypatch.setenv("NBDURABLE_OWNER_WAIT", "0s")
    up.process.send_signal(signal.SIGSTOP)
    try:
        refused = nbdurable("ls")
        found = json.loads(nbdurable("doctor", "--json").stdout)
    finally:
        up.process.send_signal(signal.SIGCONT)
    assert refused.exit_code == 75
    assert f"process {up.process.pid} (nbdurable up --json" in refused.stderr
    assert [one["check"] for one in found if one["health"] == "ill"] == ["owner"]
    assert nbdurable("ls").exit_code == 0
