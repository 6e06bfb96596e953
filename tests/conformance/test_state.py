"""State of the suite."""

from __future__ import annotations

from conformance.conftest import Started
from conformance.driver import eventually, fresh
from conformance.test_calls import adding, count


async def test_adding_says_what_was_and_what_is(started: Started):
    """State.add."""
    key = fresh()
    async with started() as runtime:
        assert await runtime.call(f"Counter/{key}/add", 1) == {"oldValue": 0, "newValue": 1}
        assert await runtime.call(f"Counter/{key}/add", 2) == {"oldValue": 1, "newValue": 3}
        await runtime.call(f"Counter/{key}/reset")
        assert await count(runtime, key) == 0


async def test_one_way_additions_all_count(started: Started):
    """State.proxyOneWayAdd."""
    key = fresh()
    async with started() as runtime:
        for _ in range(3):
            await runtime.call("Proxy/oneWayCall", adding(key))
        await eventually(lambda: count(runtime, key), 3)


async def test_clearing_lists_what_there_was_and_leaves_other_keys_alone(started: Started):
    """State.listStateAndClearAll."""
    key, other = fresh(), fresh()
    async with started() as runtime:
        for name in ("one", "two"):
            await runtime.call(f"MapObject/{key}/set", {"key": name, "value": f"my {name}"})
        await runtime.call(f"MapObject/{other}/set", {"key": "one", "value": "untouched"})
        assert await runtime.call(f"MapObject/{key}/clearAll") == [
            {"key": "one", "value": "my one"},
            {"key": "two", "value": "my two"},
        ]
        assert await runtime.call(f"MapObject/{key}/get", "one") == ""
        assert await runtime.call(f"MapObject/{key}/clearAll") == []
        assert await runtime.call(f"MapObject/{other}/get", "one") == "untouched"
