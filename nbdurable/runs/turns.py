"""Which of the runs that wait may begin now. Pure: given those, and those that have a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from nbdurable.runs.request import RunRequest


def next_of(
    waiting: Iterable[tuple[str, RunRequest]],
    running: Iterable[RunRequest],
    processes_max: int,
) -> list[str]:
    """The keys that may begin, in the order in which they wait.

    A sweep that has all that it may have holds up none of the others.
    """
    at_work = list(running)
    sweeps = Counter(one.sweep for one in at_work if one.sweep)
    free = processes_max - len(at_work)
    found: list[str] = []
    for key, request in waiting:
        if len(found) >= free:
            break
        limit = request.max_parallel
        if request.sweep and limit is not None:
            if sweeps[request.sweep] >= limit:
                continue
            sweeps[request.sweep] += 1
        found.append(key)
    return found
