"""kill -9 of a notebook's kernel, of papermill, and of both, at any moment.

`python tests/batch/kill_everywhere.py` does it in every cell and at every boundary.
"""

from __future__ import annotations

import random

import pytest
from support.killed import CELL_COUNT, SETUP_CELL, VICTIMS, Kill, KilledNotebook

# Four seeds, and each kills a kernel, papermill and both: twelve moments.
SEEDS = (1, 2, 3, 4)
# In this time variables are saved, the record is committed, and the next cell begins.
DELAY_MS_MAX = 25.0


def kills_of(seed: int) -> list[Kill]:
    """Three, in this order; far enough apart for each to be reached."""
    chance = random.Random(seed)
    cells = [chance.randint(first, first + 3) for first in (3, 9, 15)]
    return [
        Kill(victim, cell, chance.choice(["in", "after"]), chance.uniform(0, DELAY_MS_MAX))
        for victim, cell in zip(chance.sample(VICTIMS, k=3), cells, strict=True)
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> KilledNotebook:
    """By plain papermill, which knows nothing of us."""
    notebook = KilledNotebook(tmp_path_factory.mktemp("undisturbed"))
    assert notebook.run(engine="nbclient") == 0, notebook.log()
    return notebook


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_notebook_killed_three_times_is_as_if_nothing_had_happened(seed, tmp_path, undisturbed):
    """The promise: the same outputs and variables, and no finished cell ran twice."""
    notebook = KilledNotebook(tmp_path)
    seen: dict[int, int] = {}
    for kill in kills_of(seed):
        print(kill)
        assert notebook.run(kill) != 0, f"not reached: {kill}"
        ran = notebook.executions()
        assert seen == {cell: ran[cell] for cell in seen}, f"ran again before: {kill}"
        seen = {cell: ran[cell] for cell in notebook.finished() - {SETUP_CELL}}
    assert notebook.run() == 0, notebook.log()
    ran = notebook.executions()
    assert seen == {cell: ran[cell] for cell in seen}
    assert sorted(ran) == list(range(1, CELL_COUNT + 1))
    assert notebook.shown() == undisturbed.shown()
