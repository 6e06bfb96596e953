"""One suite for every store: what the simulator relies on in memory holds in DuckDB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_facts import CART, ONE, TWO, Log

from nbdurable.core.facts import InvocationRestored
from nbdurable.core.ids import digest_of
from nbdurable.core.machine import fold
from nbdurable.core.records import Lost, Row, decode
from nbdurable.core.values import ObjectId
from nbdurable.engine.ports import StateRow, Store
from nbdurable.engine.recovery import recover
from nbdurable.errors import JournalDamagedError
from nbdurable.store.blobs import MARK
from nbdurable.store.duck import DuckStore
from nbdurable.store.memory import MemoryStore


@pytest.fixture(params=["memory", "duck"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        made: Store = MemoryStore(absorb_commits=3)
    else:
        made = DuckStore(tmp_path / ".nbdurable", absorb_commits=3)
    made.open()
    yield made
    made.close()


@pytest.fixture
def log() -> Log:
    return Log()


def state_of(store: Store) -> dict[tuple[str, str, str], bytes | None]:
    """State with its bytes, and on the way that length and digest are those of the bytes."""
    found: dict[tuple[str, str, str], bytes | None] = {}
    for row in store.load_state():
        value = store.read_payload(row.lsn)
        assert value is not None
        assert (row.value_bytes, row.digest) == (len(value), digest_of(value))
        found[row.service, row.key, row.name] = value
    return found


def without_payloads(rows: list[Row]) -> list[Row]:
    return [row._replace(payload=None) for row in rows]


def test_a_new_store_is_empty(store: Store):
    assert store.last_lsn() == 0
    assert list(store.load()) == []
    assert list(store.load_state()) == []
    assert store.read_rows(1, 10) == []
    assert store.read_payload(1) is None


def test_what_was_appended_is_read_back_column_by_column(store: Store, log: Log):
    """Groups of one and of many take different ways into DuckDB; both carry None and bytes."""
    rows = [log.epoch(), log.created(ONE, b"\x00\xff"), log.run(ONE), log.set("n", b"")]
    store.append(rows[:1])
    store.append(rows[1:])
    assert store.last_lsn() == 4
    assert store.read_rows(1, 4) == rows
    assert store.read_rows(2, 3) == rows[1:3]
    assert [decode(row).lsn for row in store.read_rows(1, 99)] == [1, 2, 3, 4]


def test_groups_of_every_size_keep_each_column_whatever_their_neighbours_lack(store: Store):
    lsn, appended = 0, []
    for size in (1, 2, 3):
        for odd in (0, size - 1):
            group = []
            for place in range(size):
                lsn += 1
                full = (1, "inv_a", 2**31 - 1, "name", '{"body": "ä"}', b"\x00\xff", 2**32 - 1)
                bare = (1, None, None, None, "{}", None, 0)
                epoch, owner, index, name, body, payload, crc = bare if place == odd else full
                group.append(Row(lsn, epoch, 2**41, "Odd", owner, index, name, body, payload, crc))
            store.append(group)
            appended += group
    assert store.read_rows(1, lsn) == appended


def test_a_gap_in_the_lsns_is_our_own_mistake_and_stops_before_anything_is_written(
    store: Store, log: Log
):
    store.append([log.epoch()])
    log.last_lsn += 1
    with pytest.raises(AssertionError):
        store.append([log.epoch()])
    assert store.last_lsn() == 1
    store.append([Log(1).epoch()])


def test_reopening_keeps_every_row_and_goes_on_with_the_next_lsn(store: Store, log: Log):
    rows = [log.epoch(), log.created(ONE), log.set("n", b"1")]
    store.append(rows)
    store.reopen()
    assert store.last_lsn() == 3
    assert list(store.load()) == without_payloads(rows)
    assert store.read_rows(1, 3) == rows
    store.append([log.set("n", b"2")])
    store.reopen()
    assert store.last_lsn() == 4
    assert state_of(store) == {("Cart", "ada", "n"): b"2"}


def test_enough_commits_ask_for_absorbing_and_absorbing_answers_them(store: Store, log: Log):
    for _ in range(2):
        store.append([log.epoch()])
    assert not store.wants_absorb()
    store.append([log.epoch()])
    assert store.wants_absorb()
    store.absorb()
    assert not store.wants_absorb()


def test_absorbing_nothing_is_allowed_and_changes_nothing(store: Store, log: Log):
    store.absorb()
    rows = [log.epoch(), log.created(ONE)]
    store.append(rows)
    store.absorb()
    store.absorb()
    assert store.read_rows(1, 2) == rows


def test_absorbing_keeps_every_row_and_reads_join_both_sides_of_it(store: Store, log: Log):
    before = [log.created(ONE), log.set("n", b"1"), log.created(TWO)]
    after = [log.run(ONE), log.notified(ONE, b"r")]
    store.append(before)
    store.absorb()
    store.append(after)
    assert store.read_rows(1, 5) == before + after
    assert store.read_journals([ONE], 1, 5) == [before[0], before[1], *after]
    assert store.read_journals([ONE], 2, 4) == [before[1], after[0]]
    assert store.read_payload(2) == b"1"
    assert store.read_payload(5) == b"r"
    assert store.read_payload(4) is None
    assert store.read_payloads([5, 2, 4]) == {2: b"1", 5: b"r"}


def test_large_payloads_and_odd_ones_are_read_back_like_any_other(store: Store, log: Log):
    """Where a store keeps them is its own affair, and so is how it marks them."""
    large, odd = bytes(range(256)) * 500, MARK + b"0" * 32
    rows = [log.set("large", large), log.set("odd", odd), log.created(ONE, large), log.epoch()]
    store.append(rows[:1])
    store.append(rows[1:])
    for _ in range(2):
        assert store.read_rows(1, 4) == rows
        store.reopen()
    assert list(store.load()) == without_payloads(rows)
    assert state_of(store) == {("Cart", "ada", "large"): large, ("Cart", "ada", "odd"): odd}
    store.append([log.purged(ONE)])
    store.absorb()
    assert state_of(store) == {("Cart", "ada", "large"): large, ("Cart", "ada", "odd"): odd}


def test_a_lost_payload_is_stored_as_lost_and_said_by_whoever_reads_it(store: Store, log: Log):
    """A copy of what is lost must not stop the log, nor look like a payload of no bytes."""
    value = b"x" * 100_000
    row = log.set("a", value)._replace(payload=Lost(digest_of(value)))
    store.append([row])
    store.absorb()
    assert store.last_lsn() == log.last_lsn
    for reading in (
        lambda: store.read_payload(row.lsn),
        lambda: store.read_journals([ONE], 1, row.lsn),
        lambda: store.read_rows(1, row.lsn),
    ):
        with pytest.raises(JournalDamagedError, match=digest_of(value)):
            reading()
    (found,) = store.read_journals([ONE], 1, row.lsn, with_lost=True)
    assert found == row
    (kept,) = store.load_state()
    assert kept.value_bytes == len(value)


def test_the_last_change_of_a_name_wins(store: Store, log: Log):
    other = ObjectId(service="Cart", key="bob")
    store.append(
        [
            log.set("a", b"1"),
            log.set("a", b"2"),
            log.set("b", b"3"),
            log.clear("b"),
            log.clear("c"),
            log.set("c", b"4", comparable=False),
            log.set("a", b"5", other),
        ]
    )
    store.absorb()
    expected = [
        ("Cart", "ada", "a", 2, digest_of(b"2"), True, 1),
        ("Cart", "ada", "c", 6, digest_of(b"4"), False, 1),
        ("Cart", "bob", "a", 7, digest_of(b"5"), True, 1),
    ]
    assert list(store.load_state()) == [StateRow._make(row) for row in expected]


def test_clear_all_takes_what_came_before_and_leaves_what_comes_after(store: Store, log: Log):
    other = ObjectId(service="Cart", key="bob")
    store.append([log.set("old", b"1"), log.set("kept", b"2", other)])
    store.absorb()
    store.append([log.set("a", b"3"), log.clear_all(), log.set("b", b"4")])
    store.absorb()
    assert state_of(store) == {("Cart", "ada", "b"): b"4", ("Cart", "bob", "kept"): b"2"}


def test_load_gives_one_fact_in_place_of_an_invocation_that_has_ended(store: Store, log: Log):
    """What is done is looked up, its steps are never folded again."""
    rows = [
        log.epoch(),
        log.created(ONE),
        log.created(TWO),
        log.started(ONE),
        log.started(TWO),
        log.run(ONE),
        log.notified(ONE, b"r"),
        log.run(TWO),
        log.promise("paid", b"p"),
        log.completed(ONE),
        log.notified(TWO, b"r"),
    ]
    store.append(rows)
    store.reopen()
    loaded = list(store.load())
    assert [row.lsn for row in loaded] == [1, 3, 5, 8, 9, 10, 11]
    ended = loaded.pop(5)
    assert loaded == without_payloads([rows[row.lsn - 1] for row in loaded])
    assert decode(ended).fact == InvocationRestored(
        completed=fold(decode(rows[lsn - 1]) for lsn in (2, 10)).completed[ONE]
    )
    assert (ended.kind, ended.invocation_id, ended.at_ms) == ("InvocationRestored", ONE, 1_010)
    assert store.read_rows(1, 11) == rows


def test_one_that_ends_is_in_the_snapshot_whenever_it_began(store: Store, log: Log):
    """Its beginning may have been absorbed long before."""
    store.append([log.created(ONE), log.created(TWO), log.completed(TWO)])
    store.absorb()
    store.append([log.started(ONE)])
    store.absorb()
    store.append([log.completed(ONE), log.journal_purged(TWO)])
    store.reopen()
    shown = [(row.lsn, row.kind, row.invocation_id) for row in store.load()]
    assert shown == [
        (3, "InvocationRestored", TWO),
        (5, "InvocationRestored", ONE),
        (6, "JournalPurged", TWO),
    ]
    store.append([log.purged(TWO), log.purged(ONE)])
    store.reopen()
    assert list(store.load()) == []


def test_opening_makes_up_what_there_was_no_time_for(store: Store, log: Log):
    """Else an edit that waited behind a run that has ended would wait again."""
    store.append([log.created(ONE), log.set("n", b"1"), log.created(TWO), log.completed(ONE)])
    store.absorb()
    store.append([log.journal_purged(ONE), log.completed(TWO)])
    store.reopen()
    shown = [(row.lsn, row.kind) for row in store.load()]
    assert shown == [(4, "InvocationRestored"), (5, "JournalPurged"), (6, "InvocationRestored")]
    assert not store.wants_snapshot()
    store.append([log.purged(ONE)])
    store.reopen()
    assert set(recover(store).state.completed) == {TWO}


def test_links_of_an_epoch_that_is_over_are_not_loaded(store: Store, log: Log):
    """Each start of a process opens links and loads code: they would add up for ever."""
    store.append([log.epoch(1), log.link_opened("a"), log.link_opened("b")])
    store.reopen()
    assert [row.lsn for row in store.load()] == [1, 2, 3]
    store.append([log.epoch(2)])
    store.append([log.link_opened("c")])
    store.reopen()
    assert [row.lsn for row in store.load()] == [1, 4, 5]


def test_a_purge_takes_all_facts_of_its_invocation_but_not_what_it_wrote(store: Store, log: Log):
    """State outlives the journal that set it, and so must its bytes."""
    store.append([log.created(ONE), log.set("n", b"kept"), log.created(TWO), log.promise("p", b"")])
    store.append([log.completed(ONE), log.purged(ONE)])
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 9)] == [3, 4]
    assert store.last_lsn() == 6
    assert state_of(store) == {("Cart", "ada", "n"): b"kept"}
    assert store.read_payload(2) == b"kept"
    assert store.read_payload(1) is None
    assert store.read_payloads([1, 2]) == {2: b"kept"}
    store.append([log.epoch()])
    store.reopen()
    assert store.last_lsn() == 7
    assert [row.lsn for row in store.load()] == [3, 4, 7]


def test_a_purge_of_a_workflow_takes_its_state_and_promises(store: Store, log: Log):
    other = ObjectId(service="Cart", key="bob")
    store.append([log.created(ONE), log.set("n", b"1"), log.promise("p", b"1")])
    store.append([log.set("n", b"2", other, TWO), log.promise("p", b"2", other)])
    store.append([log.purged(ONE, CART)])
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 9)] == [4, 5]
    assert state_of(store) == {("Cart", "bob", "n"): b"2"}


def test_a_workflow_key_that_runs_again_keeps_its_second_life(store: Store, log: Log):
    """The id of a workflow's run is made from its key, so both lives have the same id."""
    store.append([log.created(ONE), log.set("n", b"1"), log.promise("p", b"1"), log.completed(ONE)])
    purge = log.purged(ONE, CART)
    second = [log.created(ONE), log.set("m", b"2"), log.promise("p", b"2")]
    second_lsns = [row.lsn for row in second]
    store.append([purge, *second])
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 99)] == second_lsns == [6, 7, 8]
    assert state_of(store) == {("Cart", "ada", "m"): b"2"}
    store.reopen()
    assert [row.lsn for row in store.load()] == second_lsns


