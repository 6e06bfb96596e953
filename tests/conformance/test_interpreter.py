"""The fuzzer of the suite: programs over three layers of objects, on engines that come and go."""

from __future__ import annotations

import asyncio
import random

import pytest

from conformance.conftest import Started
from conformance.driver import eventually
from conformance.programs import KEY_COUNT, Expected, counters, counts_of, generated

PROGRAM_COUNT = 12
RESTARTS = 3


@pytest.mark.parametrize("seed", range(3))
async def test_every_increment_counts_once(started: Started, seed: int):
    """Through calls, sends, delays, awakeables and steps that fail: not lost, not doubled."""
    chance, expected = random.Random(seed), Expected()
    for _ in range(RESTARTS):
        # Closed with programs in the middle of everything; the next engine goes on with them.
        async with started() as runtime:
            for _ in range(PROGRAM_COUNT // RESTARTS):
                key, program = str(chance.randrange(KEY_COUNT)), generated(chance)
                expected += counts_of(program, key)
                await runtime.send(f"ObjectInterpreterL0/{key}/interpret", program)
            await asyncio.sleep(0)
    async with started() as runtime:
        await eventually(runtime.unfinished, [])
        assert await counters(runtime) == +expected
