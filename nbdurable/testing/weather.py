"""The weather: what a simulation may do to a process, and when it does it, drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from nbdurable.core.limits import Limits
from nbdurable.core.settings import DEFAULT_SETTINGS, Settings
from nbdurable.testing.programs import INACTIVITIES
from nbdurable.testing.store import Faults


@dataclass(frozen=True, slots=True)
class Weather:
    """Probabilities are of one step of the storm, or of one call of the store.

    Attributes:
        crash: That the process is killed.
        people: That somebody does something to an invocation.
        changes: That the code is loaded anew as another revision, or that the link is lost.
        edits: That somebody edits the state of a key, or changes the options of a service.
        commit_s: The longest that half of a commit takes.
        settings: The engine's own: limits, and how long what has ended is kept.
        calls_back: Whether objects call those that may be waiting for them.
    """

    faults: Faults
    crash: float
    people: float
    changes: float
    edits: float
    commit_s: float
    inactivity: timedelta
    always_replay: bool
    absorb_commits: int
    settings: Settings
    calls_back: bool

    @property
    def forgets(self) -> bool:
        """Whether a result may be gone before everybody who wants it has asked."""
        return self.settings != DEFAULT_SETTINGS and (
            self.settings.journal_retention_ms < DEFAULT_SETTINGS.journal_retention_ms
        )

    @property
    def forgets_state(self) -> bool:
        """Whether objects do: in some of the lives in which nobody counts on results anyway."""
        return self.forgets and self.settings.journal_retention_ms > 0


def draw_weather(random: Random) -> Weather:
    def some(most: float) -> float:
        return random.choice((0.0, 0.0, most / 3, most))

    return Weather(
        faults=Faults(
            append_before=some(0.1),
            append_after=some(0.1),
            absorb_before=some(0.1),
            absorb_after=some(0.1),
            read=some(0.02),
            open=some(0.1),
        ),
        crash=some(0.3),
        people=some(0.5),
        changes=some(0.2),
        edits=some(0.2),
        commit_s=random.choice((0.0, 0.001, 0.05)),
        inactivity=random.choice(INACTIVITIES),
        always_replay=random.choice((True, False, False, False, False)),
        absorb_commits=random.choice((1, 3, 10, 5_000)),
        settings=_draw_settings(random),
        calls_back=random.choice((True, False, False)),
    )


def _draw_settings(random: Random) -> Settings:
    if random.choice((True, False)):
        return DEFAULT_SETTINGS
    limits = Limits(
        engine=random.choice((None, 1, 2, 5)),
        services={"ServiceInterpreterHelper": 1} if random.choice((True, False)) else {},
    )
    kept_ms = random.choice((0, 20, 3_000, DEFAULT_SETTINGS.journal_retention_ms))
    return Settings(
        limits=limits,
        journal_retention_ms=kept_ms,
        workflow_retention_ms=kept_ms,
        idempotency_retention_ms=kept_ms,
    )
