"""Futures that combine futures: settled when they should be, and woken for no later."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.running import HandClock, durable, until, until_status

from nbdurable import (
    Context,
    ContextMisuseError,
    RestatePromise,
    RunOptions,
    Service,
    TerminalError,
    as_completed,
    gather,
    select,
    wait,
    wait_completed,
)
from nbdurable.core.attempt import Settled
from nbdurable.core.futures import Completion, outcome
from nbdurable.core.values import Failure, PayloadRef, Success
from nbdurable.invoker.combined import Combined, Timed
from nbdurable.invoker.futures import Future, OwnFuture
from nbdurable.wiring import DurableEngine

Opened = Callable[..., DurableEngine]
NOW = timedelta(0)
MINUTE = timedelta(minutes=1)
SUCCEEDED = Success(value=PayloadRef(bytes=0, digest=""))
FAILED = Failure(code=500, message="no")


# -- what a combination comes to, for any order of events ----------------------------------------


class FakeMachine:
    """Leaves settle when they are told to. Mutable: `settled`."""

    def __init__(self) -> None:
        self.settled: dict[Completion, Settled] = {}

    def settle(self, leaf: Completion, *, succeeds: bool) -> None:
        result = SUCCEEDED if succeeds else FAILED
        self.settled[leaf] = Settled(result, b"", len(self.settled))

    def is_settled(self, leaf: Completion) -> bool:
        return leaf in self.settled

    def take(self, leaf: Completion) -> Settled:
        return self.settled[leaf]

    def decides(self, tree: Any) -> bool:
        def of(leaf: Any) -> bool | None:
            settled = self.settled.get(leaf)
            return None if settled is None else settled.succeeded

        return outcome(tree, of) is not None


LEAF_COUNT = 6
LEAVES = st.integers(0, LEAF_COUNT - 1)
SHAPES = st.recursive(
    LEAVES,
    lambda children: (
        st.tuples(
            st.sampled_from(["all", "any", "race", "all_settled"]),
            st.lists(children, min_size=1, max_size=4),
        )
        | st.tuples(st.just("timed"), st.lists(children, min_size=1, max_size=1))
    ),
    max_leaves=8,
)


class Story:
    """One shape of futures, and what happened so far."""

    def __init__(self, shape: Any) -> None:
        self.machine = FakeMachine()
        self.context: Any = SimpleNamespace(
            attempt=SimpleNamespace(machine=self.machine, guard=lambda ask: ask())
        )
        self.timers: list[Completion] = []
        self.leaves = [Completion(id=n) for n in range(LEAF_COUNT)]
        self.shape = shape
        self.remembered: dict[tuple[int, ...], bool | None] = {}
        self.future = self.build(shape)

    def leaf(self, leaf: Completion) -> OwnFuture[Any]:
        return Future(self.context, leaf, None, f"leaf {leaf.id}")

    def build(self, shape: Any) -> OwnFuture[Any]:
        if isinstance(shape, int):
            return self.leaf(self.leaves[shape])
        kind, parts = shape
        children = tuple(self.build(part) for part in parts)
        if kind != "timed":
            return Combined(self.context, kind, children)
        self.timers.append(Completion(id=100 + len(self.timers)))
        return Timed(self.context, children[0], self.leaf(self.timers[-1]), MINUTE)

    def expected(self) -> bool | None:
        """What the words say. Asked after every event, because what was first is remembered."""
        timers = iter(self.timers)
        return self._expected(self.shape, (), timers)

    def _expected(
        self, shape: Any, path: tuple[int, ...], timers: Iterator[Completion]
    ) -> bool | None:
        if isinstance(shape, int):
            return self._of(self.leaves[shape])
        kind, parts = shape
        outcomes = [self._expected(part, (*path, n), timers) for n, part in enumerate(parts)]
        if kind == "timed":
            late = self._of(next(timers)) is not None
            outcomes.append(False if late else None)
        if path not in self.remembered:
            self.remembered[path] = _come_to(kind, outcomes)
        if self.remembered[path] is None:
            del self.remembered[path]
            return None
        return self.remembered[path]

    def _of(self, leaf: Completion) -> bool | None:
        settled = self.machine.settled.get(leaf)
        return None if settled is None else settled.succeeded


def _come_to(kind: str, outcomes: list[bool | None]) -> bool | None:
    match kind:
        case "all":
            return False if False in outcomes else (None if None in outcomes else True)
        case "any":
            return True if True in outcomes else (None if None in outcomes else False)
        case "all_settled":
            return None if None in outcomes else True
        case _:
            return next((known for known in outcomes if known is not None), None)


@given(SHAPES, st.integers())
def test_a_combination_settles_when_its_words_say_and_its_tree_wakes_no_later(
    shape: Any, seed: int
) -> None:
    """A tree that is satisfied too late would be an invocation that sleeps for ever."""
    story, chance = Story(shape), random.Random(seed)
    events = story.leaves + story.timers
    chance.shuffle(events)
    future, known = story.future, None
    for leaf in events:
        tree = future.tree() if future.settling() is None else None
        assert tree is None or not story.machine.decides(tree), "it would wait for nothing"
        story.machine.settle(leaf, succeeds=leaf in story.timers or chance.random() < 0.5)
        settling, expected = future.settling(), story.expected()
        assert expected == (None if settling is None else settling.succeeded)
        if settling is not None and tree is not None:
            assert story.machine.decides(tree), "it would not be woken"
        if known is not None:
            assert settling == known, "what is settled stays as it is"
        known = settling
    assert known is not None


# -- in handlers ---------------------------------------------------------------------------------


async def result_of(opened: Opened, handle: Callable[[Context], Any], **settings: Any) -> Any:
    service = Service("S")
    service.handler("handle")(handle)
    async with opened(service, **settings) as engine:
        return await engine.client.service_call(service.handlers["handle"].fn, None)


def fails(text: str, code: int = 500) -> Callable[[], None]:
    def fail() -> None:
        raise TerminalError(text, code)

    return fail


async def test_all_gives_the_values_in_the_order_given(opened: Opened):
    async def handle(ctx: Context) -> Any:
        steps = [ctx.run_typed(f"step {n}", lambda n=n: n) for n in (1, 2, 3)]
        return [await RestatePromise.all(*steps), await RestatePromise.all()]

    assert await result_of(opened, handle) == [[1, 2, 3], []]


async def test_all_fails_with_the_first_failure_and_waits_for_no_more(opened: Opened):
    async def handle(ctx: Context) -> Any:
        try:
            await RestatePromise.all(ctx.awakeable()[1], ctx.run_typed("bad", fails("broken", 418)))
        except TerminalError as error:
            return [error.message, error.status_code]

    assert await result_of(opened, handle) == ["broken", 418]


async def test_any_gives_the_first_success_and_skips_failures(opened: Opened):
    async def handle(ctx: Context) -> Any:
        bad = [ctx.run_typed(f"bad {n}", fails("no")) for n in range(3)]
        return await RestatePromise.any(*bad, ctx.run_typed("good", lambda: "yes"))

    assert await result_of(opened, handle) == "yes"


async def test_any_that_nobody_wins_names_every_failure(opened: Opened):
    async def handle(ctx: Context) -> Any:
        try:
            await RestatePromise.any(
                ctx.run_typed("a", fails("no tea", 418)), ctx.run_typed("b", fails("no pot", 418))
            )
        except TerminalError as error:
            return [error.message, error.status_code]

    message, code = await result_of(opened, handle)
    assert message == "none of 2 futures succeeded: step 'a': no tea; step 'b': no pot"
    assert code == 418


async def test_race_takes_the_first_be_it_a_failure(opened: Opened):
    async def handle(ctx: Context) -> Any:
        never = ctx.awakeable()[1]
        first = await RestatePromise.race(never, ctx.run_typed("quick", lambda: "quick"))
        try:
            await RestatePromise.race(never, ctx.run_typed("bad", fails("broken")))
        except TerminalError as error:
            return [first, error.message]

    assert await result_of(opened, handle) == ["quick", "broken"]


async def test_all_settled_gives_the_futures_themselves(opened: Opened):
    async def handle(ctx: Context) -> Any:
        both = [ctx.run_typed("good", lambda: 1), ctx.run_typed("bad", fails("broken"))]
        return [
            future is both[n] for n, future in enumerate(await RestatePromise.all_settled(*both))
        ]

    assert await result_of(opened, handle) == [True, True]


async def test_combinations_combine(opened: Opened):
    """With each other, with gather and select, and with state, which is there already."""

    async def handle(ctx: Context) -> Any:
        never, one = ctx.awakeable()[1], ctx.run_typed("one", lambda: 1)
        pair = RestatePromise.all(one, RestatePromise.race(never, ctx.run_typed("two", lambda: 2)))
        (settled,) = await gather(RestatePromise.any(never, pair))
        return [await settled, await select(pair=pair, never=never), pair.is_completed()]

    assert await result_of(opened, handle) == [[1, 2], ["pair", [1, 2]], True]


async def test_losers_go_on(opened: Opened):
    """They are not cancelled; whoever wants them later still gets them."""

    async def handle(ctx: Context) -> Any:
        awakeable_id, slow = ctx.awakeable(type_hint=str)
        first = await RestatePromise.race(slow, ctx.sleep(NOW))
        ctx.resolve_awakeable(awakeable_id, "late")
        return [first, await slow]

    assert await result_of(opened, handle) == [None, "late"]


async def test_a_timeout_says_what_was_too_late(opened: Opened):
    async def handle(ctx: Context) -> Any:
        in_time = await ctx.run_typed("step", lambda: "in time").or_timeout(MINUTE)
        try:
            await ctx.signal("go").or_timeout(NOW)
        except TerminalError as error:
            return [in_time, error.message, error.status_code]

    assert await result_of(opened, handle) == [
        "in time",
        "await-timeout: signal 'go' was not there within 0:00:00",
        408,
    ]


async def test_a_timeout_among_others_is_a_failure_among_others(opened: Opened):
    """Its timer succeeds, in the journal; for `any` and `all` it has failed nevertheless."""

    async def handle(ctx: Context) -> Any:
        late = ctx.awakeable()[1].or_timeout(NOW)
        good = ctx.run_typed("good", lambda: "good")
        best = await RestatePromise.any(late, good)
        try:
            await RestatePromise.all(late, ctx.awakeable()[1])
        except TerminalError as error:
            return [best, error.status_code]

    assert await result_of(opened, handle) == ["good", 408]


async def test_a_combination_is_waited_for_across_a_suspension(opened: Opened):
    """And woken once, when all of it is there: a tree is recorded, not a list of leaves."""
    service, clock, attempts = Service("S", inactivity_timeout=NOW), HandClock(), []

    @service.handler()
    async def handle(ctx: Context) -> Any:
        attempts.append(1)
        waits = [ctx.awakeable(type_hint=str)[1] for _ in range(3)]
        return await RestatePromise.all(*waits).or_timeout(timedelta(days=7))

    async with opened(service, clock=clock) as engine:
        client = engine.client
        sent = await client.service_send(handle, None)
        view = await until_status(engine, sent.invocation_id, "suspended")
        for n, awakeable_id in enumerate(view.open_awakeables):
            await client.resolve_awakeable(awakeable_id, f"value {n}")
        assert await client.attach(sent.invocation_id) == ["value 0", "value 1", "value 2"]
        assert len(attempts) == 2
        again = await client.service_send(handle, None)
        await until_status(engine, again.invocation_id, "suspended")
        await clock.turn(engine, 7 * 24 * 3_600_000)
        with pytest.raises(TerminalError, match="await-timeout: all of 3 futures") as raised:
            await client.attach(again.invocation_id)
        assert raised.value.status_code == 408


async def test_def_handlers_block_on_them(opened: Opened):
    def handle(ctx: Context) -> Any:
        steps = [ctx.run_typed(f"step {n}", lambda n=n: n) for n in (1, 2)]
        return [RestatePromise.all(*steps).result(), wait(RestatePromise.race(*steps))]

    assert await result_of(opened, handle) == [[1, 2], 1]


async def five_that_settle(ctx: Context) -> dict[Any, str]:
    """Of every kind, one of them at once, the others in a while, by their names."""
    a, b, c = (ctx.run_typed(name, name.upper) for name in "abc")
    late = ctx.awakeable()[1].or_timeout(timedelta(milliseconds=20))
    both = RestatePromise.all(a, ctx.sleep(timedelta(milliseconds=10)))
    await b
    return {late: "late", both: "both", a: "a", b: "b", c: "c"}


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that a future is asked whether it has settled."""
    looks, settling = [], Future.settling

    def counted(self: Future[Any]) -> Any:
        looks.append(None)
        return settling(self)

    monkeypatch.setattr(Future, "settling", counted)
    return looks


