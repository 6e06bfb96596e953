"""What an attempt did, in proposals that are not too large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbdurable.core.proposals import AnyStep

# Of values proposed at once, unless one alone has more: they become one commit, and one absorb.
STEPS_BYTES_MAX = 4 * 1024 * 1024


def in_parts(steps: Sequence[AnyStep]) -> Iterator[tuple[AnyStep, ...]]:
    """In order, and as many together as have few bytes: each part is committed by itself."""
    part: list[AnyStep] = []
    part_bytes = 0
    for step in steps:
        step_bytes = len(getattr(step, "payload", None) or b"")
        if part and part_bytes + step_bytes > STEPS_BYTES_MAX:
            yield tuple(part)
            part, part_bytes = [], 0
        part.append(step)
        part_bytes += step_bytes
    yield tuple(part)
