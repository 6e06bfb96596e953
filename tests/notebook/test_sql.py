"""SQL in cells: what a line, a cell and a call give, and how each says what is wrong."""

from __future__ import annotations

import sys

import pandas as pd
import pyarrow as pa
import pytest

from nbdurable import NbdurableError, durable

GREETER = """%%durable_service Greeter
async def greet(ctx, name):
    return f"Hello, {name}!"
"""
TARGETS = "select target, status from sys_invocation where target = 'Greeter/greet'"


@pytest.fixture
def greeted(shell):
    shell.run(GREETER)
    shell.run('await Greeter.greet("Ada")')
    return shell


@pytest.mark.parametrize("line", [TARGETS, f'"{TARGETS}"', f"  {TARGETS};  "])
def test_a_line_gives_a_data_frame(greeted, line):
    """Quoted or not: the quotation marks inside of it are SQL's."""
    frame = greeted.run(f"%durable sql {line}")
    assert frame.to_dict("records") == [{"target": "Greeter/greet", "status": "completed"}]
    assert greeted.out.strip().splitlines()[-1].split() == ["0", "Greeter/greet", "completed"]


def test_a_line_can_be_assigned(greeted):
    greeted.run(f"rows = %durable sql {TARGETS}")
    assert greeted.run("len(rows)") == 1


def test_a_cell_gives_a_data_frame_and_may_bind_it(greeted):
    frame = greeted.run(
        "%%durable sql\nselect status, count(*) as n\nfrom sys_invocation group by 1"
    )
    assert frame.to_dict("records") == [{"status": "completed", "n": 1}]
    greeted.run("%%durable sql statuses\nselect status from sys_invocation")
    assert list(greeted.run("statuses")["status"]) == ["completed"]


def test_a_call_gives_a_data_frame_or_arrow(greeted):
    greeted.run("from nbdurable import durable")
    call = "durable.sql('select target from sys_invocation where status = ?', ['completed'])"
    assert isinstance(greeted.run(call), pd.DataFrame)
    table = greeted.run(call[:-1] + ", arrow=True)")
    assert isinstance(table, pa.Table)
    assert table.to_pylist() == [{"target": "Greeter/greet"}]


def test_without_pandas_a_line_still_shows_a_table(greeted, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = greeted.run("%durable sql select range as n, null as nothing from range(70)")
    assert repr(table).splitlines()[0] == "n   nothing"
    assert repr(table).splitlines()[-1] == "… and 10 more: pip install pandas to have them all"
    assert "<td" in table._repr_html_()
    hostile = greeted.run("%durable sql select '<script>' as x")
    assert "<script>" not in hostile._repr_html_()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "write: %durable sql"),
        ("select * from nope", "There is no table 'nope'"),
        ("delete from state", "DELETE is refused"),
        ("copy state to 'x.csv'", "write files with client.export()"),
        ("selec 1", "syntax error"),
    ],
)
def test_what_is_refused_is_one_line_below_the_cell(greeted, line, said):
    assert said in greeted.refused(f"%durable sql {line}")
    assert greeted.run("%durable sql select 1 as one")["one"][0] == 1


def test_a_cell_of_another_verb_is_refused(greeted):
    assert "takes a cell of SQL only" in greeted.refused("%%durable ls\nx")
    assert "is none" in greeted.refused("%%durable sql select 1\nselect 1")


def test_what_is_cut_is_said(greeted):
    greeted.run("from nbdurable import durable")
    frame = greeted.run("%durable sql select range from range(1000001)")
    assert len(frame) == 1_000_000
    assert "these are the first 1,000,000 rows; there are more" in greeted.out
    with pytest.warns(UserWarning, match="the first 1,000,000 rows"):
        greeted.run("durable.sql('select range from range(1000001)', arrow=True)")


def test_in_a_script_it_says_what_to_write():
    with pytest.raises(NbdurableError, match=r"engine\.client\.query"):
        durable.sql("select 1")


def test_before_the_extension_is_loaded_it_says_so(bare_shell):
    bare_shell.run("from nbdurable import durable")
    bare_shell.run("durable.sql('select 1')")
    assert "%load_ext nbdurable" in bare_shell.out


def test_the_verb_is_completed_and_helped(shell):
    shell.run("%durable help")
    assert "%durable sql SELECT" in shell.out
    assert "it has: ls" in shell.refused("%durable nope")