async def test_as_completed_gives_each_once_whatever_it_is_and_whatever_happens_between(
    opened: Opened,
):
    async def handle(ctx: Context) -> Any:
        names = await five_that_settle(ctx)
        again = next(future for future, name in names.items() if name == "b")
        seen = []
        async for future in as_completed(*names, again):
            seen.append(names[future])
            # What settles meanwhile is missed by nobody.
            await ctx.run_typed("between", int)
        return seen

    seen = await result_of(opened, handle)
    assert sorted(seen) == ["a", "b", "b", "both", "c", "late"]


async def test_as_completed_looks_at_each_future_a_few_times(monkeypatch: pytest.MonkeyPatch):
    """It once looked at all that were left for each that came: 3,000 calls took a minute."""
    looks, many = counted_looks(monkeypatch), 200

    async def handle(ctx: Context) -> int:
        waits = [ctx.sleep(timedelta(milliseconds=n % 7)) for n in range(many)]
        return len([future async for future in as_completed(*waits)])

    assert await result_of(durable, handle) == many
    assert len(looks) <= 4 * many


async def test_what_is_left_is_waited_for_again_whatever_happens_between(opened: Opened):
    """Also when less than that, or more, is asked for the next time."""

    async def handle(ctx: Context) -> Any:
        names = await five_that_settle(ctx)
        again = next(future for future, name in names.items() if name == "b")
        seen, waiting = [], [*names, again]
        while waiting:
            completed, waiting = await wait_completed(*waiting)
            assert all(future.is_completed() for future in completed)
            assert not any(future.is_completed() for future in waiting)
            seen += [names[future] for future in completed]
            await ctx.run_typed("between", int)
            (first,), _ = await wait_completed(*completed[:1])
            assert first is completed[0]
        return seen

    seen = await result_of(opened, handle)
    assert sorted(seen) == ["a", "b", "b", "both", "c", "late"]