def test_a_journal_goes_and_how_it_began_and_ended_stays(store: Store, log: Log):
    """What it wrote stays as well: state outlives the journal that set it."""
    store.append([log.created(ONE), log.set("n", b"kept"), log.started(ONE), log.completed(ONE)])
    store.append([log.created(TWO), log.journal_purged(ONE)])
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 9)] == [1, 4, 5, 6]
    assert store.read_payload(2) == b"kept"
    store.reopen()
    assert [row.lsn for row in store.load()] == [4, 5, 6]


def test_the_same_key_in_another_scope_is_another_key(store: Store, log: Log):
    scoped = ObjectId(service="Cart", key="ada", scope="eu")
    store.append([log.set("n", b"1"), log.set("n", b"2", scoped)])
    store.absorb()
    assert state_of(store) == {("Cart", "ada", "n"): b"1", ("eu/Cart", "ada", "n"): b"2"}
    store.append([log.purged(TWO, scoped)])
    store.absorb()
    assert state_of(store) == {("Cart", "ada", "n"): b"1"}


def test_an_edit_by_hand_is_state_like_what_handlers_write(store: Store, log: Log):
    """It replaces all that was there; one that still waits for its turn changes nothing yet."""
    store.append([log.set("old", b"1"), log.set("a", b"2")])
    store.absorb()
    store.append([log.edit_cleared(), log.edited("a", b"3"), log.edited("b", b"")])
    store.append([log.edit_queued("c", b"4")])
    store.absorb()
    assert state_of(store) == {("Cart", "ada", "a"): b"3", ("Cart", "ada", "b"): b""}
    assert store.read_payload(6) == b"4"
    store.append([log.set("a", b"5"), log.clear("b")])
    store.reopen()
    assert state_of(store) == {("Cart", "ada", "a"): b"5"}
    assert [row.lsn for row in store.load()] == [1, 2, 6, 7, 8]


