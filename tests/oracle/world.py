"""Whoever answers: plays one program on both sides at once, and gives both the same answers.

Which future is answered next, how, and when somebody cancels, is drawn from a seed.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, NamedTuple

import restate

import nbdurable
from oracle.embedded import Embedded
from oracle.journals import (
    Asked,
    Came,
    Entry,
    Failed,
    Label,
    came_of_name,
    commands,
    comparable,
    settle,
)
from oracle.official import Official
from oracle.programs import NAMES, Program, flow_of, repeats_signals

STATE = {"a": b"1", "z": b'"zz"'}
ARGUMENT = b'"in"'
SEED = 20261125
# A program of ten operations has far fewer futures; more answers mean that it never ends.
ANSWERS_MAX = 100
BURST_MAX = 3
EARLY_SIGNALS_MAX = 2
CANCELLATIONS_MAX = 2
CANCEL_CHANCE = 0.2
ANSWERED_BY_OTHERS = [
    "Sleep",
    "Call",
    "GetPromise",
    "PeekPromise",
    "CompletePromise",
    "AttachInvocation",
]


class Pair(NamedTuple):
    """The embedded engine's and the official SDK's."""

    ours: Any
    theirs: Any


def sides(program: Program, *, protocol: int = 7) -> Pair:
    flow, others = flow_of(nbdurable, program)
    their_flow, their_others = flow_of(restate, program)
    app = restate.app([their_flow, *their_others])
    given: dict[str, Any] = {"argument": ARGUMENT, "key": "k", "state": STATE, "seed": SEED}
    assert others
    return Pair(
        Embedded(flow, "run", **given), Official(app, "Flow", "run", protocol=protocol, **given)
    )


class Answers:
    """Mutable: the people and timers around one invocation, drawn from a seed."""

    def __init__(self, seed: int, *, cancels: bool) -> None:
        self._random = random.Random(seed)
        self._cancellations_left = CANCELLATIONS_MAX if cancels else 0

    def burst(self) -> int:
        return self._random.randint(1, BURST_MAX)

    def next(self, journal: list[Entry]) -> tuple[Label, bytes | Failed] | None:
        """What comes next, in a journal of ours, which alone names its awakeables."""
        if self._cancellations_left and not open_runs(journal) and self._rarely():
            self._cancellations_left -= 1
            return "cancel", b""
        open_futures = unanswered(journal)
        if not open_futures:
            return None
        label, kind = self._random.choice(open_futures)
        return label, self._result(kind)

    def _rarely(self) -> bool:
        return self._random.random() < CANCEL_CHANCE

    def _result(self, kind: str) -> bytes | Failed:
        match kind:
            case "Sleep":
                return b""
            case "CompletePromise":
                done = Failed(409, "promise was already completed")
                return self._random.choice((b"", done))
            case "PeekPromise":
                return self._random.choice((b"", b"5", Failed(418, "no")))
            case _:
                return self._random.choice((b"5", b'"yes"', b"[1, 2]", Failed(418, "no")))


def answers_for(program: Program, seed: int, *, cancels: bool) -> Answers:
    return Answers(seed, cancels=cancels and not repeats_signals(program))


def unanswered(journal: list[Entry]) -> list[tuple[Label, str]]:
    known = _answered(journal)
    found: list[tuple[Label, str]] = [
        (label, entry.seen.kind)
        for label, entry in enumerate(commands(journal))
        if isinstance(entry.seen, Asked) and entry.seen.kind in ANSWERED_BY_OTHERS
    ]
    found += [
        (f"awakeable {entry.seen.signal}", "Signal")
        for entry in journal
        if isinstance(entry.seen, Asked) and entry.seen.kind == "Awakeable"
    ]
    found += [
        (f"signal {name} {came_of_name(journal, name)}", "Signal")
        for name in _signal_names(journal)
    ]
    return [(label, kind) for label, kind in found if label not in known]


def _signal_names(journal: list[Entry]) -> list[str]:
    """Once any was waited for, signals of every name may come, also before somebody waits."""
    waits = Counter(
        str(entry.seen.signal)
        for entry in journal
        if isinstance(entry.seen, Asked) and entry.seen.kind == "Signal"
    )
    return [
        name
        for name in NAMES
        if waits and came_of_name(journal, name) < waits[name] + EARLY_SIGNALS_MAX
    ]


def open_runs(journal: list[Entry]) -> list[Label]:
    """Steps without a record. A cancellation ends them here and not there (DECISIONS 0026)."""
    return [
        label
        for label, entry in enumerate(commands(journal))
        if isinstance(entry.seen, Asked)
        and entry.seen.kind == "Run"
        and label not in _answered(journal)
    ]


async def play(pair: Pair, answers: Answers) -> Pair:
    """From an empty journal to the end; every answer begins another attempt.

    Returns both journals, which were equal after every attempt.
    """
    journals = Pair([], [])
    for _ in range(ANSWERS_MAX):
        if await continued(pair, journals):
            return journals
        answer = answers.next(journals.ours)
        assert answer is not None, "both wait for what nobody can answer"
        for side, journal in zip(pair, journals, strict=True):
            journal.append(side.came(journal, *answer))
    raise AssertionError("the program never ends")


async def continued(pair: Pair, journals: Pair) -> bool:
    """Both go on from their journals, in which the same is added. Returns whether they ended."""
    endings = []
    for side, journal in zip(pair, journals, strict=True):
        entries, ending = await settle(side, journal)
        journal.extend(entries)
        endings.append(ending)
    assert comparable(journals.ours) == comparable(journals.theirs)
    assert endings[0] == endings[1]
    return endings[0].how != "suspended"


async def play_live(pair: Pair, answers: Answers) -> Pair:
    """From an empty journal to the end in one attempt; answers come one or several at a time."""
    lives = Pair(pair.ours.live(), pair.theirs.live())
    try:
        for _ in range(ANSWERS_MAX):
            for life in lives:
                await life.idle()
            assert comparable(lives.ours.journal) == comparable(lives.theirs.journal)
            assert lives.ours.ending == lives.theirs.ending
            if lives.ours.ending is not None:
                return Pair(lives.ours.journal, lives.theirs.journal)
            for _ in range(answers.burst()):
                answer = answers.next(lives.ours.journal)
                if answer is not None:
                    for life in lives:
                        life.tell(*answer)
        raise AssertionError("the program never ends")
    finally:
        for life in lives:
            await life.close()


def prefixes(journals: Pair) -> list[Pair]:
    """Both journals, cut after each entry that both have; a finished one is not replayed."""
    cuts = Pair(*(_cuts(journal) for journal in journals))
    return [
        Pair(journals.ours[:ours], journals.theirs[:theirs])
        for ours, theirs in zip(*cuts, strict=True)
        if not is_finished(journals.ours[:ours])
    ]


def is_finished(journal: list[Entry]) -> bool:
    return any(isinstance(e.seen, Asked) and e.seen.kind == "Output" for e in journal)


def _cuts(journal: list[Entry]) -> list[int]:
    cuts = [0]
    for length in range(1, len(journal) + 1):
        if len(comparable(journal[:length])) == len(cuts):
            cuts.append(length)
    return cuts


def _answered(journal: list[Entry]) -> set[Label]:
    return {entry.seen.label for entry in journal if isinstance(entry.seen, Came)}
