"""`ls`, `show` and `watch`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import nbdurable

import nbdurable as package


def test_runs_are_listed_newest_first_with_what_to_do(lived: Path) -> None:
    listed = nbdurable("ls")
    assert listed.exit_code == 0
    heading, *lines = listed.stdout.splitlines()
    assert heading.split() == ["ID", "TARGET", "STATUS", "BEGAN", "TOOK", "NEXT"]
    targets = [line.split()[1] for line in lines]
    assert targets[:3] == ["Greeter/ask", "Payment/order-1/run", "Greeter/nap"]
    assert targets[-1] == "Greeter/greet"
    assert "run the script of Payment, or nbdurable up --app" in lines[1]
    assert "7 runs" in listed.stderr
    assert "iB, no process has it open" in listed.stderr


def test_a_list_is_json_for_programs(reached: Path) -> None:
    listed = json.loads(nbdurable("ls", "--json", "--service", "Greeter").stdout)
    assert [view["handler"] for view in listed] == ["ask", "nap", "fail", "greet"]
    failed = json.loads(nbdurable("ls", "--json", "--status", "failed").stdout)
    assert [view["failure"] for view in failed] == ["no tea"]
    done = json.loads(nbdurable("ls", "--json", "--status", "completed").stdout)
    assert len(done) == 4


def test_a_run_is_shown_with_its_journal(reached: Path) -> None:
    shown = nbdurable("show", "Payment/order-1")
    assert shown.exit_code == 0
    assert "Payment/order-1/run" in shown.stdout
    assert '"hold-1"' in shown.stdout
    assert "GetPromise  approved" in shown.stdout
    seen = json.loads(nbdurable("show", "order-1", "--json").stdout)
    assert seen["invocation"]["open_promises"] == ["approved"]
    assert [entry["kind"] for entry in seen["journal"]] == ["Input", "Run", "GetPromise"]


def test_a_run_that_sleeps_says_that_nothing_would_wake_it(reached: Path) -> None:
    assert "nothing is running that could" in nbdurable("show", "Greeter/nap").stdout
    assert "nothing is running" not in nbdurable("show", "Greeter/greet").stdout


def test_the_beginning_of_an_id_is_enough_if_it_is_the_only_one(reached: Path) -> None:
    whole = json.loads(nbdurable("ls", "--json").stdout)[0]["id"]
    assert json.loads(nbdurable("show", whole[:14], "--json").stdout)["invocation"]["id"] == whole
    refused = nbdurable("show", "inv_1")
    assert refused.exit_code == 2
    assert "could be any of 7" in refused.stderr
    assert refused.stderr.rstrip().endswith(", …")
    # 1 would say that the run failed.
    assert nbdurable("attach", "inv_1").exit_code == 2
    assert nbdurable("show", "nobody").exit_code == 4


@pytest.mark.parametrize("typed", ["ord", "Order-1", "oder-1", "Payment/o", "Paymnt/order-1"])
def test_a_run_that_is_not_there_is_told_the_one_that_may_be_meant(
    reached: Path, typed: str
) -> None:
    """By its beginning, because names of notebook runs end with what nobody types."""
    refused = nbdurable("approve", typed)
    assert refused.exit_code == 4
    said = f"Error: there is no invocation '{typed}'; did you mean 'Payment/order-1'?"
    assert refused.stderr.strip() == said


@pytest.mark.parametrize(("run", "code"), [("Greeter/greet", 0), ("Greeter/fail", 1)])
def test_watching_a_run_that_is_over_says_how_it_ended(reached: Path, run: str, code: int) -> None:
    watched = nbdurable("watch", run)
    assert watched.exit_code == code
    assert watched.stdout.splitlines()[0].startswith("0 Input")


def test_watching_as_the_owner_ends_because_nothing_would_come(lived: Path) -> None:
    watched = nbdurable("watch", "order-1", "--json")
    assert watched.exit_code == 3
    assert "nothing is running that could go on" in watched.stderr
    assert json.loads(watched.stdout)["invocation"]["key"] == "order-1"


def test_looking_where_there_is_nothing_makes_nothing(folder: Path) -> None:
    refused = nbdurable("ls")
    assert refused.exit_code == 4
    assert "there is no journal" in refused.stderr
    assert list(folder.iterdir()) == []


def test_on_a_terminal_a_run_is_drawn_in_colours(
    lived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe there is none of it, so that what is read there is what was meant."""
    plain = nbdurable("watch", "Greeter/greet").stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    watched = nbdurable("watch", "Greeter/greet")
    assert watched.exit_code == 0
    assert "\x1b[32m" in watched.stdout
    assert "Greeter/greet" in watched.stdout
    assert "\x1b" in nbdurable("ls").stdout
    assert "\x1b" not in plain


def test_what_no_run_can_be_is_no_empty_list(reached: Path) -> None:
    nonsense = nbdurable("ls", "--status", "nonsense")
    assert (nonsense.exit_code, "'backing-off'" in nonsense.stderr) == (2, True)
    nobody = nbdurable("ls", "--service", "Greeter", "--service", "Nope")
    assert nobody.exit_code == 4
    assert "there are: Counter, Greeter, Payment" in nobody.stderr
    failed = json.loads(nbdurable("ls", "--status", "failed", "--json").stdout)
    assert [view["handler"] for view in failed] == ["fail"]


def test_the_traceback_of_a_run_that_is_over_is_read_from_the_journal(folder: Path) -> None:
    """Whoever comes after the process that failed has nothing else to go by."""
    once = package.InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill")
    shaky = package.Service("Shaky", invocation_retry_policy=once)

    @shaky.handler()
    async def fall(ctx: package.Context) -> None:
        raise ValueError("kaboom")

    @shaky.handler()
    async def stand(ctx: package.Context) -> None: ...

    with package.open_sync(services=[shaky]) as engine:
        engine.client.service_call(stand, None)
        with pytest.raises(package.TerminalError):
            engine.client.service_call(fall, None)
    shown = nbdurable("show", "Shaky/fall", "--trace")
    assert "Traceback" in shown.stdout
    assert shown.stdout.endswith("ValueError: kaboom\n")
    told = json.loads(nbdurable("show", "Shaky/fall", "--trace", "--json").stdout)
    assert "ValueError: kaboom" in told["stacktrace"]
    assert "no attempt of it" in nbdurable("show", "Shaky/stand", "--trace").stderr