def test_edits_of_a_workflow_key_go_with_its_run(store: Store, log: Log):
    store.append([log.created(ONE), log.edit_cleared(), log.edited("a", b"1"), log.completed(ONE)])
    store.append([log.purged(ONE, CART), log.edited("b", b"2")])
    store.absorb()
    assert [row.lsn for row in store.read_rows(1, 99)] == [6]
    assert state_of(store) == {("Cart", "ada", "b"): b"2"}


def test_the_newest_facts_can_be_purged_without_the_lsn_going_back(store: Store, log: Log):
    store.append([log.created(ONE), log.purged(ONE)])
    store.reopen()
    assert store.last_lsn() == 2
    assert list(store.load()) == []
    store.append([log.epoch()])
    assert store.last_lsn() == 3


def test_reads_of_another_thread_are_exact_while_facts_are_absorbed(store: Store):
    """A row that is being carried over is seen once: never twice, never missing."""
    log = Log()
    done = threading.Event()
    mistakes: list[object] = []
    readings: list[int] = []

    def read() -> None:
        try:
            read_until_done()
        except Exception as error:  # noqa: BLE001 - a thread's border; else the test would wait on.
            mistakes.append(error)

    def read_until_done() -> None:
        while not done.is_set():
            first = store.last_lsn()
            lsns = [row.lsn for row in store.read_rows(1, 10**9)]
            if lsns != list(range(1, len(lsns) + 1)) or len(lsns) < first:
                mistakes.append((first, lsns))
            if first and store.read_payload(first) != str(first).encode():
                mistakes.append(("payload", first))
            readings.append(len(lsns))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        # Not a count of rounds but of readings, so that a slow reader still meets absorbs.
        while not mistakes and (len(readings) < 40 or log.last_lsn < 60):
            store.append([log.set("n", str(log.last_lsn + 1).encode())])
            if store.wants_absorb():
                store.absorb()
    finally:
        done.set()
        reader.join()
    assert mistakes == []


