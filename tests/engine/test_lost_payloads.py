"""A file in `blobs/` is gone: whoever needs it pauses and names it, and everybody else goes on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from support.running import WAIT_S_MAX

import nbdurable
from nbdurable import InvocationRetryPolicy, JournalDamagedError, Service, Workflow
from nbdurable.client.views import InvocationView
from nbdurable.wiring import DurableEngine

LARGE = "y" * 100_000
service, flow = Service("S"), Workflow("Flow")
kept = Service("Kept", journal_retention=timedelta(days=1))


@kept.handler()
async def measure(ctx, text: str) -> int:
    return len(text)


@service.handler()
async def make(ctx, _) -> str:
    return LARGE


@service.handler()
async def length_of_call(ctx, _) -> int:
    return len(await ctx.service_call(make, None, idempotency_key="k"))


@service.handler()
async def length_of_attachment(ctx, invocation_id: str) -> int:
    return len(await ctx.attach_invocation(invocation_id, type_hint=str))


@service.handler(
    inactivity_timeout=timedelta(0), invocation_retry_policy=InvocationRetryPolicy(max_attempts=2)
)
async def suspends_over_call(ctx, _) -> int:
    return await length_of_call(ctx, None)


@service.handler()
async def length_of_promise(ctx, _) -> int:
    return len(await ctx.workflow_call(look, "w", None))


@flow.main()
async def run(ctx, _) -> None:
    await ctx.promise("p", type_hint=str).resolve(LARGE)


@flow.handler()
async def look(ctx, _) -> str | None:
    return await ctx.promise("p", type_hint=str).peek()


async def until_paused(engine: DurableEngine, invocation_id: str) -> InvocationView:
    """Asks for the view alone: the journal is what cannot be read."""
    async with asyncio.timeout(WAIT_S_MAX):
        while (view := await engine.client.invocation(invocation_id)).status != "paused":  # noqa: ASYNC110 - every look is a question to the engine, which waits its turn.
            await asyncio.sleep(0)
    return view


async def lose(folder: Path) -> tuple[str, Path, bytes]:
    """A journal whose one large payload is gone: the id of what made it, the file, its content."""
    async with nbdurable.open(folder, services=[service, flow]) as engine:
        client = engine.client
        sent = await client.service_send(make, None, idempotency_key="k")
        await client.attach(sent.invocation_id)
        await client.workflow_call(run, "w", None)
    (blob,) = (folder / "blobs").iterdir()
    content = blob.read_bytes()
    blob.unlink()
    return sent.invocation_id, blob, content


@pytest.mark.parametrize("asks", [length_of_call, length_of_attachment, suspends_over_call])
async def test_who_asks_for_a_lost_result_is_paused_and_the_engine_lives(tmp_path: Path, asks):
    """It once stopped the engine, and every engine that was opened on this journal after it."""
    folder = tmp_path / ".nbdurable"
    maker, blob, content = await lose(folder)
    async with nbdurable.open(folder, services=[service, flow]) as engine:
        asker = (await engine.client.service_send(asks, maker)).invocation_id
        view = await until_paused(engine, asker)
        assert blob.name in (view.failure or "")
        attempts = view.attempt
    # Also by the next owner, which reads what this one has written.
    async with nbdurable.open(folder, services=[service, flow]) as engine:
        await engine.client.resume(asker)
        view = await until_paused(engine, asker)
        assert view.attempt > attempts
        blob.write_bytes(content)
        await engine.client.resume(asker)
        assert await engine.client.attach(asker) == len(LARGE)


async def test_a_journal_is_shown_but_for_what_is_lost(tmp_path: Path):
    """Whoever looks for the reason must see the run, and which file it is."""
    folder = tmp_path / ".nbdurable"
    maker, blob, content = await lose(folder)
    async with nbdurable.open(folder, services=[service, flow]) as engine:
        entries = await engine.client.journal(maker)
        assert [(entry.kind, entry.value) for entry in entries] == [
            ("Input", None),
            ("Output", f"<lost: blobs/{blob.name}>"),
        ]
        blob.write_bytes(content)
        assert "yyy" in ((await engine.client.journal(maker))[1].value or "")


async def test_a_lost_promise_pauses_whoever_looks_at_it(tmp_path: Path):
    folder = tmp_path / ".nbdurable"
    _, blob, _ = await lose(folder)
    async with nbdurable.open(folder, services=[service, flow]) as engine:
        looker = (await engine.client.workflow_send(look, "w", None)).invocation_id
        view = await until_paused(engine, looker)
        assert blob.name in (view.failure or "")


async def test_a_client_that_asks_for_a_lost_result_is_told_the_file(tmp_path: Path):
    folder = tmp_path / ".nbdurable"
    maker, blob, _ = await lose(folder)
    async with nbdurable.open(folder, services=[service, flow]) as engine:
        for asking in (engine.client.attach(maker), engine.client.restart_as_new(maker)):
            with pytest.raises(JournalDamagedError, match=blob.name):
                await asking


async def test_what_many_were_sent_is_listed_but_for_what_is_lost(tmp_path: Path):
    folder = tmp_path / ".nbdurable"
    async with nbdurable.open(folder, services=[kept]) as engine:
        for text in ("small", LARGE, "other"):
            assert await engine.client.service_call(measure, text) == len(text)
    (blob,) = (folder / "blobs").iterdir()
    blob.unlink()
    async with nbdurable.open(folder, services=[kept]) as engine:
        called = await engine.client.calls_of("Kept")
        assert [one.argument for one in called] == [b'"small"', None, b'"other"']
