"""The entries of a run as they come: what changes is told once, and comes to what all says."""

from __future__ import annotations

from support.views import entry_of, view_of

from nbdurable.client.drawing import Drawing
from nbdurable.client.entry_text import TEXT_CHARS_MAX, entry_text
from nbdurable.client.folding import Lines, folded
from nbdurable.client.journal import JournalFold, journal_view
from nbdurable.client.views import EntryView
from nbdurable.core.commands import (
    AwakeableCommand,
    CallCommand,
    GetPromiseCommand,
    RunCommand,
    SetStateCommand,
)
from nbdurable.core.facts import (
    AnyFact,
    EntryAppended,
    InvocationCompleted,
    InvocationCreated,
    NotificationAppended,
    OutputWritten,
    RunAttemptFailed,
)
from nbdurable.core.ids import InvocationId
from nbdurable.core.notifications import CompletionNotification, SignalNotification
from nbdurable.core.records import Record
from nbdurable.core.values import ErrorReport, Failure, PayloadRef, Success, Target
from nbdurable.notebook.widgets.patches import NEWEST_MAX, TAIL_MAX, Patches

ONE = InvocationId("inv_1abcdefghijklmnop")
NOTHING = PayloadRef(lsn=0, bytes=0, digest="")


def appended(index: int, command: object) -> AnyFact:
    return EntryAppended(invocation_id=ONE, entry_index=index, command=command)


def completed(index: int, completion_id: int, of: str, result: object) -> AnyFact:
    done = CompletionNotification(completion_id=completion_id, of=of, result=result)
    return NotificationAppended(invocation_id=ONE, entry_index=index, notification=done)


def wrote(count: int, completion_id: int | None = None) -> AnyFact:
    return OutputWritten(
        invocation_id=ONE,
        attempt=1,
        entry_count=count,
        stream="stdout",
        value=NOTHING,
        completion_id=completion_id,
    )


DONE = Success(value=NOTHING)
# A step that prints before it is recorded, one that fails twice, an awakeable, a call, a promise
# that is rejected, a cancellation, and an end.
LIFE: list[tuple[AnyFact, bytes | None]] = [
    (
        InvocationCreated(
            invocation_id=ONE,
            target=Target(service="S", handler="run", key="k"),
            argument=NOTHING,
            status="ready",
            seed=7,
            service_type="workflow",
        ),
        b'{"order": 7}',
    ),
    (wrote(1), b"begins\n"),
    (wrote(1, completion_id=1), b"the step speaks early\n"),
    (appended(1, RunCommand(name="count", completion_id=1)), None),
    (wrote(2, completion_id=1), b"and late\n"),
    (wrote(4), b"after the state\n"),
    (completed(2, 1, "Run", DONE), b"41"),
    (appended(3, SetStateCommand(key="total", value=NOTHING)), b"41"),
    (appended(4, RunCommand(name="pay", completion_id=2)), None),
    (
        RunAttemptFailed(
            invocation_id=ONE,
            completion_id=2,
            failure_count=1,
            error=ErrorReport(code=500, message="no bank", stacktrace="Traceback: no bank"),
            first_failed_at_ms=1,
            next_retry_at_ms=9,
        ),
        None,
    ),
    (completed(5, 2, "Run", DONE), b'{"paid": true}'),
    (appended(6, AwakeableCommand(signal_id=17, name="signed")), None),
    (
        NotificationAppended(
            invocation_id=ONE,
            entry_index=7,
            notification=SignalNotification(signal_id=17, result=DONE),
        ),
        b'"Ada"',
    ),
    (
        appended(
            8,
            CallCommand(
                completion_id=3,
                invocation_id=InvocationId("inv_1child"),
                target=Target(service="T", handler="h"),
                argument=NOTHING,
            ),
        ),
        b'"for the child"',
    ),
    (completed(9, 3, "Call", DONE), b'"from the child"'),
    (appended(10, GetPromiseCommand(key="approved", completion_id=4)), None),
    (completed(11, 4, "GetPromise", Failure(code=403, message="too much")), None),
    (
        NotificationAppended(
            invocation_id=ONE,
            entry_index=12,
            notification=SignalNotification(signal_id=1, result=DONE),
        ),
        None,
    ),
    (wrote(20), b"what nothing follows\n"),
    (
        InvocationCompleted(
            invocation_id=ONE,
            result=Failure(code=403, message="too much"),
            by="output",
            attempt=1,
            revision=1,
            entry_count=13,
            entry_index=13,
        ),
        None,
    ),
]
RECORDS = [Record(n + 1, n, fact, payload) for n, (fact, payload) in enumerate(LIFE)]


def test_entries_as_they_come_are_those_of_the_whole_journal():
    """Whoever looks on is told what changes, and has after each fact what a late comer reads."""
    fold, told = JournalFold(), dict[int, EntryView]()
    for count, record in enumerate(RECORDS, start=1):
        fold.add(record)
        told.update((entry.index, entry) for entry in fold.take_changed())
        assert tuple(told[index] for index in sorted(told)) == journal_view(RECORDS[:count])


def test_what_has_not_changed_is_not_told_again():
    fold = JournalFold()
    for record in RECORDS[:8]:
        fold.add(record)
    fold.take_changed()
    fold.add(RECORDS[8])
    assert [entry.name for entry in fold.take_changed()] == ["pay"]
    assert fold.take_changed() == ()