async def test_a_loop_that_waits_looks_at_each_future_a_few_times(monkeypatch: pytest.MonkeyPatch):
    looks, many = counted_looks(monkeypatch), 200

    async def handle(ctx: Context) -> int:
        waiting: Any = [ctx.sleep(timedelta(milliseconds=n % 7)) for n in range(many)]
        count = 0
        while waiting:
            completed, waiting = await wait_completed(*waiting)
            count += len(completed)
        return count

    assert await result_of(durable, handle) == many
    assert len(looks) <= 4 * many


async def test_a_cancellation_reaches_a_combination(opened: Opened):
    service = Service("S")

    @service.handler()
    async def handle(ctx: Context) -> Any:
        return await RestatePromise.all(ctx.awakeable()[1], ctx.awakeable()[1])

    async with opened(service) as engine:
        sent = await engine.client.service_send(handle, None)
        await until(engine, sent.invocation_id, lambda view, _: len(view.open_awakeables) == 2)
        await engine.client.cancel(sent.invocation_id)
        with pytest.raises(TerminalError, match="cancelled"):
            await engine.client.attach(sent.invocation_id)


async def test_what_can_never_be_is_refused(opened: Opened):
    """Nothing to race, and more levels than a journal can hold."""

    async def handle(ctx: Context) -> Any:
        said = []
        for impossible in (RestatePromise.race, RestatePromise.any):
            try:
                impossible()
            except ValueError as error:
                said.append(str(error))
        future = ctx.run_typed("step", lambda: 1, RunOptions())
        try:
            for _ in range(300):
                future = RestatePromise.race(future)
        except ContextMisuseError as error:
            said.append(str(error))
        return said

    race, any_, deep = await result_of(opened, handle)
    assert race == "RestatePromise.race() needs at least one future"
    assert any_ == "RestatePromise.any() needs at least one future"
    assert "combined 201 levels deep" in deep
