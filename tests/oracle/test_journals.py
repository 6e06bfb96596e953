"""Every generated program writes the same journal in the official SDK and here, and sees the same.

What a handler saw is its output, so equal journals mean equal behaviour. Answers come in any order,
and cancellations between them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import restate
from hypothesis import event, given, note
from hypothesis import strategies as st

import nbdurable
from oracle.embedded import Embedded
from oracle.journals import settle
from oracle.official import Official
from oracle.programs import SIGNALS, Program, programs
from oracle.world import answers_for, continued, play, play_live, prefixes, sides

seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("protocol", [6, 7])
@given(data=st.data(), seed=seeds, cancels=st.booleans())
def test_the_same_program_writes_the_same_journal(
    protocol: int, data: st.DataObject, seed: int, *, cancels: bool
):
    """Each answer begins another attempt: what comes before it is replayed every time."""
    program = data.draw(programs(without=SIGNALS if protocol < 7 else ()))
    note(str(program))
    journals = asyncio.run(
        play(sides(program, protocol=protocol), answers_for(program, seed, cancels=cancels))
    )
    event(f"{min(len(journals.ours) // 4 * 4, 16)} entries or more")


@given(program=programs(), seed=seeds, cancels=st.booleans())
def test_every_prefix_of_a_journal_is_replayed_alike(program: Program, seed: int, *, cancels: bool):
    """A crash may leave any prefix; both must go on from it with the same next entries."""
    note(str(program))

    async def go() -> None:
        pair = sides(program)
        for prefix in prefixes(await play(pair, answers_for(program, seed, cancels=cancels))):
            await continued(pair, prefix)

    asyncio.run(go())


@given(program=programs(), seed=seeds, cancels=st.booleans())
def test_what_comes_while_the_handler_lives_is_seen_alike_and_replayed_alike(
    program: Program, seed: int, *, cancels: bool
):
    """Several answers may come at once; a future never looks completed before its turn."""
    note(str(program))

    async def go() -> None:
        pair = sides(program)
        for prefix in prefixes(await play_live(pair, answers_for(program, seed, cancels=cancels))):
            await continued(pair, prefix)

    asyncio.run(go())


@pytest.mark.parametrize("sdk", [restate, nbdurable], ids=["theirs", "ours"])
async def test_the_step_of_time_has_the_same_name(sdk: Any):
    """`ctx.time()` is a step, so its name is compared on replay and seen by people."""
    flow = sdk.Workflow("Flow")

    @flow.main()
    async def run(ctx):
        return await ctx.time()

    side = Official(restate.app([flow]), "Flow", "run") if sdk is restate else Embedded(flow, "run")
    entries, _ = await settle(side, [])
    assert (entries[0].seen.kind, entries[0].seen.name) == ("Run", "timestamp")
