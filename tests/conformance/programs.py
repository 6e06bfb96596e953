"""Random programs for the interpreters, and what their counters must come to."""

from __future__ import annotations

import random
from collections import Counter

from conformance.driver import Runtime
from conformance.services.interpreter import LAYERS, Command, Kind, Program

LENGTH_MAX = 10
KEY_COUNT = 3
SLEEP_MS_MAX = 10
Expected = Counter[tuple[int, str]]
"""Of each counter, by layer and key."""

INCREMENTS = (
    Kind.INCREMENT,
    Kind.INCREMENT_INDIRECTLY,
    Kind.INCREMENT_DELAYED,
    Kind.INCREMENT_VIA_AWAKEABLE_DANCE,
)


def generated(chance: random.Random, level: int = 0) -> Program:
    kinds = [kind for kind in Kind if kind is not Kind.CALL_NEXT_LAYER or level + 1 < LAYERS]
    program: Program = []
    for index in range(chance.randint(1, LENGTH_MAX)):
        command = Command(
            kind=chance.choice(kinds),
            key=chance.randrange(KEY_COUNT),
            sleep=chance.randint(0, SLEEP_MS_MAX),
            index=chance.randrange(index + 1),
        )
        if command["kind"] == Kind.CALL_NEXT_LAYER:
            command["program"] = generated(chance, level + 1)
        program.append(command)
    return program


def counts_of(program: Program, key: str, level: int = 0) -> Expected:
    counts = Expected({(level, key): sum(c["kind"] in INCREMENTS for c in program)})
    for command in program:
        if command["kind"] == Kind.CALL_NEXT_LAYER:
            counts += counts_of(command["program"], str(command["key"]), level + 1)
    return counts


async def counters(runtime: Runtime) -> Expected:
    """What they have come to; those that are 0 are left out."""
    found = Expected()
    for level in range(LAYERS):
        for key in map(str, range(KEY_COUNT)):
            found[level, key] = await runtime.call(f"ObjectInterpreterL{level}/{key}/counter")
    return +found
