"""Durations and times, read and written as Restate's clients do."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.durations import (
    is_within_calendar,
    parse_duration,
    show_duration,
    show_exact_time,
    show_time,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("10s", 10_000),
        ("500ms", 500),
        ("1 sec", 1_000),
        ("0.4 seconds", 400),
        ("1,5s", 1_500),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("1 day, 2 h", 93_600_000),
        ("3days", 259_200_000),
        ("2 weeks", 1_209_600_000),
        ("0s", 0),
        ("500us", 1),
        ("1ns", 1),
        ("PT5S", 5_000),
        ("pt5s", 5_000),
        ("PT0.5S", 500),
        ("P1W", 604_800_000),
        ("P1DT2H3M4.5S", 93_784_500),
        (" 2m ", 120_000),
    ],
)
def test_durations_are_read(text: str, ms: int):
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is none"),
        ("5", "is none"),
        ("s", "is none"),
        ("abc", "is none"),
        ("5 parsecs", "is none"),
        ("P", "is none"),
        ("PT", "is none"),
        ("P1DT", "is none"),
        ("٣s", "is none"),
        ("-1s", "negative"),
        ("1s ago", "negative"),
        ("P1M", "days or smaller"),
        ("1 month", "days or smaller"),
        ("P1Y", "days or smaller"),
        ("1s1s", "once"),
        ("1s 1h", "largest first"),
        ("1.5h 2s", "fraction"),
        ("9" * 18 + "w", "calendar"),
        ("1s" * 100, "characters"),
    ],
)
def test_what_is_no_duration_is_said(text: str, why: str):
    with pytest.raises(ValueError, match=why):
        parse_duration(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (50, "50ms"),
        (60_000, "1m"),
        (90_000, "1m 30s"),
        (3_661_001, "1h 1m 1s 1ms"),
        (86_400_000, "1d"),
        (2_592_000_000, "30d"),
    ],
)
def test_durations_are_shown_as_restate_shows_them(ms: int, text: str):
    assert show_duration(ms) == text


@given(ms=st.integers(0, 10**14))
def test_what_is_shown_is_read_back(ms: int):
    assert parse_duration(show_duration(ms)) == ms


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str):
    with suppress(ValueError):
        assert parse_duration(text) >= 0


def test_times_are_shown_with_as_many_digits_as_restate_shows():
    assert show_time(1_795_434_772_726) == "2026-11-23T11:52:52.726+00:00"
    assert show_exact_time(1_795_434_773_300) == "2026-11-23T11:52:53.300000000Z"


def test_what_never_ends_is_shown_as_the_last_day():
    """A retention may be longer than the calendar; a header must still be one."""
    assert show_time(10**18).startswith("9999-12-31T")
    assert is_within_calendar(10**12)
    assert not is_within_calendar(10**18)
