"""The official SDK's harness, without Docker: an engine in memory for one test."""

from __future__ import annotations

import logging
import zlib
from datetime import timedelta

import pytest

import nbdurable
from nbdurable import (
    Context,
    HarnessEnvironment,
    InvocationRetryPolicy,
    JournalValueCodec,
    NbdurableError,
    RestateClient,
    Service,
    TerminalError,
    create_test_harness,
    test_harness,
)

greeter = Service("Greeter")
attempts: list[str] = []


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    attempts.append(name)
    text = await ctx.run_typed("compose", lambda: f"hello {name}")
    await ctx.sleep(timedelta(milliseconds=20))
    return text


@greeter.handler()
async def fail(ctx: Context, policy: str) -> None:
    attempts.append(policy)
    raise ValueError("a bug")


@pytest.fixture(autouse=True)
def fresh() -> None:
    attempts.clear()


async def test_a_test_calls_its_services():
    async with create_test_harness(nbdurable.app([greeter])) as env:
        assert isinstance(env, HarnessEnvironment)
        assert isinstance(env.client, RestateClient)
        assert env.ingress_url == env.admin_api_url == "nbdurable://in-process"
        assert await env.client.service_call(greet, "ada") == "hello ada"
    assert attempts == ["ada"]


async def test_always_replay_replays_after_every_wait():
    """Code that does not do the same twice is found in the test, not in production."""
    async with create_test_harness([greeter], always_replay=True) as env:
        assert await env.client.service_call(greet, "ada") == "hello ada"
    assert attempts == ["ada", "ada"]


async def test_without_retries_the_first_failure_is_the_last():
    """A test wants to see it, not to wait for seventy attempts."""
    async with create_test_harness([greeter], disable_retries=True) as env:
        with pytest.raises(TerminalError, match="a bug"):
            await env.client.service_call(fail, "none")
    assert attempts == ["none"]


async def test_a_policy_of_the_services_own_still_holds():
    service, tries = Service("S", invocation_retry_policy=_THREE), []

    @service.handler()
    async def handle(ctx: Context) -> None:
        tries.append(1)
        raise ValueError("a bug")

    async with create_test_harness([service], disable_retries=True) as env:
        with pytest.raises(TerminalError, match="a bug"):
            await env.client.service_call(handle, None)
    assert len(tries) == 3


_THREE = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=1), max_attempts=3, on_max_attempts="kill"
)


async def test_a_codec_may_be_given_beside_the_app():
    class Compressing(JournalValueCodec):
        def encode(self, buf: bytes) -> bytes:
            used.append(1)
            return zlib.compress(buf)

        async def decode(self, buf: bytes) -> bytes:
            return zlib.decompress(buf)

    used: list[int] = []
    async with create_test_harness([greeter], journal_value_codec=Compressing()) as env:
        assert await env.client.service_call(greet, "ada") == "hello ada"
    assert used


def test_a_test_without_asyncio_has_the_synchronous_client():
    with test_harness(nbdurable.app([greeter]), always_replay=True) as harness:
        assert harness.client.service_call(greet, "ada") == "hello ada"
        with pytest.raises(NbdurableError, match=r"write: harness\.client\.service_call"):
            harness.ingress_client()
    assert attempts == ["ada", "ada"]


def test_it_may_be_started_and_stopped_by_hand():
    """As fixtures of a class do."""
    harness = test_harness([greeter])
    harness.start()
    try:
        assert harness.client.service_call(greet, "ada") == "hello ada"
    finally:
        harness.stop()


async def test_what_is_for_containers_is_accepted(caplog: pytest.LogCaptureFixture):
    level = logging.getLogger("nbdurable").level
    try:
        async with create_test_harness(
            [greeter], follow_logs=True, restate_image="docker.io/restatedev/restate:1.7"
        ) as env:
            assert await env.client.service_call(greet, "ada") == "hello ada"
            assert logging.getLogger("nbdurable").level == logging.DEBUG
    finally:
        logging.getLogger("nbdurable").setLevel(level)
