"""Ten thousand programs on whole engines, with faults, crashes and people, and no violation.

Everything is as in production but for the threads: handlers written with the SDK, the stepper, both
machines, the engine with its recovery, the store in memory with faults in front of it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

from nbdurable.core.commands import AnyCommand
from nbdurable.core.facts import (
    AnyFact,
    EntryAppended,
    InvocationRestored,
    MismatchAccepted,
    NotificationAppended,
    StateRestored,
)
from nbdurable.testing import programs
from nbdurable.testing.programs import Cast
from nbdurable.testing.simulation import Report, Simulation, Violation, simulate

PROGRAMS = 10_000
SHARDS = 4
# Far above what any of them takes: a rule this seldom needed is one that nobody would miss.
MUTATION_SEEDS_MAX = 400
SEEDS = Path(__file__).parent / "seeds.txt"

# What simulations do not bring about, or seldom, and why.
UNREACHED_FACTS = {
    "InvocationRestored": "read at recovery, never appended",
    "LinkOpened": "the one process on the stage has its engine beside it",
    InvocationRestored.__name__: "read at recovery, never appended",
    StateRestored.__name__: "read at recovery, never appended",
    MismatchAccepted.__name__: "the code on the stage never changes, but for restarts",
}
UNREACHED_COMMANDS = {
    "Command: ClearAllState": "programs clear one value at a time",
    "Command: Output": "it is the fact that completes",
}


@pytest.fixture(scope="module")
def cast() -> Cast:
    return Cast()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Failed commits are the point here, and nobody need read of each."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


# -- without a violation -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_ten_thousand_programs_violate_nothing(cast: Cast, shard: int):
    """Seeds of one shard are its own; a failure names the seed and how to see it again."""
    total, seed, begun_s = Report(), shard * 1_000_000, time.process_time()
    while total.program_count < PROGRAMS / SHARDS:
        total.add(simulate(seed, cast=cast))
        seed += 1
    print(f"\n{total.summary(time.process_time() - begun_s)}")


@pytest.mark.parametrize(
    ("seed", "steps"),
    [
        pytest.param(int(seed), int(steps), id=f"{seed}-{what}")
        for line in SEEDS.read_text().splitlines()
        if not line.startswith("#")
        for seed, steps, what in [line.split(maxsplit=2)]
    ],
)
def test_what_was_found_once_is_not_found_again(cast: Cast, seed: int, steps: int):
    simulate(seed, steps, cast)


def test_simulations_meet_every_kind_of_fact_and_command(cast: Cast):
    """A rule that no simulation ever needs is not tested by ten thousand of them."""
    total = Report()
    for seed in range(100):
        total.add(simulate(seed, cast=cast))
    facts = {fact.__name__ for fact in typing.get_args(AnyFact)}
    facts -= {EntryAppended.__name__, NotificationAppended.__name__}
    classes = typing.get_args(AnyCommand)
    commands = {f"Command: {known.__name__.removesuffix('Command')}" for known in classes}
    assert facts - set(total.kinds) - set(UNREACHED_FACTS) == set()
    assert commands - set(total.kinds) - set(UNREACHED_COMMANDS) == set()
    assert min(total.crash_count, total.fault_count, total.intervention_count) > 50


# -- the same seed -----------------------------------------------------------------------------


def journal_of(seed: int) -> list[typing.Any]:
    simulation = Simulation(seed, 8, Cast())
    simulation.run()
    return simulation._watcher._rows


def test_the_same_seed_is_the_same_simulation():
    """Down to the last byte of every fact, or a seed would be worth nothing."""
    assert journal_of(7) == journal_of(7)
    assert journal_of(7) != journal_of(8)


def test_the_same_seed_is_the_same_simulation_in_another_process():
    """Where sets and dictionaries of strings have other orders."""
    code = (
        "import logging; logging.disable(logging.ERROR);"
        "from test_simulation import journal_of; print(hash(1), repr(journal_of(7)))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert said[0]


def test_a_violation_names_the_seed_and_the_command_that_shows_it_again(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(programs.Stage, "token", lambda stage: id(object()))
    MUTATIONS["the engine acts before it commits"](monkeypatch)
    with pytest.raises(Violation, match=r"python -m nbdurable.testing 0 --steps 8"):
        simulate(0, cast=cast)


def test_the_command_line_runs_a_seed_and_says_what_it_went_through():
    done = subprocess.run(
        [sys.executable, "-m", "nbdurable.testing", "7", "--steps", "4"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "seeds 7 to 7, 4 steps each" in done.stdout
    assert "without a violation" in done.stdout
    assert done.stderr == ""


# -- with rules made wrong ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_rule_made_wrong_is_noticed(cast: Cast, monkeypatch: pytest.MonkeyPatch, name: str):
    """Each of these is made wrong alone, and found within some hundred seeds.

    Of the rules and of `evolve`:

    - a suspension ignores what came meanwhile
    - the inbox is last in, first out
    - an attempt that is over goes on writing
    - a step is recorded as often as it ends
    - an awakeable is completed as often as somebody likes
    - a caller is not told how its call ended
    - an object's lock is not asked for
    - sleepers are forgotten by a restart
    - a value that is set does not reach the object
    - a new epoch leaves the attempts of the last one running
    - a killed invocation leaves those it called alive
    - a failed attempt is never tried again
    - a result is copied from another fact
    - sleeping takes half as long
    - a slot that is free is given to nobody
    - limits are not looked at
    - a call that would wait for its own caller is let wait
    - the cleaner takes what has not expired
    - an edit of a key does not wait for its lock
    - an edit of a key waits behind those who came after it

    Of the engine, the middle two being bugs that it had:

    - the engine acts before it commits
    - what is published is looked up, though it may be purged by now
    - code is loaded over a link that is closed
    """
    mutate: Mutation = MUTATIONS[name]
    mutate(monkeypatch)
    for seed in range(MUTATION_SEEDS_MAX):
        try:
            simulate(seed, cast=cast)
        except Violation as violation:
            print(f"\n{name}: {str(violation).splitlines()[0]}")
            return
    pytest.fail(f"{MUTATION_SEEDS_MAX} simulations have not noticed that {name}")


def test_the_docstring_lists_every_mutation():
    listed = test_a_rule_made_wrong_is_noticed.__doc__ or ""
    assert {line.strip("- ") for line in listed.splitlines() if line.strip().startswith("- ")} == (
        set(MUTATIONS)
    )
