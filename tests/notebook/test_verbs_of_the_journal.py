"""`%durable restore | state | export | attach | watch | doctor`, and answers that are JSON."""

import pytest

from nbdurable.client.answers import typed_value
from nbdurable.errors import AnswerError

COUNTER = """%%durable_object Counter
async def add(ctx, amount):
    total = (await ctx.get("total") or 0) + amount
    ctx.set("total", total)
    return total
"""
ASKING = """%%durable_workflow Asking --retries 3 --timeout 10m
def shown(value):
    return template.format(value)

async def run(ctx, request):
    return shown(await ctx.promise("go"))
"""


def waits(shell) -> None:
    shell.run('template = "got {}"')
    shell.run(ASKING)
    shell.run('h = Asking["a"].run(None)')
    shell.run("import time\nwhile 'GetPromise' not in str(h.journal): time.sleep(0.01)")


def as_in_a_fresh_kernel(shell) -> None:
    """Nothing of the earlier cells is left, but their journal."""
    shell.run("%unload_ext nbdurable")
    shell.run("%reset -f")
    shell.run("%load_ext nbdurable")


@pytest.mark.parametrize(
    "typed",
    [
        '{"n": [1, 2]}',
        "'{\"n\": [1, 2]}'",
        '{ "n" : [1,2] }',
    ],
)
def test_an_answer_is_taken_as_it_stands(shell, typed):
    """Nobody knows how JSON is quoted for a shell that is none."""
    waits(shell)
    shown = shell.run(f"%durable approve a go {typed}")
    assert repr(shown) == "answered 'go' of Asking/a"
    assert shell.run("await h") == "got {'n': [1, 2]}"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ('approve a go {"say": "--comment none"} --comment "it\'s cheap"', "answered"),
        ('approve --comment "it\'s cheap" a go', "approved"),
        ('approve a --comment="it\'s cheap" go true', "approved"),
        ('reject a go "too dear" --comment "it\'s cheap"', "rejected"),
        ('reject a --comment "it\'s cheap"', "rejected"),
    ],
)
def test_a_comment_is_kept_beside_the_answer(shell, line, answer):
    """As what is typed beside the buttons is; the code that waits never sees it."""
    waits(shell)
    assert repr(shell.run(f"%durable {line}")).startswith(f"{answer} 'go' of Asking/a")
    shell.run("await h")
    assert "“it's cheap”" in repr(shell.run("%durable show a").journal)
    assert "cheap" not in str(shell.run("%durable show a").journal.df()["value"].tolist())


def test_what_is_no_json_says_how_a_text_is_written():
    with pytest.raises(AnswerError, match="did you mean '\"yes please\"'"):
        typed_value("yes please")


def test_restore_runs_the_recorded_cell_and_its_run_goes_on(shell):
    """In a fresh kernel the notebook itself may be elsewhere."""
    waits(shell)
    as_in_a_fresh_kernel(shell)
    shell.run('template = "again {}"')
    told = repr(shell.run("%durable restore"))
    assert told == "Asking: unchanged (revision 1); 1 run goes on"
    shell.run("%durable approve a go 1")
    assert shell.run("%durable attach a") == "again 1"
    assert repr(shell.run("%durable restore")) == "the code of every unfinished run is loaded"


def test_restore_names_what_the_cell_needs_and_has_not(shell):
    waits(shell)
    as_in_a_fresh_kernel(shell)
    told = repr(shell.run("%durable restore Asking"))
    assert told.endswith("; it misses template: run the cells that define them")


def test_restore_says_what_it_cannot_run(shell):
    waits(shell)
    shell.run("del template")
    assert "no service is called 'Askin'; did you mean 'Asking'?" in shell.refused(
        "%durable restore Askin"
    )


def test_state_is_shown_and_put(shell):
    shell.run(COUNTER)
    shell.run('await Counter["ada"].add(5)')
    assert shell.run("%durable state Counter/ada") == {"total": 5}
    assert shell.run("%durable state Counter/ada total") == 5
    assert repr(shell.run("%durable state Counter/ada total 40")) == "Counter/ada holds total"
    assert shell.run('await Counter["ada"].add(2)') == 42


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("state", "write: %durable state SERVICE/KEY"),
        ("state Counter", "write: %durable state SERVICE/KEY"),
        ("state Conter/ada", "did you mean 'Counter'?"),
        ("state Counter/ada totl", "did you mean 'total'?"),
        ("state Counter/ada total {", "is no JSON"),
        ("export", "write: %durable export FOLDER"),
        ("export out nobody", "nobody"),
        ("attach", "write: %durable attach ID"),
        ("watch nobody", "no run is called 'nobody'"),
        ("doctor all", "doctor takes nothing"),
        ("restor", "did you mean 'restore'?"),
    ],
)
def test_what_is_mistyped_gets_one_line(shell, line, said):
    shell.run(COUNTER)
    shell.run('await Counter["ada"].add(5)')
    assert said in shell.refused(f"%durable {line}")


def test_export_writes_parquet_of_one_run(shell, tmp_path):
    shell.run(COUNTER)
    shell.run('h = Counter["ada"].add(5)\nawait h')
    told = repr(shell.run("%durable export out Counter/ada --no-payloads"))
    assert told.startswith("wrote out: rows of sys_invocation 1")
    assert (tmp_path / "out" / "sys_journal.parquet").exists()


def test_a_journal_is_a_data_frame_too(shell):
    """Durations and failures of many runs are compared with what everybody knows."""
    waits(shell)
    frame = shell.run("h.journal.df()")
    assert list(frame["kind"]) == ["Input", "GetPromise"]
    assert list(frame["status"]) == ["done", "waiting"]
    assert frame["took"].isna().tolist() == [False, True]
    assert str(frame["started_at"].dtype).endswith("UTC]")
    assert frame.index.name == "index"


def test_watch_shows_a_run_until_it_is_over(shell):
    waits(shell)
    shell.run("%durable approve a go 1")
    assert shell.run("%durable watch a") is None
    assert shell.error is None


@pytest.mark.slow
def test_doctor_finds_this_kernel_well(shell, monkeypatch):
    # As in a kernel, which asks its programs for colours.
    monkeypatch.setenv("FORCE_COLOR", "1")
    shell.run(COUNTER)
    shell.run('await Counter["ada"].add(5)')
    told = repr(shell.run("%durable doctor"))
    assert "only its owner can read it" in told
    assert "✓ runs      1, of which 0 are not over" in told
    assert "\x1b" not in told
