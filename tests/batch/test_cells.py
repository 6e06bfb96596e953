"""Which cells run again, without a kernel: the plan is a pure function."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import pytest

from nbdurable.batch.cells import (
    CellNotFoundError,
    CellRecord,
    Plan,
    RecordSerde,
    Span,
    StepKey,
    adopted,
    cells_of,
    plan_of,
    position_of,
)

SERDE = RecordSerde()


class FakeStep(NamedTuple):
    key: str
    payload: bytes | None


def code(source, *tags):
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}}


def markdown(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def cells(*sources):
    notebook = [code(source) if isinstance(source, str) else source for source in sources]
    return cells_of(notebook, "python3")


def ran(cell, attempt=1, *, checkpoint="cp", again=False, **record):
    """The step of a finished execution."""
    fields = {
        "index": cell.index,
        "digest": cell.digest,
        "attempt": attempt,
        "outputs": [],
        "execution_count": 1,
        "started_at_ms": 0,
        "ended_at_ms": 1,
        "checkpoint": checkpoint and f"{checkpoint}-{cell.position}",
        **record,
    }
    key = StepKey(cell.position, cell.digest, attempt, again)
    return FakeStep(str(key), SERDE.serialize(CellRecord(**fields)))


def begun(cell, attempt=1):
    """The step of an execution that did not end."""
    return FakeStep(str(StepKey(cell.position, cell.digest, attempt)), None)


def shape(plan: Plan):
    return [kept.cell.position for kept in plan.kept], [cell.position for cell in plan.left]


def test_a_new_run_keeps_nothing():
    """There is no record, so everything runs."""
    assert shape(plan_of(cells("a", "b"), [])) == ([], [0, 1])


def test_an_unchanged_prefix_is_kept_and_the_last_checkpoint_is_what_it_begins_with():
    """One restore, however many cells were finished."""
    a, b, c = cells("a", "b", "c")
    plan = plan_of((a, b, c), [ran(a), ran(b), begun(c)])
    assert (shape(plan), plan.checkpoint) == (([0, 1], [2]), "cp-1")


def test_an_edit_runs_that_cell_and_all_after_it():
    """What a later cell computed may depend on it."""
    old = cells("a", "b", "c")
    plan = plan_of(cells("a", "B", "c"), [ran(cell) for cell in old])
    assert (shape(plan), plan.notes) == (([0], [1, 2]), ("cell 2 was edited",))


def test_prose_between_cells_is_no_edit():
    """Markdown and cells that nothing runs are no part of the chain."""
    steps = [ran(cell) for cell in cells("a", "b")]
    notebook = [markdown("# new"), code("a"), code("x", "skip-execution"), code(" \n"), code("b")]
    assert shape(plan_of(cells_of(notebook, "python3"), steps)) == ([0, 1], [])


def test_another_kernel_is_another_notebook():
    """Outputs and variables of one kernel are not those of another."""
    steps = [ran(cell) for cell in cells("a")]
    assert shape(plan_of(cells_of([code("a")], "julia"), steps)) == ([], [0])


def test_tagging_a_finished_cell_setup_is_no_edit():
    """The sentence of a tombstone tells people to do just that."""
    steps = [ran(cell) for cell in cells("a", "b", "c")[:2]]
    plan = plan_of(cells("a", code("b", "setup"), "c"), steps)
    assert (shape(plan), [cell.position for cell in plan.again]) == (([0, 1], [2]), [1])


def test_allowing_a_cell_to_raise_is_an_edit():
    """With the tag, the cell that failed is one that finished."""
    steps = [ran(cell) for cell in cells("a", "b")]
    assert shape(plan_of(cells("a", code("b", "raises-exception")), steps)) == ([0], [1])


def test_taking_an_edit_back_does_not_bring_back_what_it_made_invalid():
    """The edited version may have written over what the first one wrote."""
    old, new = cells("a", "b", "c"), cells("a", "B", "c")
    steps = [*(ran(cell) for cell in old), begun(new[1], 2)]
    assert shape(plan_of(old, steps)) == ([0], [1, 2])


def test_a_setup_cell_that_ran_again_invalidates_nothing():
    """Everything after it was restored, and is still what it was."""
    a, b, c = cells(code("a", "setup"), "b", "c")
    steps = [ran(a), ran(b), ran(a, 2, again=True, checkpoint=None), begun(c, 2)]
    plan = plan_of((a, b, c), steps)
    assert (shape(plan), plan.checkpoint) == (([0, 1], [2]), "cp-1")


def test_without_a_checkpoint_the_run_begins_after_the_last_one():
    """A result is not lost, but variables that were never saved can only be computed again."""
    a, b, c, d = cells("a", "b", "c", "d")
    steps = [ran(a), ran(b, checkpoint=None, no_checkpoint="disk full"), begun(c)]
    plan = plan_of((a, b, c, d), steps)
    assert shape(plan) == ([0], [1, 2, 3])
    assert plan.notes == ("finished, but run again: cell 2 (disk full)",)


def test_setup_cells_need_no_checkpoint_before_them():
    """They run again anyway."""
    a, b = cells(code("a", "setup"), "b")
    plan = plan_of((a, b), [ran(a, checkpoint=None), begun(b)])
    assert (shape(plan), plan.checkpoint) == (([0], [1]), None)


def test_a_setup_cell_runs_again_over_what_it_saw_first():
    """It may use the parameters; the setup cell after it needs no second restore."""
    notebook = cells("p = 1", code("use(p)", "setup"), code("more()", "setup"), "b", "c")
    plan = plan_of(notebook, [ran(cell) for cell in notebook[:4]])
    assert [plan.checkpoint_before(cell) for cell in plan.again] == ["cp-0", None]


def test_an_unusable_checkpoint_is_planned_around():
    """The next one before it is tried."""
    a, b, c = cells("a", "b", "c")
    plan = plan_of((a, b, c), [ran(a), ran(b)], {"cp-1"})
    assert (shape(plan), plan.checkpoint) == (([0], [1, 2]), "cp-0")


def test_when_all_is_finished_nothing_runs_and_nothing_is_restored():
    """Papermill was killed between the last cell and its own end."""
    a, b = cells("a", code("b", "setup"))
    plan = plan_of((a, b), [ran(a), ran(b, checkpoint=None)])
    assert (shape(plan), plan.checkpoint, plan.again) == (([0, 1], []), None, ())


def test_a_cell_that_ended_the_notebook_ends_the_plan():
    """`sys.exit()` was meant."""
    a, b = cells("a", "b")
    assert shape(plan_of((a, b), [ran(a, stopped=True)])) == ([0], [])


def test_saving_that_killed_a_kernel_twice_is_not_tried_again():
    """Else the notebook, which is in order, could never end; once may have been anybody."""
    a, b, c, _ = notebook = cells("a", "b", "c", "d")
    died = {"checkpoint": None, "no_checkpoint": "died", "died_saving": True}
    steps = [ran(a), ran(b, **died), begun(c)]
    plan = plan_of(notebook, steps)
    assert (shape(plan), plan.checkpointed) == (([0], [1, 2, 3]), 3)
    plan = plan_of(notebook, [*steps, ran(b, 2, **died), begun(c, 2)])
    assert (shape(plan), plan.checkpointed) == (([0], [1, 2, 3]), 1)


def test_a_record_of_a_later_version_is_read():
    """Fields that are unknown here are left out."""
    (cell,) = cells("a")
    written = json.loads(ran(cell).payload)
    record = SERDE.deserialize(json.dumps({**written, "colour": "blue"}).encode())
    assert record == SERDE.deserialize(ran(cell).payload)


def test_outputs_that_are_no_strict_json_come_back():
    """A chart may hold NaN, and a kernel may send it."""
    (cell,) = cells("a")
    output = {"output_type": "display_data", "data": {"application/json": [math.nan]}}
    record = SERDE.deserialize(ran(cell, outputs=[output]).payload)
    assert math.isnan(record.outputs[0]["data"]["application/json"][0])


def test_a_span_runs_from_its_first_cell_and_not_past_its_last():
    """Whatever has finished; what lies before is kept as ever."""
    notebook = cells("a", "b", "c", "d")
    steps = [ran(cell) for cell in notebook]
    plan = plan_of(notebook, steps, span=Span(first=2))
    assert (shape(plan), plan.checkpoint) == (([0, 1], [2, 3]), "cp-1")
    assert plan.notes == ("cell 3 and what follows it is to run again",)
    assert shape(plan_of(notebook, steps, span=Span(first=1, last=2))) == ([0], [1, 2])
    assert shape(plan_of(notebook, steps[:1], span=Span(last=2))) == ([0], [1, 2])
    assert shape(plan_of(notebook, steps[:3], span=Span(last=1))) == ([0, 1, 2], [])


def test_a_cell_is_named_by_its_number_id_or_tag():
    """A number counts prose too, as the output notebook shows it."""
    notebook = [
        markdown("# prose"),
        {**code("a", "load"), "id": "3f2a"},
        code("b", "twice"),
        code("c", "twice"),
    ]
    found = cells_of(notebook, "python3")
    assert [position_of(name, notebook, found) for name in ("2", "load", "3f2a", "4")] == [
        0,
        0,
        0,
        2,
    ]
    for name, why in (
        ("1", "cell 1 is not code that runs"),
        ("5", "no cell has the number, id or tag '5'; the notebook has cells 1 to 4"),
        ("twice", "2 cells have"),
    ):
        with pytest.raises(CellNotFoundError, match=why):
            position_of(name, notebook, found)


def test_what_another_run_recorded_comes_before_what_this_one_does():
    """Else a step of this run could be taken for one of that."""
    a, b = cells("a", "b")
    (known,) = adopted([ran(a, 3)])
    assert StepKey.parse(known.key) == (0, a.digest, 0, False)
    assert shape(plan_of((a, b), [known])) == ([0], [1])
