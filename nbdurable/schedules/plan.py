"""Which fires of a schedule are due, and when to look again. Pure: given the last fire and now."""

from __future__ import annotations

import itertools
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from nbdurable.schedules.times import fires_after

CatchUp = Literal["none", "latest", "all"]
Overlap = Literal["skip", "queue", "cancel-previous"]

# A fire so late is on time: a timer, a commit and a start take a moment on a busy machine.
GRACE_MS: Final = 60_000
# Behind the time of a fire that somebody has started, and before what makes it one of its own.
BY_HAND: Final = ","
# Of one look; the rest is due at the next one, which follows at once.
FIRES_MAX: Final = 500


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule is. `argument` is the handler's, as JSON text; None of one that takes none.

    `when`: cron, an alias as @daily, or `every 10m`, counted from `anchor_ms`. `key`: of an object;
    a run of a workflow has that of its fire. `{fire_date}` and `{fire_time}` in the argument are
    the fire's, in the schedule's zone. `notify`: a URL or a command, told of the `notify_on`.
    """

    when: str
    service: str
    handler: str
    kind: Literal["service", "object", "workflow"] = "service"
    key: str | None = None
    argument: str | None = None
    tz: str = "UTC"
    catch_up: CatchUp = "latest"
    max_staleness_ms: int | None = None
    overlap: Overlap = "skip"
    jitter_ms: int = 0
    anchor_ms: int = 0
    notify: str | None = None
    notify_on: tuple[str, ...] = ("failed",)


class Due(NamedTuple):
    """`seen_ms`: every fire up to it is decided. `missed`: how many are not made up for."""

    fires_ms: tuple[int, ...]
    missed: int
    seen_ms: int
    wake_ms: int | None


def due(name: str, spec: Spec, last_ms: int, now_ms: int) -> Due:
    """What is due at `now_ms` of all that fires after `last_ms`.

    Under `all` nothing is lost that is not too stale, under `latest` and `none` at most one run is
    begun at a time; and what `seen_ms` has passed is never due again.
    """
    fires: list[int] = []
    passed_count, seen_ms = 0, last_ms
    wake_ms: int | None = None
    for at_ms in fires_after(spec.when, spec.tz, spec.anchor_ms, last_ms):
        late_ms = now_ms - at_ms - jitter_of(name, spec, at_ms)
        if late_ms < 0:
            wake_ms = now_ms - late_ms
            break
        passed_count, seen_ms = passed_count + 1, at_ms
        if _is_fresh(spec, late_ms):
            # A schedule of every second has many in a month, of which one is wanted.
            fires = [*fires, at_ms] if spec.catch_up == "all" else [at_ms]
        if spec.catch_up == "all" and passed_count == FIRES_MAX:
            wake_ms = now_ms
            break
    return Due(tuple(fires), passed_count - len(fires), seen_ms, wake_ms)


def _is_fresh(spec: Spec, late_ms: int) -> bool:
    limit_ms = GRACE_MS if spec.catch_up == "none" else spec.max_staleness_ms
    return limit_ms is None or late_ms <= limit_ms


def is_late(name: str, spec: Spec, at_ms: int, now_ms: int) -> bool:
    """Whether this fire is made up for, and not on time."""
    return now_ms - at_ms - jitter_of(name, spec, at_ms) > GRACE_MS


def jitter_of(name: str, spec: Spec, at_ms: int) -> int:
    """The same for the same fire of the same schedule, wherever it is asked."""
    if not spec.jitter_ms:
        return 0
    drawn = blake2b(f"{name} {at_ms}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn) % (spec.jitter_ms + 1)


def run_id(name: str, spec: Spec, at_ms: int) -> str:
    """Of one fire: `nightly@2026-11-26T07:00:00+01:00`, the same whoever starts it."""
    return f"{name}@{said(spec, at_ms)}"


def said(spec: Spec, at_ms: int) -> str:
    """A time in the schedule's zone."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(spec.tz)).isoformat(timespec="seconds")


def filled(argument: str, fire: str) -> str:
    """Its input, as JSON, with the time of the fire where `{fire_time}` or `{fire_date}` stands."""
    # What was begun by an older version has an exclamation mark, which shells take for their own.
    at = fire.rpartition("@")[2].replace("!", BY_HAND).partition(BY_HAND)[0]
    return argument.replace("{fire_time}", at).replace("{fire_date}", at.partition("T")[0])


def between(spec: Spec, from_ms: int, until_ms: int) -> list[int]:
    """The fires of a while in the past, its beginning included: what a backfill makes up for."""
    times = fires_after(spec.when, spec.tz, spec.anchor_ms, from_ms - 1)
    return list(itertools.takewhile(lambda at_ms: at_ms <= until_ms, times))
