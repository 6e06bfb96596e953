"""Counts of what was committed: always kept, because they cost less than to ask whether they are.

Made of facts alone, so that they count what happened and not what was tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from nbdurable.core.facts import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    InvocationCompleted,
    InvocationCreated,
    InvocationSuspended,
    NotificationAppended,
    RunAttemptFailed,
)
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.records import Record
from nbdurable.core.state import EngineState
from nbdurable.core.values import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Of the engines that are open in this process, since each was opened.

    A commit is counted when those who waited for it have been told.

    Attributes:
        invocations_live: That are not over now.
        attempts_lost: Their process or link went away; that is no failure.
        steps: That have a recorded result, be it a value or a terminal failure.
        commit_time: Of all commits together, from having the facts until they are durable.
    """

    commits: int = 0
    facts: int = 0
    commit_time: timedelta = timedelta(0)
    commit_time_max: timedelta = timedelta(0)
    invocations_live: int = 0
    invocations_begun: int = 0
    invocations_succeeded: int = 0
    invocations_failed: int = 0
    suspensions: int = 0
    attempts: int = 0
    attempts_failed: int = 0
    attempts_lost: int = 0
    steps: int = 0
    step_failures: int = 0


class Counts:
    """Mutable: the counts of one engine. Written by its thread, read by any."""

    def __init__(self) -> None:
        self.commit_count = 0
        self.commit_s = 0.0
        self.commit_s_max = 0.0
        self.live_count = 0
        self.step_count = 0
        self.failed_count = 0
        self.facts: Counter[type] = Counter()

    def heard(self, records: Sequence[Record], state: EngineState, commit_s: float) -> None:
        self.commit_count += 1
        self.commit_s += commit_s
        self.commit_s_max = max(self.commit_s_max, commit_s)
        self.live_count = len(state.invocations)
        for _, _, fact, _ in records:
            self.facts[type(fact)] += 1
            match fact:
                case NotificationAppended(notification=CompletionNotification(of="Run")):
                    self.step_count += 1
                case InvocationCompleted(result=Failure()):
                    self.failed_count += 1
                case _:
                    pass

    def close(self) -> None:
        """Nothing of it is live any more; what was counted stays."""
        self.live_count = 0


def summed(counts: Iterable[Counts]) -> Metrics:
    """Of several engines; the longest commit is that of any of them."""
    all_counts = list(counts)
    facts: Counter[type] = Counter()
    for one in all_counts:
        # A copy, because its engine goes on counting.
        facts += Counter(dict(one.facts))
    failed_count = sum(one.failed_count for one in all_counts)
    return Metrics(
        commits=sum(one.commit_count for one in all_counts),
        facts=facts.total(),
        commit_time=timedelta(seconds=sum(one.commit_s for one in all_counts)),
        commit_time_max=timedelta(seconds=max((one.commit_s_max for one in all_counts), default=0)),
        invocations_live=sum(one.live_count for one in all_counts),
        invocations_begun=facts[InvocationCreated],
        invocations_succeeded=facts[InvocationCompleted] - failed_count,
        invocations_failed=failed_count,
        suspensions=facts[InvocationSuspended],
        attempts=facts[AttemptStarted],
        attempts_failed=facts[AttemptFailed],
        attempts_lost=facts[AttemptLost],
        steps=sum(one.step_count for one in all_counts),
        step_failures=facts[RunAttemptFailed],
    )
