"""`durable.map`, as users see it: in virtual time, and with every await suspended."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from nbdurable import (
    Context,
    ContextMisuseError,
    DefinitionError,
    InvocationRetryPolicy,
    RetryableError,
    Service,
    TerminalError,
    VirtualObject,
    durable,
)
from nbdurable.errors import MapError
from nbdurable.sdk.mapping import Rate, parse_rate
from nbdurable.testing import DurableEnv


@pytest.fixture(params=[False, True], ids=["live", "always replay"])
def env(request):
    with DurableEnv(always_replay=request.param) as opened:
        yield opened


class Answer:
    """What httpx and requests were answered, as far as it matters."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def __bool__(self) -> bool:
        """An answer of requests is false when it is no success."""
        return False


class Busy(Exception):
    """What they raise then."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.response = Answer(status, headers)


def mapping(env: DurableEnv, fn: Any, **options: Any):
    """Serve a handler that maps `fn` over its argument, and call it."""
    service = Service(
        "Mapping",
        invocation_retry_policy=InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill"),
    )

    @service.handler()
    async def over(ctx: Context, items: list[Any]) -> Any:
        return await durable.map(items, fn, **options)

    env.serve(service)
    return lambda items: env.run(env.client.service_call(over, items))


def test_results_come_in_the_order_of_the_items(env):
    ran = []

    async def double(n: int) -> int:
        ran.append(n)
        return 2 * n

    assert mapping(env, double, concurrency=3)(list(range(20))) == [2 * n for n in range(20)]
    assert sorted(ran) == list(range(20)), "each item ran once, however often the code was replayed"


def test_a_def_handler_gets_the_results_at_once(env):
    service = Service("Blocking")

    @service.handler()
    def over(ctx: Context, items: list[int]) -> list[int]:
        return durable.map(items, lambda n: n + 1)

    env.serve(service)
    assert env.run(env.client.service_call(over, [1, 2, 3])) == [2, 3, 4]


def test_no_items_are_no_results(env):
    assert mapping(env, lambda n: n)([]) == []


def test_no_more_are_under_way_than_allowed(env):
    """Counted over calls that sleep, as steps in virtual time take no time."""
    sleeper, now, most = Service("Sleeper"), set(), []

    @sleeper.handler()
    async def nap(ctx: Context, n: int) -> int:
        await ctx.run_typed("in", lambda: now.add(n))
        await ctx.run_typed("count", lambda: most.append(len(now)))
        await ctx.sleep(timedelta(seconds=n))
        await ctx.run_typed("out", lambda: now.discard(n))
        return n

    env.serve(sleeper)
    assert mapping(env, nap, concurrency=3)(list(range(1, 9))) == list(range(1, 9))
    assert max(most) == 3


def test_handlers_of_objects_are_called_by_the_items_key(env):
    counter = VirtualObject("Counter")

    @counter.handler()
    async def add(ctx: Any, order: dict[str, Any]) -> str:
        ctx.set("n", (await ctx.get("n", type_hint=int) or 0) + order["n"])
        return f"{ctx.key()}={await ctx.get('n', type_hint=int)}"

    env.serve(counter)
    orders = [{"who": "ada", "n": 1}, {"who": "bob", "n": 2}]
    assert mapping(env, add, key=lambda order: order["who"])(orders) == ["ada=1", "bob=2"]


def test_a_rate_is_kept_and_what_it_allows_begins_at_once(env):
    begun = []
    begins = env.now

    def note(n: int) -> int:
        begun.append((env.now - begins).total_seconds())
        return n

    mapping(env, note, rate="3/s", concurrency=10)(list(range(8)))
    assert [int(at) for at in begun] == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "error",
    [RetryableError("busy", 429, timedelta(minutes=5)), Busy(429, Retry_After="300")],
    ids=["ours", "theirs"],
)
def test_who_is_told_to_wait_waits_with_all_that_has_not_begun(env, error):
    tried, begins = [], env.now

    def ask(n: int) -> int:
        tried.append((n, round((env.now - begins).total_seconds())))
        if len(tried) == 2:
            raise error
        return n

    assert mapping(env, ask, concurrency=1, retry=3)([1, 2, 3]) == [1, 2, 3]
    assert tried == [(1, 0), (2, 0), (2, 300), (3, 300)]


def test_patience_ends_with_the_tries(env):
    def ask(n: int) -> int:
        raise Busy(503, Retry_After="10")

    with pytest.raises(TerminalError, match="told to try again after 10 s"):
        mapping(env, ask, retry=2)([1])


def test_a_failed_item_fails_the_map_and_says_what_is_done(env):
    caught, service = [], Service("Catching")

    def half(n: int) -> int:
        if n % 2:
            raise TerminalError(f"{n} is odd", 422)
        return n // 2

    @service.handler()
    async def over(ctx: Context) -> str:
        try:
            await durable.map([2, 4, 5, 6], half, concurrency=1)
        except MapError as error:
            caught.append(dict(error.results))
            raise
        return "never"

    env.serve(service)
    with pytest.raises(
        TerminalError, match=r"half\[5\] failed, with 2 of 4 items done: 5 is odd"
    ) as told:
        env.run(env.client.service_call(over, None))
    assert told.value.status_code == 422
    assert caught[-1] == {"2": 1, "4": 2}


def test_exceptions_can_stand_in_the_place_of_results(env):
    service = Service("Keeping")

    def half(n: int) -> int:
        if n % 2:
            raise TerminalError(f"{n} is odd")
        return n // 2

    @service.handler()
    async def over(ctx: Context) -> list[str]:
        return [str(one) for one in await durable.map([2, 3], half, return_exceptions=True)]

    env.serve(service)
    assert env.run(env.client.service_call(over, None)) == ["1", "3 is odd"]


def test_what_is_done_before_a_crash_is_not_done_again():
    ran = []

    def note(n: int) -> int:
        ran.append(n)
        return n

    with DurableEnv() as env:
        service = Service("Crashing")

        @service.handler()
        async def over(ctx: Context, items: list[int]) -> list[int]:
            return await durable.map(items, note, rate="1/h", concurrency=1)

        env.serve(service)
        sent = env.run(env.client.service_send(over, [1, 2, 3, 4]))
        env.run(env.advance(timedelta(minutes=90)))
        assert ran == [1, 2]
        env.run(env.crash())
        assert env.run(env.client.attach(sent.invocation_id)) == [1, 2, 3, 4]
        assert ran == [1, 2, 3, 4]


def test_replay_of_other_items_is_found_by_name():
    """The keys and the number are names of entries, and replay compares those."""
    items = [["a", "b"], ["a", "b"], ["a", "c"]]
    with DurableEnv(always_replay=True) as env:
        service = Service("Fickle")

        @service.handler()
        async def over(ctx: Context) -> list[str]:
            now = items.pop(0) if len(items) > 1 else items[0]
            return await durable.map(now, lambda one: one, concurrency=2)

        env.serve(service)
        sent = env.run(env.client.service_send(over, None))
        env.run(env.advance(timedelta(seconds=1)))
        view = env.run(env.client.invocation(sent.invocation_id))
        assert "<lambda>[" in (view.failure or "")


def test_what_is_named_twice_is_told_apart(env):
    service = Service("Twice")

    @service.handler()
    async def over(ctx: Context) -> list[int]:
        return await durable.map([{"a": 1}, {"a": 1}], lambda one: one["a"])

    env.serve(service)
    sent = env.run(env.client.service_send(over, None))
    env.run(env.client.attach(sent.invocation_id))
    names = [entry.name for entry in env.run(env.client.journal(sent.invocation_id))]
    assert any(name and name.endswith("]") and "#2" in name for name in names)


def test_the_work_for_an_item_does_not_grow_with_their_number():
    """Counted in calls, of Python and of C, which no shared machine adds to."""

    def calls(count: int) -> int:
        made = 0

        def count_one(_frame: object, event: str, _arg: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        with DurableEnv() as env:
            over = mapping(env, lambda n: n, concurrency=8)
            sys.setprofile(count_one)
            try:
                assert over(list(range(count))) == list(range(count))
            finally:
                sys.setprofile(None)
        return made

    assert calls(800) < 4 * 1.1 * calls(200)


def test_it_is_for_handlers():
    with pytest.raises(ContextMisuseError, match="for handlers"):
        durable.map([1], str)


def test_rates_are_read_as_people_write_them():
    assert parse_rate("20/s") == Rate(20, timedelta(seconds=1))
    assert parse_rate("100 / min") == Rate(100, timedelta(minutes=1))
    assert parse_rate("5/10s") == Rate(5, timedelta(seconds=10))
    for wrong in ("", "20", "0/s", "s/20", "20/fortnight"):
        with pytest.raises(DefinitionError, match="no rate"):
            parse_rate(wrong)
