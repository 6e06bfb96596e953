"""`%%durable_step`: a cell whose result outlives its kernel, and is not computed twice."""

import pytest

FIT = """%%durable_step fit --out model,score
ran.append(1)
print("fitting")
model, score = {"weights": [1, 2]}, 0.5
score"""


@pytest.fixture
def ran(shell):
    """How often cells have really run: a list that lives in the namespace."""
    shell.run("ran = []")
    return lambda: len(shell.run("ran"))


def in_a_fresh_kernel(shell) -> None:
    shell.run("kept = ran")
    shell.run("%unload_ext nbdurable")
    shell.run("del model, score")
    shell.run("%load_ext nbdurable")


def test_a_recorded_cell_is_restored_and_not_run(shell, ran):
    shell.run(FIT)
    assert "fit: ran in" in shell.out
    assert "recorded model, score" in shell.out
    in_a_fresh_kernel(shell)
    shell.run(FIT)
    assert "fit: restored model, score" in shell.out
    # What it has put out is there again, as on any other day.
    assert "fitting" in shell.out
    assert shell.run("model, score") == ({"weights": [1, 2]}, 0.5)
    assert ran() == 1


def test_restored_values_are_what_was_recorded_whatever_was_done_to_them(shell, ran):
    shell.run(FIT)
    shell.run("model.clear()")
    shell.run(FIT)
    assert shell.run("model") == {"weights": [1, 2]}
    assert ran() == 1


@pytest.mark.parametrize(
    "changed",
    [
        FIT.replace("0.5", "0.6"),
        FIT.replace("--out", "--key 2026-11-26 --out"),
        FIT.replace("--out", "--fresh --out"),
        FIT.replace("fit --out", "refit --out"),
    ],
)
def test_an_edited_cell_another_key_and_fresh_run_it_again(shell, ran, changed):
    shell.run(FIT)
    shell.run(changed)
    assert "restored" not in shell.out
    assert ran() == 2
    shell.run(changed.replace("--fresh ", ""))
    assert "restored" in shell.out
    assert ran() == 2


def test_a_cell_that_fails_is_not_recorded_and_shows_its_own_line(shell, ran):
    failing = "%%durable_step load --out rows\nran.append(1)\nrows = 1 / zero"
    shell.run("zero = 0")
    shell.run(failing)
    assert "ZeroDivisionError" in shell.out
    assert "----> 3 rows = 1 / zero" in shell.out
    assert "nbdurable/notebook" not in shell.out
    shell.run("zero = 2")
    shell.run(failing)
    assert shell.run("rows") == 0.5
    assert ran() == 2


def test_a_record_without_what_is_asked_for_now_is_none(shell, ran):
    """`--out` is no part of the cell's text."""
    shell.run(FIT.replace("model,score", "model"))
    shell.run(FIT)
    assert "recorded model, score" in shell.out
    assert ran() == 2
    shell.run("score = 9")
    shell.run(FIT.replace("model,score", "model"))
    assert "restored model of" in shell.out
    assert shell.run("score") == 9


def test_a_record_that_cannot_be_read_any_more_is_said(shell, ran, tmp_path, monkeypatch):
    """What it was made of is gone; that the cell runs again is no secret."""
    module = tmp_path / "made_of.py"
    module.write_text("class First: pass\nmake = First")
    monkeypatch.syspath_prepend(tmp_path)
    cell = "%%durable_step make --out thing\nran.append(1)\nimport made_of as by\nthing = by.make()"
    shell.run(cell)
    assert "recorded thing" in shell.out
    module.write_text("class TheNextOne: pass\nmake = TheNextOne")
    shell.run("import importlib; importlib.reload(by); del by.First")
    shell.run(cell)
    assert "make: ran again, for its record cannot be read" in shell.out
    assert "recorded thing" in shell.out
    assert ran() == 2
    shell.run(cell)
    assert "restored thing" in shell.out


def test_what_cannot_be_pickled_stays_and_is_said(shell, ran):
    cell = (
        "%%durable_step open --out lock\nimport threading\nran.append(1)\nlock = threading.Lock()"
    )
    shell.run(cell)
    assert "is not recorded" in shell.out
    assert shell.run("lock.locked()") is False
    shell.run(cell)
    assert ran() == 2


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%durable_step fit --out a\nb = 1", "has not set a"),
        ("%%durable_step fit --out a-b\nb = 1", "'a-b' is none"),
        ("%%durable_step --out a\na = 1", "is followed by a name"),
        ("%%durable_step fit --ouch a\na = 1", "has no option '--ouch'"),
        ("%%durable_step fit\nimport asyncio\nawait asyncio.sleep(0)", "cannot await"),
    ],
)
def test_what_is_mistyped_gets_one_line(shell, cell, said):
    assert said in shell.refused(cell)


def test_a_record_is_a_run_like_any_other(shell, ran):
    shell.run(FIT)
    assert "NotebookStep/fit/" in repr(shell.run("%durable ls"))