NAMES = st.sampled_from(["a", "b", "", "ä/'\"", "\x00"])
KEYS = st.builds(
    ObjectId,
    service=st.sampled_from(["S", "T"]),
    key=st.sampled_from(["", "k", "%"]),
    scope=st.sampled_from([None, "S"]),
)
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, KEYS, st.binary(max_size=3)),
    st.tuples(st.just("clear"), NAMES, KEYS),
    st.tuples(st.just("clear_all"), KEYS),
    st.tuples(st.just("edited"), NAMES, KEYS, st.binary(max_size=3)),
    st.tuples(st.just("edit_cleared"), KEYS),
    st.tuples(st.just("edit_queued"), NAMES, KEYS, st.binary(max_size=3)),
    st.tuples(st.just("purge"), st.sampled_from([ONE, TWO]), st.none() | KEYS),
    st.tuples(st.just("journal purged"), st.sampled_from([ONE, TWO])),
    st.tuples(st.just("created"), st.sampled_from([ONE, TWO])),
    st.tuples(st.just("started"), st.sampled_from([ONE, TWO])),
    st.tuples(st.just("completed"), st.sampled_from([ONE, TWO])),
    st.tuples(st.just("promise"), KEYS),
    st.tuples(st.just("commit")),
    st.tuples(st.just("absorb")),
    st.tuples(st.just("absorb some")),
    st.tuples(st.just("reopen")),
)


