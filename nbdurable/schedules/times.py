"""When a schedule would fire: cron in a time zone, an alias, or an interval.

Cron is cronsim's, which does what people expect when clocks change: what is due at a time that
does not exist fires once, an hour later by the clock; what is due at one that comes twice fires at
the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from nbdurable.durations import parse_duration
from nbdurable.errors import DefinitionError

ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# A commit and a timer each: what is wanted more often is a loop in a handler.
INTERVAL_MS_MIN: Final = 1000
_EVERY: Final = "every "


def fires_after(when: str, tz: str, anchor_ms: int, after_ms: int) -> Iterator[int]:
    """The times after `after_ms`, in order, in milliseconds; an interval counts from the anchor.

    Raises:
        DefinitionError: `when` or `tz` is none.
    """
    interval_ms = _interval_ms(when)
    if interval_ms is not None:
        return _multiples(interval_ms, anchor_ms, after_ms)
    return _cron(when, zone(tz), after_ms)


def check(when: str, tz: str) -> None:
    """Raises DefinitionError for what is no schedule, or never comes."""
    if next(fires_after(when, tz, 0, 0), None) is None:
        raise DefinitionError(f"{when!r} never comes")


def _interval_ms(when: str) -> int | None:
    text = when.strip().removeprefix("@")
    if not text.startswith(_EVERY):
        return None
    try:
        interval_ms = parse_duration(text.removeprefix(_EVERY).strip())
    except ValueError as error:
        raise DefinitionError(f"{when!r}: {error}") from None
    if interval_ms < INTERVAL_MS_MIN:
        raise DefinitionError(f"{when!r} is more often than once a second; loop in a handler")
    return interval_ms


def _multiples(interval_ms: int, anchor_ms: int, after_ms: int) -> Iterator[int]:
    at_ms = anchor_ms + ((after_ms - anchor_ms) // interval_ms + 1) * interval_ms
    while True:
        yield at_ms
        at_ms += interval_ms


def _cron(when: str, zone: ZoneInfo, after_ms: int) -> Iterator[int]:
    after = datetime.fromtimestamp(after_ms / 1000, zone)
    try:
        times = CronSim(ALIASES.get(when.strip(), when.strip()), after)
    except CronSimError as error:
        raise DefinitionError(
            f"{when!r} is no schedule ({error}); write e.g. '0 7 * * 1-5', '@daily', 'every 10m'"
        ) from None
    return (round(at.timestamp() * 1000) for at in times)


def zone(tz: str) -> ZoneInfo:
    """Raises DefinitionError for what is none."""
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DefinitionError(f"{tz!r} is no time zone; write e.g. 'Europe/Berlin'") from None