def test_output_stands_below_what_wrote_it():
    output = {entry.index: entry.output for entry in journal_view(RECORDS) if entry.output}
    assert output == {
        0: "begins\n",
        1: "the step speaks early\nand late\n",
        3: "after the state\n",
        12: "what nothing follows\n",
    }


def test_a_call_knows_whom_it_has_called():
    assert [entry.child for entry in journal_view(RECORDS) if entry.child] == ["inv_1child"]


def test_all_that_an_entry_holds_is_read():
    assert entry_text(RECORDS, 0) == '{\n  "order": 7\n}'
    assert entry_text(RECORDS, 4) == (
        'last failure:\nTraceback: no bank\n\nresult:\n{\n  "paid": true\n}'
    )
    assert entry_text(RECORDS, 6) == '"Ada"'
    assert entry_text(RECORDS, 8) == 'argument:\n"for the child"\n\nresult:\n"from the child"'
    assert entry_text(RECORDS, 10) == "[403] too much"
    assert entry_text(RECORDS, 99) == ""


def test_what_is_too_long_to_read_is_cut_and_counted():
    long = Record(1, 0, LIFE[0][0], b'"' + b"x" * 300_000 + b'"')
    text = entry_text([long], 0)
    assert len(text) < TEXT_CHARS_MAX + 100
    assert text.endswith("…\n(300002 bytes in all; SQL has the rest)")
    assert entry_text([long._replace(payload=b"\xff\xfe")], 0) == "<2 bytes>"


def test_the_lines_of_a_map_as_it_goes_are_those_of_the_whole():
    items = [entry_of(n, name=f"fetch[{n}]", status="running", ended_at_ms=None) for n in (1, 2, 3)]
    done = [entry_of(n, name=f"fetch[{n}]", ended_at_ms=10 * n) for n in (1, 2, 3)]
    begun = [entry_of(0, name="map fetch over 3"), *items]
    lines, now = Lines(), {entry.index: entry for entry in begun}
    lines.add(begun)
    for entry in done[::-1]:
        now[entry.index] = entry
        assert lines.add([entry]) == {0, entry.index}
        assert lines.add([entry]) == {entry.index}
        shown = [lines.line(index, is_over=False) for index in lines.indices]
        assert shown == folded([now[index] for index in sorted(now)], is_over=False)
    assert [line.name for line in shown] == ["map fetch: 3 of 3"]


def test_so_are_those_of_an_item_that_is_told_to_wait_and_begun_again():
    pause = "retry after, said to fetch"
    steps = [
        entry_of(0, name="map fetch over 1"),
        entry_of(1, name="fetch[a]", status="running", ended_at_ms=None),
        entry_of(1, name="fetch[a]", status="failed"),
        entry_of(2, kind="Sleep", name=pause, status="waiting", ended_at_ms=None),
        entry_of(2, kind="Sleep", name=pause),
        entry_of(3, name="fetch[a]", status="running", ended_at_ms=None),
        entry_of(3, name="fetch[a]"),
    ]
    lines, now, shown = Lines(), {}, []
    for entry in steps:
        before = set(lines.indices)
        now[entry.index] = entry
        touched = lines.add([entry])
        assert before ^ set(lines.indices) <= touched, "a page hears of every line that goes"
        shown.append([lines.line(index, is_over=False) for index in lines.indices])
        assert shown[-1] == folded([now[index] for index in sorted(now)], is_over=False)
    assert [len(some) for some in shown] == [1, 2, 2, 3, 2, 2, 1]


class Page:
    """What the page makes of it; one that has come late has the two traits only."""

    def __init__(self) -> None:
        self.traits: dict = {}
        self.rows: dict[int, dict] = {}

    def hear(self, told: dict) -> None:
        if "rows" in told:
            self.rows |= {row["index"]: row for row in told["rows"]["rows"]}
        self.traits |= told
        assert self.traits["tail"]["seq"] == self.traits["rows"]["seq"]
        self.rows |= {row["index"]: row for row in self.traits["tail"]["rows"]}
        for index in self.traits["tail"]["gone"]:
            self.rows.pop(index, None)

    def late(self) -> dict[int, dict]:
        other = Page()
        other.hear(self.traits)
        return other.rows


def test_patches_make_a_page_right_whenever_it_comes():
    """Few rows are sent at a time, and a step of long ago that ends is told to who shows it."""
    drawing, patches, page = Drawing(view_of()), Patches(), Page()
    page.hear(patches.whole(drawing))
    for n in range(1_000):
        entries = [entry_of(n, status="running", ended_at_ms=None)]
        entries += [entry_of(n - 500)] if n >= 500 else []
        told = patches.patch(drawing, drawing.change(view_of(), entries))
        assert len(told["tail"]["rows"]) <= TAIL_MAX
        page.hear(told)
        newest = {row["index"]: row for row in drawing.newest(NEWEST_MAX)}
        late = page.late()
        assert {index: late[index] for index in newest} == newest
    assert len(newest) == NEWEST_MAX
    assert page.rows == {index: drawing.row(index) for index in drawing.lines.indices}
