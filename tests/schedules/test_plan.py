"""Which fires are due: a table, the nights on which clocks change, and what always holds."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.errors import DefinitionError
from nbdurable.schedules.plan import Due, Spec, between, due, jitter_of, run_id, said
from nbdurable.schedules.times import check, fires_after

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
BERLIN = "Europe/Berlin"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def spec(when: str = "0 7 * * *", **fields) -> Spec:
    return Spec(when=when, service="S", handler="h", **fields)


def test_three_nights_asleep_are_made_up_for_as_the_policy_says():
    last, now = ms("2026-11-20T07:00"), ms("2026-11-23T12:00")
    missed = [ms(f"2026-11-{day}T07:00") for day in (21, 22, 23)]
    next_ms = ms("2026-11-24T07:00")

    def decided(**fields) -> Due:
        return due("s", spec(**fields), last, now)

    assert decided(catch_up="all") == Due(tuple(missed), 0, missed[-1], next_ms)
    assert decided(catch_up="latest") == Due((missed[-1],), 2, missed[-1], next_ms)
    assert decided(catch_up="none") == Due((), 3, missed[-1], next_ms)
    stale = decided(catch_up="all", max_staleness_ms=30 * HOUR_MS)
    assert stale.fires_ms == tuple(missed[1:])


def test_what_is_on_time_fires_under_every_policy():
    at = ms("2026-11-21T07:00")
    for catch_up in ("none", "latest", "all"):
        assert due("s", spec(catch_up=catch_up), at - DAY_MS, at + 30).fires_ms == (at,)


@pytest.mark.parametrize(
    ("tz", "when", "from_", "expected"),
    [
        # Spring forward: 2:30 does not exist, and is made up for when the clock has passed it.
        (BERLIN, "30 2 * * *", "2026-03-28T22:00", ["2026-03-29T03:00:00+02:00"]),
        ("America/New_York", "30 2 * * *", "2026-03-08T00:00", ["2026-03-08T03:00:00-04:00"]),
        # Fall back: 2:30 comes twice, and is meant once.
        (BERLIN, "30 2 * * *", "2026-10-24T22:00", ["2026-10-25T02:30:00+02:00"]),
        ("America/New_York", "30 1 * * *", "2026-11-01T03:00", ["2026-11-01T01:30:00-04:00"]),
        # What is said of every hour is meant of both.
        (
            BERLIN,
            "0 * * * *",
            "2026-10-24T23:30",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
        ),
        # Half an hour only, and in the other half of the year.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-04-04T13:00", ["2026-04-05T02:15:00+10:30"]),
        ("Asia/Kathmandu", "0 0 * * *", "2026-03-28T00:00", ["2026-03-29T00:00:00+05:45"]),
        ("UTC", "30 2 * * *", "2026-03-29T00:00", ["2026-03-29T02:30:00+00:00"]),
    ],
)
def test_the_nights_on_which_clocks_change(tz, when, from_, expected):
    times = itertools.islice(fires_after(when, tz, 0, ms(from_)), len(expected))
    assert [said(spec(tz=tz), at) for at in times] == expected


@pytest.mark.parametrize("tz", [BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo"])
def test_a_daily_schedule_fires_once_a_day_all_year(tz):
    """However the clocks of the zone change."""
    times = itertools.takewhile(
        lambda at: at < ms("2027-01-01T12:00"),
        fires_after("30 2 * * *", tz, 0, ms("2025-12-31T12:00")),
    )
    days = [said(spec(tz=tz), at)[:10] for at in times]
    assert len(days) == len(set(days))
    assert 365 <= len(days) <= 366


_WHENS = st.sampled_from(
    ["0 7 * * *", "*/15 * * * *", "30 2 * * *", "0 * * * *", "every 7m", "every 90m", "@daily"]
)
_ZONES = st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"])
# Around both nights of Europe, so that most examples cross one.
_BEGINS = st.sampled_from([ms("2026-03-28T20:00"), ms("2026-10-24T20:00"), ms("2026-10-31T20:00")])
_LOOKS = st.lists(st.integers(0, 20 * 60), min_size=1, max_size=12)


def looks(one: Spec, begins_ms: int, gaps_min: list[int]) -> list[Due]:
    """What a schedule decides that is looked at after each of these gaps."""
    seen_ms = now_ms = begins_ms
    found = []
    for gap in gaps_min:
        now_ms += gap * MINUTE_MS
        found.append(due("s", one, seen_ms, now_ms))
        seen_ms = found[-1].seen_ms
    return found


@given(_WHENS, _ZONES, _BEGINS, _LOOKS, st.integers(0, 5))
def test_never_twice_and_under_all_never_lost(when, tz, begins, gaps, jitter_min):
    one = spec(when, tz=tz, catch_up="all", jitter_ms=jitter_min * MINUTE_MS, anchor_ms=begins)
    found = looks(one, begins, gaps)
    fired = [at for each in found for at in each.fires_ms]
    assert fired == sorted(set(fired))
    ids = [run_id("s", one, at) for at in fired]
    assert len(set(ids)) == len(ids)
    until = found[-1].seen_ms
    assert fired == list(between(one, begins + 1, until))


@given(_WHENS, _ZONES, _BEGINS, _LOOKS, st.sampled_from(["latest", "none"]))
def test_at_most_one_at_a_time_under_latest_and_none(when, tz, begins, gaps, catch_up):
    one = spec(when, tz=tz, catch_up=catch_up, anchor_ms=begins)
    found = looks(one, begins, gaps)
    assert all(len(each.fires_ms) <= 1 for each in found)
    fired = [at for each in found for at in each.fires_ms]
    assert fired == sorted(set(fired))


def test_jitter_is_the_same_for_the_same_fire_and_bounded():
    one = spec(jitter_ms=600_000)
    drawn = [jitter_of("s", one, day * DAY_MS) for day in range(50)]
    assert drawn == [jitter_of("s", one, day * DAY_MS) for day in range(50)]
    assert len(set(drawn)) > 40
    assert all(0 <= one <= 600_000 for one in drawn)


@pytest.mark.parametrize("wrong", ["", "61 * * * *", "every", "every 10ms", "@often", "0 0 31 2 *"])
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(DefinitionError):
        check(wrong, "UTC")


def test_an_unknown_zone_is_refused():
    with pytest.raises(DefinitionError, match="no time zone"):
        check("@daily", "Europe/Atlantis")