def next_row(log: Log, step: tuple):
    match step:
        case ("set", name, of, value):
            return log.set(name, value, of)
        case ("clear", name, of):
            return log.clear(name, of)
        case ("clear_all", of):
            return log.clear_all(of)
        case ("edited", name, of, value):
            return log.edited(name, value, of)
        case ("edit_cleared", of):
            return log.edit_cleared(of)
        case ("edit_queued", name, of, value):
            return log.edit_queued(name, value, of)
        case ("purge", invocation, of):
            return log.purged(invocation, of)
        case ("journal purged", invocation):
            return log.journal_purged(invocation)
        case ("created", invocation):
            return log.created(invocation)
        case ("started", invocation):
            return log.started(invocation)
        case ("completed", invocation):
            return log.completed(invocation)
        case ("promise", of):
            return log.promise("p", b"v", of)
    raise AssertionError(step)


# Which step takes an invocation from which stages to which; None is not there.
WAYS = {
    "created": ((None,), "live"),
    "started": (("live",), "live"),
    "completed": (("live",), "ended"),
    "journal purged": (("ended",), "without its journal"),
    "purge": (("ended", "without its journal"), None),
}


class Lives:
    """Mutable: how far each invocation has got."""

    def __init__(self) -> None:
        self._stages: dict[str, str | None] = {}

    def may(self, step: tuple) -> bool:
        """Whether an engine could take this step now; if so, it has been taken."""
        if step[0] not in WAYS:
            return True
        before, after = WAYS[step[0]]
        if self._stages.get(step[1]) not in before:
            return False
        self._stages[step[1]] = after
        return True


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_any_history_gives_the_same_log_and_state_in_duckdb_as_in_memory(steps: list[tuple]):
    """The fake is verified, not believed. Steps that no engine would take are left out."""
    with TemporaryDirectory() as folder:
        fake, duck = MemoryStore(), DuckStore(Path(folder) / "j", absorb_bytes=300)
        fake.open()
        duck.open()
        log, group, lives = Log(), [], Lives()
        for step in [*steps, ("reopen",)]:
            if not lives.may(step):
                continue
            if step[0] not in ("commit", "absorb", "absorb some", "reopen"):
                group.append(next_row(log, step))
                continue
            for store in (fake, duck):
                if group:
                    store.append(group)
                match step[0]:
                    case "absorb":
                        store.absorb()
                    case "absorb some":
                        store.absorb_some()
                    case "reopen":
                        store.reopen()
            group = []
            assert duck.read_rows(1, 999) == fake.read_rows(1, 999)
        assert list(duck.load()) == list(fake.load())
        assert list(duck.load_state()) == list(fake.load_state())
        assert state_of(duck) == state_of(fake)
        assert duck.last_lsn() == fake.last_lsn()
        duck.close()
