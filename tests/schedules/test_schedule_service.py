"""Schedules in virtual time: what runs, when, and once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nbdurable import Context, Service, TerminalError
from nbdurable.schedules import service as schedules
from nbdurable.schedules.plan import Spec
from nbdurable.testing import DurableEnv


@pytest.fixture
def env():
    with DurableEnv(begins_at=datetime(2026, 11, 20, 12, tzinfo=UTC)) as opened:
        opened.serve(*schedules.BUILT_IN)
        yield opened


def report(env: DurableEnv, *, takes: timedelta | None = None, fails: bool = False) -> list[str]:
    ran, service = [], Service("Report")

    @service.handler()
    async def build(ctx: Context, name: str) -> None:
        await ctx.run_typed("note", lambda: ran.append(f"{env.now:%d %H:%M}"))
        if takes is not None:
            await ctx.sleep(takes)
        if fails:
            raise TerminalError("no ink")

    env.serve(service)
    return ran


def put(env: DurableEnv, when: str = "0 7 * * *", **fields: Any) -> schedules.Kept:
    spec = Spec(when=when, service="Report", handler="build", argument='"x"', **fields)
    return env.run(env.client.object_call(schedules.put, "nightly", spec))


def shown(env: DurableEnv) -> dict[str, Any]:
    kept = env.run(env.client.object_call(schedules.show, "nightly", None))
    return schedules.view("nightly", kept, int(env.now.timestamp() * 1000))


def later(env: DurableEnv, **delta: float) -> None:
    env.run(env.advance(timedelta(**delta)))


def test_it_fires_every_day_and_says_when_next(env):
    ran = report(env)
    put(env)
    assert shown(env)["next"] == "2026-11-21T07:00:00+00:00"
    later(env, days=3)
    assert ran == ["21 07:00", "22 07:00", "23 07:00"]
    view = shown(env)
    assert (view["last"], view["running"]) == ("2026-11-23T07:00:00+00:00", [])
    assert next(one["id"] for one in view["ended"]) == "nightly@2026-11-21T07:00:00+00:00"


def test_a_crash_between_fires_loses_none_and_repeats_none(env):
    ran = report(env)
    put(env)
    for _ in range(6):
        later(env, hours=12)
        env.run(env.crash())
    later(env, hours=1)
    assert ran == ["21 07:00", "22 07:00", "23 07:00"]


def test_paused_it_does_not_fire_and_resumed_it_makes_up(env):
    ran = report(env)
    put(env, catch_up="all")
    env.run(env.client.object_call(schedules.pause, "nightly", None))
    later(env, days=2)
    assert ran == []
    env.run(env.client.object_call(schedules.resume, "nightly", None))
    later(env, minutes=1)
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("skip", ["12:10", "12:40", "13:10"]),
        ("queue", ["12:10", "12:35", "13:00"]),
        ("cancel-previous", ["12:10", "12:20", "12:30"]),
    ],
)
def test_what_happens_when_the_run_before_goes_on(env, overlap, expected):
    ran = report(env, takes=timedelta(minutes=25))
    put(env, "every 10m", overlap=overlap)
    later(env, hours=2)
    assert [one[3:] for one in ran][:3] == expected


def fire(time: str) -> str:
    """The id of that of the first day."""
    return f"nightly@2026-11-20T{time}:00+00:00"


def test_paused_it_begins_nothing_that_is_queued_until_it_is_resumed(env):
    """Whoever pauses it wants no more runs, also none that were due before."""
    ran = report(env, takes=timedelta(minutes=25))
    put(env, "every 10m", overlap="queue")
    later(env, minutes=25)
    env.run(env.client.object_call(schedules.pause, "nightly", None))
    later(env, hours=1)
    view = shown(env)
    assert (ran, view["running"], view["queued"]) == (["20 12:10"], [], [fire("12:20")])
    env.run(env.client.object_call(schedules.resume, "nightly", None))
    later(env, minutes=1)
    view = shown(env)
    assert ran == ["20 12:10", "20 13:25"]
    assert (view["running"], view["queued"]) == ([fire("12:20")], [fire("13:20")])


def with_the_first_killed(env: DurableEnv, overlap: str = "queue") -> None:
    """It is 12:25, the run of 12:10 was killed, and that of 12:20 waits for it."""
    report(env, takes=timedelta(minutes=25))
    put(env, "every 10m", overlap="queue")
    later(env, minutes=25)
    put(env, "every 10m", overlap=overlap)
    kept = env.run(env.client.object_call(schedules.show, "nightly", None))
    env.run(env.client.kill(kept.running[fire("12:10")]))


@pytest.mark.parametrize("overlap", ["queue", "skip", "cancel-previous"])
def test_when_a_run_was_killed_the_queue_goes_on_in_its_order(env, overlap):
    """What is due then is behind what has waited, and neither overtakes nor cancels it."""
    with_the_first_killed(env, overlap)
    later(env, minutes=6)
    view = shown(env)
    assert (view["running"], view["queued"]) == ([fire("12:20")], [fire("12:30")])


def test_a_backfill_that_finds_a_run_killed_lets_the_queue_go_on(env):
    """Else it waits for some later fire."""
    with_the_first_killed(env)
    end_ms = int(env.now.timestamp() * 1000)
    span = schedules.While(from_ms=end_ms - 20 * 60_000, until_ms=end_ms - 10 * 60_000)
    ids = env.run(env.client.object_call(schedules.backfill, "nightly", span))
    later(env, minutes=1)
    view = shown(env)
    assert (ids, view["running"], view["queued"]) == ([fire("12:10")], [fire("12:20")], [])


def test_a_backfill_looks_at_its_own_runs_only(env):
    """It holds the schedule meanwhile, and the others say themselves when they end."""
    report(env, takes=timedelta(hours=30))
    put(env)
    env.run(env.client.object_call(schedules.trigger, "nightly", None))
    end_ms = int(env.now.timestamp() * 1000)
    span = schedules.While(from_ms=end_ms - 2 * 86_400_000, until_ms=end_ms)
    env.run(env.client.object_call(schedules.backfill, "nightly", span))
    (filled,) = [one for one in env.run(env.client.invocations()) if one.handler == "backfill"]
    kinds = [one.kind for one in env.run(env.client.journal(filled.id))]
    assert (len(shown(env)["running"]), kinds.count("AttachInvocation")) == (3, 2)


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel-previous"])
def test_nights_that_are_made_up_for_neither_skip_nor_cancel_each_other(env, overlap):
    """Awake, none of them had met another: `all` means each of them."""
    ran = report(env, takes=timedelta(minutes=5))
    put(env, catch_up="all", overlap=overlap)
    env.run(env.client.object_call(schedules.pause, "nightly", None))
    later(env, days=3)
    env.run(env.client.object_call(schedules.resume, "nightly", None))
    later(env, hours=1)
    assert ran == ["23 12:00", "23 12:05", "23 12:10"]
    view = shown(env)
    assert [one["failure"] for one in view["ended"]] == [""] * 3
    assert (view["skipped"], view["queued"]) == (0, [])


def test_of_many_that_are_made_up_for_the_runs_are_looked_at_once(env):
    """Each look takes a moment, and a month asleep has hundreds of fires."""
    report(env, takes=timedelta(minutes=5))
    put(env, "every 1h", catch_up="all")
    env.run(env.client.object_call(schedules.pause, "nightly", None))
    later(env, days=2)
    env.run(env.client.object_call(schedules.resume, "nightly", None))
    (resumed,) = [one for one in env.run(env.client.invocations()) if one.handler == "resume"]
    slept = [one for one in env.run(env.client.journal(resumed.id)) if one.kind == "Sleep"]
    assert (len(shown(env)["queued"]), slept) == (46, []), "the last of the 48 is on time"


def test_what_was_cancelled_for_the_next_one_is_shown_as_that(env):
    report(env, takes=timedelta(minutes=25))
    put(env, "every 10m", overlap="cancel-previous")
    later(env, minutes=25)
    view = shown(env)
    first, second = (f"nightly@2026-11-20T12:{minute}:00+00:00" for minute in (10, 20))
    assert (view["running"], view["ended"]) == (
        [second],
        [{"id": first, "failure": f"cancelled for {second}"}],
    )


def test_changed_while_it_is_paused_it_stays_so_and_is_not_overdue(env):
    ran = report(env)
    put(env)
    env.run(env.client.object_call(schedules.pause, "nightly", None))
    put(env, "0 8 * * *")
    later(env, days=3)
    view = shown(env)
    assert (view["paused"], view["next"], view["overdue"], ran) == (True, None, False, [])


def test_a_killed_run_does_not_hold_up_the_next(env):
    ran = report(env, takes=timedelta(hours=30))
    kept = put(env)
    later(env, days=1)
    kept = env.run(env.client.object_call(schedules.show, "nightly", None))
    (going_on,) = kept.running.values()
    env.run(env.client.kill(going_on))
    later(env, days=1)
    assert len(ran) == 2


def test_a_failed_run_is_said_and_the_next_one_fires(env):
    ran = report(env, fails=True)
    put(env)
    later(env, days=2)
    assert len(ran) == 2
    assert [one["failure"] for one in shown(env)["ended"]] == ["no ink", "no ink"]


def test_a_run_that_has_failed_and_waits_to_be_resumed_holds_up_no_other(env, tmp_path):
    """A night that went wrong is told once, and the next night has its run."""
    ran, told = report(env, takes=timedelta(hours=50)), tmp_path / "told"
    put(env, notify=f"tee -a {told}")
    later(env, days=1)
    fires = [one for one in env.run(env.client.invocations()) if one.service == "NbdurableFire"]
    stands = schedules.Stands(event="failed", token="t", why="no ink")  # noqa: S106 - no secret.
    for _ in range(2):
        # As whoever owns the journal says it, and says it again after a crash.
        env.run(env.client.resolve_signal(fires[0].id, schedules.SIGNAL, stands))
        later(env, minutes=1)
    assert shown(env)["stalled"] == ["nightly@2026-11-21T07:00:00+00:00"]
    later(env, days=1)
    assert ran == ["21 07:00", "22 07:00"]
    later(env, days=1)
    assert shown(env)["stalled"] == [], "it was resumed, and is over"
    assert told.read_text().count("no ink") == 1


def test_the_time_of_the_fire_is_put_into_the_input(env):
    given, service = [], Service("Report")

    @service.handler()
    async def build(ctx: Context, day: dict[str, str]) -> None:
        given.append(day)

    env.serve(service)
    spec = Spec(
        when="0 7 * * *",
        service="Report",
        handler="build",
        argument='{"day": "{fire_date}", "at": "{fire_time}"}',
        tz="Europe/Berlin",
    )
    env.run(env.client.object_call(schedules.put, "nightly", spec))
    later(env, days=1)
    env.run(env.client.object_call(schedules.trigger, "nightly", None))
    later(env, minutes=1)
    assert given == [
        {"day": "2026-11-21", "at": "2026-11-21T07:00:00+01:00"},
        {"day": "2026-11-21", "at": "2026-11-21T13:00:00+01:00"},
    ]


def test_triggered_it_runs_now_and_backfilled_each_day_once(env):
    ran = report(env)
    put(env)
    env.run(env.client.object_call(schedules.trigger, "nightly", None))
    later(env, minutes=1)
    assert len(ran) == 1
    end_ms = int(env.now.timestamp() * 1000)
    span = schedules.While(from_ms=end_ms - 3 * 86_400_000, until_ms=end_ms)
    for _ in range(2):
        ids = env.run(env.client.object_call(schedules.backfill, "nightly", span))
        later(env, minutes=1)
    assert len(ids) == 3
    assert len(ran) == 1 + 3, "the second backfill found the runs of the first"
    view = shown(env)
    assert view["running"] == [], "what ran before has said so long ago"
    assert [one["id"] for one in view["ended"]][1:] == ids


def test_removed_it_is_forgotten(env):
    ran = report(env)
    put(env)
    assert env.run(env.client.object_call(schedules.names, "*", None)) == ["nightly"]
    env.run(env.client.object_call(schedules.remove, "nightly", None))
    later(env, days=2)
    assert ran == []
    assert env.run(env.client.object_call(schedules.names, "*", None)) == []
    with pytest.raises(TerminalError, match="no schedule 'nightly'"):
        env.run(env.client.object_call(schedules.pause, "nightly", None))


@pytest.mark.parametrize("fails", [True, False])
def test_a_command_is_told_how_a_run_ended(env, fails, tmp_path):
    report(env, fails=fails)
    told = tmp_path / "told"
    put(env, notify=f"tee -a {told}", notify_on=("failed",))
    later(env, days=1)
    assert told.exists() == fails
    if fails:
        said = json.loads(told.read_text())
        assert (said["event"], said["failure"]) == ("failed", "no ink")


def test_who_cannot_be_told_is_tried_again_and_then_given_up(env):
    """And the schedule fires on."""
    ran = report(env)
    put(env, notify="false", notify_on=("completed",))
    later(env, days=2)
    assert len(ran) == 2
    assert [one["failure"] for one in shown(env)["ended"]] == ["", ""]


# By the digest, what the handlers command, in short, in the story below.
COMMANDS = {
    "schedule-2": {
        "backfill": ["Input GetEagerState OneWayCall AttachInvocation Sleep SetState Output"],
        "ended": [
            "Input GetEagerState OneWayCall SetState Output",
            "Input GetEagerState SetState Output",
        ],
        "pause": ["Input GetEagerState SetState Output"],
        "put": ["Input GetEagerState Run OneWayCall OneWayCall SetState Output"],
        "remove": ["Input GetEagerState ClearAllState OneWayCall Output"],
        "resume": ["Input GetEagerState Run OneWayCall OneWayCall SetState Output"],
        "trigger": ["Input GetEagerState Run OneWayCall SetState Output"],
        "wake": [
            "Input",
            "Input GetEagerState Output",
            "Input GetEagerState Run AttachInvocation Sleep OneWayCall SetState Output",
            "Input GetEagerState Run OneWayCall OneWayCall SetState Output",
        ],
    },
}


def test_who_changes_what_the_handlers_command_counts_their_digest_up(env):
    """Else what is under way at an upgrade is told that the same code did something else."""
    report(env, takes=timedelta(minutes=25))
    put(env, "every 10m", overlap="queue")
    later(env, minutes=45)
    call, name = env.client.object_call, "nightly"
    env.run(call(schedules.trigger, name, None))
    env.run(call(schedules.pause, name, None))
    later(env, hours=1)
    env.run(call(schedules.resume, name, None))
    end_ms = int(env.now.timestamp() * 1000)
    span = schedules.While(from_ms=end_ms - 40 * 60_000, until_ms=end_ms - 30 * 60_000)
    env.run(call(schedules.backfill, name, span))
    env.run(call(schedules.remove, name, None))
    commanded: dict[str, list[str]] = {}
    for one in env.run(env.client.invocations()):
        if one.service == "NbdurableSchedule" and one.key == name:
            kinds = " ".join(entry.kind for entry in env.run(env.client.journal(one.id)))
            commanded[one.handler] = sorted({*commanded.get(one.handler, ()), kinds})
    assert commanded == COMMANDS[schedules.DIGESTS["NbdurableSchedule"]]
