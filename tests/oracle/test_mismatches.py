"""After an edit of the program, both SDKs refuse its journal or neither does.

`test_differences.py` has the edits about which they do not agree: awakeables, signals, and the
names of state entries. They stay out of what is generated here.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st

from oracle.journals import comparable, settle
from oracle.programs import (
    MAKE_FUTURES,
    NAMES,
    VALUES,
    WAIT,
    Op,
    Program,
    programs,
)
from oracle.world import Answers, Pair, play, prefixes, sides

MISMATCH = 570
# Waits for these are commands here and none there.
WAITS_OF_OURS = ("awakeable", "resolve awakeable", "reject awakeable", "signal")
LABELLED = ("get", "clear", "clear_all", "state_keys")
INSERTED = [
    "run",
    "sleep",
    "call",
    "promise",
    "attach",
    "set",
    "get",
    "clear",
    "clear_all",
    "peek",
    "send",
    "cancel",
    "random",
    "uuid",
]
EDITS = ("drop", "insert", "swap", "name", "value", "kind")


def edited(program: Program, edit: str, chance: random.Random) -> Program:
    ops = list(program)
    at = chance.randrange(len(ops))
    op = ops[at]
    match edit:
        case "drop":
            del ops[at]
        case "insert":
            ops.insert(at, Op(100, chance.choice(INSERTED), (), chance.choice(NAMES), None))
        case "swap":
            ops[at], ops[at - 1] = ops[at - 1], op
        case "name":
            ops[at] = replace(op, name="b" if op.name == "a" else "a")
        case "value" if op.kind not in LABELLED:
            ops[at] = replace(op, value=chance.choice(VALUES))
        case "kind":
            for group in (MAKE_FUTURES, WAIT, ("send", "send later"), ("get", "set", "clear")):
                kinds = [kind for kind in group if kind not in WAITS_OF_OURS]
                if op.kind in kinds:
                    ops[at] = replace(op, kind=chance.choice(kinds))
    # What was cleared and then listed differs, see `programs`.
    cleared = [number for number, op in enumerate(ops) if op.kind == "clear"]
    return tuple(
        op
        for number, op in enumerate(ops)
        if op.kind != "state_keys" or not any(before < number for before in cleared)
    )


async def verdicts(program: Program, journals: Pair) -> tuple[Any, Any]:
    """What each side makes of its journal, written by another program: 570, or how it goes on."""
    said = []
    for side, journal in zip(sides(program), journals, strict=True):
        entries, ending = await settle(side, journal)
        if ending.failure is not None and ending.failure.code == MISMATCH:
            said.append(MISMATCH)
        else:
            said.append((comparable(journal + entries), ending))
    return said[0], said[1]


@given(programs(without=WAITS_OF_OURS), st.integers(0, 2**32), st.sampled_from(EDITS))
def test_an_edit_is_a_mismatch_for_both_or_for_neither(program: Program, seed: int, edit: str):
    """And when it is none, both go on alike: the edit lies past the recorded end."""
    chance = random.Random(seed)

    async def go() -> None:
        cut = chance.choice(prefixes(await play(sides(program), Answers(seed, cancels=False))))
        other = edited(program, edit, chance)
        note(f"{program}\n{other}\n{comparable(cut.ours)}")
        ours, theirs = await verdicts(other, cut)
        event(f"{edit}: {'mismatch' if theirs == MISMATCH else 'none'}")
        assert ours == theirs

    asyncio.run(go())


A = Op(0, "run", value=1)
CHANGES: dict[str, tuple[Op, Op, bool]] = {
    "the name of a step": (A, replace(A, name="b"), True),
    "what a step does": (A, replace(A, value=2), False),
    "the name of a timer": (replace(A, kind="sleep"), replace(A, kind="sleep", name="b"), True),
    "the argument of a call": (replace(A, kind="call"), replace(A, kind="call", value=2), True),
    "the headers of a call": (replace(A, kind="call"), replace(A, kind="call", name="b"), True),
    "the key and idempotency key of a call": (
        replace(A, kind="call object"),
        replace(A, kind="call object", name="b"),
        True,
    ),
    "the argument of a send": (replace(A, kind="send"), replace(A, kind="send", value=2), True),
    "the delay of a send": (replace(A, kind="send"), replace(A, kind="send later"), False),
    "a call for a send": (replace(A, kind="call object"), replace(A, kind="send"), True),
    "the key of a state": (replace(A, kind="get"), replace(A, kind="get", name="b"), True),
    "a state's value": (replace(A, kind="set"), replace(A, kind="set", value=2), True),
    "the key that is cleared": (replace(A, kind="clear"), replace(A, kind="clear", name="b"), True),
    "a promise's name": (replace(A, kind="promise"), replace(A, kind="promise", name="b"), True),
    "a promise's value": (
        replace(A, kind="resolve promise"),
        replace(A, kind="resolve promise", value=2),
        True,
    ),
    "resolve for reject": (
        replace(A, kind="resolve promise"),
        replace(A, kind="reject promise"),
        True,
    ),
    "an awakeable's answer": (
        replace(A, kind="resolve awakeable"),
        replace(A, kind="resolve awakeable", value=2),
        True,
    ),
    "another command": (A, replace(A, kind="sleep"), True),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_replay_compares(change: str):
    """Read it as the table of restate-semantics.md, 1.6: True is a mismatch, for both."""
    was, now, is_mismatch = CHANGES[change]
    recorded = []
    for side in sides((was,)):
        entries, _ = await settle(side, [])
        # The output of a program that ends at once differs for its own reasons.
        recorded.append(entries[:1])
    said = await verdicts((now,), Pair(*recorded))
    assert [verdict == MISMATCH for verdict in said] == [is_mismatch, is_mismatch]
