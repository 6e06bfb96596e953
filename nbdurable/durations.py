"""Times as Restate's clients write and read them.

A duration is ISO 8601 (`PT1.5S`, `P1DT2H`) or friendly (`500ms`, `1h 30m`, `2 days, 4 hours`).

Source: restate-http-observed.md, "Send" and "Admin" (service options).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

_MS: Final[dict[str, int | Fraction]] = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
    "us": Fraction(1, 1_000),
    "ns": Fraction(1, 1_000_000),
}
_NAMES: Final = {
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), "w"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "msecs", "milli", "millis"), "ms"),
    **dict.fromkeys(("millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "μs", "usec", "usecs", "micro", "micros"), "us"),
    **dict.fromkeys(("microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nano", "nanos"), "ns"),
    **dict.fromkeys(("nanosecond", "nanoseconds"), "ns"),
}
# A month is no length: it depends on when it begins.
_INEXACT: Final = frozenset({"y", "yr", "yrs", "year", "years", "mo", "mos", "month", "months"})
_ORDER: Final = tuple(_MS)

# What is longer says nothing more.
_CHARS_MAX: Final = 100
# Digits are counted, so that no number takes long to read; and they are those of ASCII.
_NUMBER: Final = r"[0-9]{1,18}(?:[.,][0-9]{1,9})?"
_PART: Final = re.compile(rf"({_NUMBER})\s*([a-zµμ]+)")
_FRIENDLY: Final = re.compile(rf"(?:{_NUMBER}\s*[a-zµμ]+(?:\s*,\s*|\s*))+")
_ISO: Final = re.compile(
    rf"P(?=[0-9T])(?:({_NUMBER})Y)?(?:({_NUMBER})M)?(?:({_NUMBER})W)?(?:({_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?",
    re.IGNORECASE,
)
_ISO_UNITS: Final = ("years", "months", "w", "d", "h", "m", "s")
# The last moment that has four digits for its year, as every client expects.
_AT_MS_MAX: Final = 253_402_300_799_999


def parse_duration(text: str) -> int:
    """Milliseconds, rounded up: nothing that waits wakes early.

    Raises:
        ValueError: It is no duration, or none that has a length; the text says why.
    """
    if len(text) > _CHARS_MAX:
        raise ValueError(f"it has {len(text)} characters")
    parts = _parts(text.strip())
    units = [unit for _, unit in parts]
    if _INEXACT.intersection(units):
        raise ValueError("please use units of weeks, days or smaller")
    if units != sorted(set(units), key=_ORDER.index):
        raise ValueError("write each unit once, the largest first")
    if any(not number.isdigit() for number, _ in parts[:-1]):
        raise ValueError("only the smallest unit may have a fraction")
    total = sum(Fraction(number.replace(",", ".")) * Fraction(_MS[unit]) for number, unit in parts)
    ms = math.ceil(total)
    if ms > _AT_MS_MAX:
        raise ValueError("it is longer than the calendar")
    return ms


def _parts(text: str) -> list[tuple[str, str]]:
    if text.startswith("-") or text.lower().endswith("ago"):
        raise ValueError("nothing can wait for a negative time")
    if text[:1] in ("P", "p"):
        match = _ISO.fullmatch(text)
        found = match.groups() if match else ()
        parts = [(n, unit) for n, unit in zip(found, _ISO_UNITS, strict=False) if n is not None]
    else:
        lower = text.lower()
        parts = _PART.findall(lower) if _FRIENDLY.fullmatch(lower) else []
        parts = [(number, _NAMES.get(name, name)) for number, name in parts]
    if not parts or any(unit not in _MS and unit not in _INEXACT for _, unit in parts):
        raise ValueError(f"{text[:40]!r} is none; write e.g. 10s, 500ms, 1h 30m or PT10S")
    return parts


def show_duration(ms: int) -> str:
    """`90000` is `1m 30s`."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        size = _MS[unit]
        assert isinstance(size, int)
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def show_time(at_ms: int) -> str:
    """RFC 3339 with three digits and an offset of zero: `2026-11-23T11:52:52.726+00:00`."""
    return _moment(at_ms).isoformat(timespec="milliseconds")


def show_exact_time(at_ms: int) -> str:
    """RFC 3339 with nine digits: `2026-11-22T11:52:53.300000000Z`."""
    return f"{_moment(at_ms):%Y-%m-%dT%H:%M:%S}.{at_ms % 1_000:03d}000000Z"


def is_within_calendar(at_ms: int) -> bool:
    return 0 <= at_ms <= _AT_MS_MAX


def _moment(at_ms: int) -> datetime:
    seconds, ms = divmod(min(at_ms, _AT_MS_MAX), 1_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=ms * 1_000)
