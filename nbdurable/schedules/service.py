"""A schedule is a virtual object with a durable timer; each of its fires is a run.

The timer is a delayed send of the object to itself, and so lasts as long as the journal, wherever
the owner is. A fire is started under an idempotency key made of the schedule's name and the fire's
time, by the one handler that runs for the key: once, whoever else looks, and however long the
machine slept. What a fire starts is called by `FIRES`, which says when it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import msgspec

from nbdurable.core.builtin import FIRE_SERVICE, NOTEBOOK_SERVICE, SCHEDULE_SERVICE
from nbdurable.errors import TerminalError
from nbdurable.schedules.notify import NOTICES, Notice, notify, tell
from nbdurable.schedules.plan import BY_HAND, Spec, between, due, filled, is_late, run_id, said
from nbdurable.schedules.standing import Event
from nbdurable.sdk.combinators import select, wait_completed
from nbdurable.sdk.context import Context, ObjectContext, ObjectSharedContext, WorkflowContext
from nbdurable.sdk.future import RestateDurableCallFuture, RestateDurableFuture
from nbdurable.sdk.object import VirtualObject
from nbdurable.sdk.serde import BytesSerde
from nbdurable.sdk.service import Service
from nbdurable.sdk.workflow import Workflow

SCHEDULES: Final = VirtualObject(SCHEDULE_SERVICE)
FIRES: Final = Service(FIRE_SERVICE)
BUILT_IN: Final = (SCHEDULES, FIRES, NOTICES)

# The object that knows the names of the others; no schedule can have this one.
INDEX_KEY: Final = "*"
# What is not over by then goes on; what is, says so at once.
_LOOK: Final = timedelta(milliseconds=200)
_ENDS_KEPT: Final = 10
# By so much a timer is late on a busy machine; more means that nothing runs that could keep it.
OVERDUE_MS: Final = 60_000
# Digests of their own: what waits for its time must find its code after an upgrade as well. Whoever
# changes what the handlers command counts one up: what is under way is then known to have begun
# with other code.
DIGESTS: Final = {
    SCHEDULE_SERVICE: "schedule-2",
    FIRE_SERVICE: "fire-1",
    NOTICES.name: "notice-1",
}
# What a fire hears of the run that it waits for.
SIGNAL: Final = "stands"


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """One run to be."""

    schedule: str
    id: str
    spec: Spec


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of a schedule ended. `failure` is empty when it succeeded."""

    id: str
    failure: str = ""


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands that has not ended. `token`: twice the same is one event."""

    event: Event
    token: str
    why: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that a schedule remembers.

    Attributes:
        seen_ms: Fires up to it are decided.
        generation: Timers of another one are of a schedule that has changed since.
        running: Runs that go on, and their invocations.
        stalled: Runs that have failed and can be resumed; they hold up none of the others.
        queued: Runs that begin when those have ended.
        ended: The last few, newest last.
    """

    spec: Spec
    seen_ms: int
    generation: int = 0
    is_paused: bool = False
    wake_ms: int | None = None
    last_fire_ms: int | None = None
    missed: int = 0
    skipped: int = 0
    running: dict[str, str] = {}
    stalled: dict[str, str] = {}
    queued: tuple[str, ...] = ()
    ended: tuple[Ended, ...] = ()


class While(msgspec.Struct, frozen=True, kw_only=True):
    """From and until when a backfill fires, both included."""

    from_ms: int
    until_ms: int


@SCHEDULES.handler()
async def put(ctx: ObjectContext, spec: Spec) -> Kept:
    """Make or change it; what fired before now is not made up for."""
    known = await ctx.get("kept", type_hint=Kept)
    now_ms = await _now_ms(ctx)
    if known is None:
        kept = Kept(spec=msgspec.structs.replace(spec, anchor_ms=now_ms), seen_ms=now_ms)
        ctx.object_send(enroll, INDEX_KEY, ctx.key())
    else:
        changed = msgspec.structs.replace(spec, anchor_ms=known.spec.anchor_ms)
        kept = msgspec.structs.replace(known, spec=changed, seen_ms=now_ms)
    return await _look(ctx, kept, now_ms)


@SCHEDULES.handler()
async def wake(ctx: ObjectContext, generation: int) -> None:
    """What the timer does."""
    kept = await ctx.get("kept", type_hint=Kept)
    if kept is None or kept.is_paused or kept.generation != generation:
        return
    now_ms = await _now_ms(ctx)
    _tell_if_overdue(ctx, kept, now_ms)
    await _look(ctx, kept, now_ms)


@SCHEDULES.handler()
async def pause(ctx: ObjectContext) -> Kept:
    """Fire no more until it is resumed, nor what is queued; what runs goes on."""
    kept = await _kept(ctx)
    kept = msgspec.structs.replace(kept, is_paused=True, wake_ms=None)
    ctx.set("kept", kept)
    return kept


@SCHEDULES.handler()
async def resume(ctx: ObjectContext) -> Kept:
    """Go on; what was missed meanwhile is made up for as the schedule says."""
    kept = await _kept(ctx)
    return await _look(ctx, msgspec.structs.replace(kept, is_paused=False), await _now_ms(ctx))


@SCHEDULES.handler()
async def trigger(ctx: ObjectContext) -> str:
    """Start a run now, whatever the clock says; returns its id."""
    kept, now_ms = await _kept(ctx), await _now_ms(ctx)
    name = f"{run_id(ctx.key(), kept.spec, now_ms)}{BY_HAND}{ctx.uuid().hex[:8]}"
    ctx.set("kept", await _start(ctx, kept, name))
    return name


@SCHEDULES.handler()
async def backfill(ctx: ObjectContext, span: While) -> list[str]:
    """Start the runs of the past; those that have run under the same id do not run again."""
    kept = await _kept(ctx)
    ids = [
        run_id(ctx.key(), kept.spec, at) for at in between(kept.spec, span.from_ms, span.until_ms)
    ]
    for one in ids:
        kept = await _start(ctx, kept, one)
    # Those that have run before say nothing any more.
    kept = await _without_those_over(ctx, kept, ids)
    ctx.set("kept", await _next_of_queue(ctx, kept))
    return ids


@SCHEDULES.handler()
async def remove(ctx: ObjectContext) -> None:
    """Forget it; what runs goes on."""
    await _kept(ctx)
    ctx.clear_all()
    ctx.object_send(leave, INDEX_KEY, ctx.key())


@SCHEDULES.handler()
async def ended(ctx: ObjectContext, end: Ended) -> None:
    """A run has ended; the next one of the queue begins."""
    kept = await ctx.get("kept", type_hint=Kept)
    if kept is None:
        return
    ctx.set("kept", await _next_of_queue(ctx, _without(kept, end)))


@SCHEDULES.handler()
async def stalls(ctx: ObjectContext, end: Ended) -> None:
    """A run has failed and waits to be resumed; the next one need not wait for that."""
    kept = await ctx.get("kept", type_hint=Kept)
    if kept is None or end.id not in kept.running:
        return
    running = dict(kept.running)
    stalled = {**kept.stalled, end.id: running.pop(end.id)}
    kept = msgspec.structs.replace(kept, running=running, stalled=stalled)
    ctx.set("kept", await _next_of_queue(ctx, kept))


@SCHEDULES.handler(kind="shared")
async def show(ctx: ObjectSharedContext) -> Kept | None:
    return await ctx.get("kept", type_hint=Kept)


@SCHEDULES.handler()
async def enroll(ctx: ObjectContext, name: str) -> None:
    known = await ctx.get("names", type_hint=list[str]) or []
    ctx.set("names", sorted({*known, name}))


@SCHEDULES.handler()
async def leave(ctx: ObjectContext, name: str) -> None:
    known = await ctx.get("names", type_hint=list[str]) or []
    ctx.set("names", [one for one in known if one != name])


@SCHEDULES.handler(kind="shared")
async def names(ctx: ObjectSharedContext) -> list[str]:
    return await ctx.get("names", type_hint=list[str]) or []


@FIRES.handler()
async def run(ctx: Context, fire: Fire) -> None:
    """Call what the schedule is for, and say when that has ended."""
    spec = fire.spec
    argument = "" if spec.argument is None else filled(spec.argument, fire.id)
    call = _called(ctx, fire, argument.encode())
    try:
        await _heard_out(ctx, fire, call)
    except TerminalError as error:
        end = Ended(id=fire.id, failure=error.message or "failed")
        ctx.object_send(ended, fire.schedule, end)
        await _tell(ctx, fire, "failed", end.failure)
        raise
    ctx.object_send(ended, fire.schedule, Ended(id=fire.id))
    await _tell(ctx, fire, "completed", "")


async def _heard_out(ctx: Context, fire: Fire, call: RestateDurableFuture[bytes]) -> None:
    """Wait for the end, however often it fails on the way and is resumed."""
    heard: set[str] = set()
    while True:
        signal = ctx.signal(SIGNAL, type_hint=Stands)
        first, stands = await select(call=call, signal=signal)
        if first == "call":
            return
        if stands.token in heard:
            continue
        heard.add(stands.token)
        if stands.event == "failed":
            ctx.object_send(stalls, fire.schedule, Ended(id=fire.id, failure=stands.why))
        await _tell(ctx, fire, stands.event, stands.why)


async def _tell(ctx: Context, fire: Fire, event: Event, why: str) -> None:
    if fire.spec.notify is None or event not in fire.spec.notify_on:
        return
    # What it waits for is no failure, but said in the same place.
    said = {"event": event, "schedule": fire.schedule, "run": fire.id, "failure": why}
    await notify(ctx, fire.spec.notify, said)


def _tell_if_overdue(ctx: ObjectContext, kept: Kept, now_ms: int) -> None:
    """Apart from the schedule, which is not held up by who cannot be told."""
    spec, due_ms = kept.spec, kept.wake_ms
    if due_ms is None or now_ms - due_ms <= OVERDUE_MS:
        return
    why = f"was due at {said(spec, due_ms)}, and nothing was running that keeps it"
    told = {"event": "overdue", "schedule": ctx.key(), "failure": why}
    ctx.service_send(tell, Notice(said=told))
    if spec.notify is not None and "overdue" in spec.notify_on:
        ctx.service_send(tell, Notice(to=spec.notify, said=told))


async def _next_of_queue(ctx: ObjectContext, kept: Kept) -> Kept:
    if kept.is_paused or not kept.queued or kept.running:
        return kept
    first, *rest = kept.queued
    return await _start(ctx, msgspec.structs.replace(kept, queued=tuple(rest)), first)


def _called(ctx: Context, fire: Fire, argument: bytes) -> RestateDurableCallFuture[bytes]:
    """The one call of a fire."""
    spec = fire.spec
    if spec.kind != "workflow":
        return ctx.generic_call(spec.service, spec.handler, argument, spec.key, fire.id)
    # By its kind: its code may be in another process, and a call by name alone does not know then
    # that it runs once per key.
    called = Workflow(spec.service)

    @called.main(name=spec.handler, input_serde=BytesSerde(), output_serde=BytesSerde())
    async def run(ctx: WorkflowContext, argument: bytes) -> bytes:
        raise NotImplementedError

    return ctx.workflow_call(run, fire.id, argument)


async def _look(ctx: ObjectContext, kept: Kept, now_ms: int) -> Kept:
    """Start what is due, set the timer, and remember."""
    found = due(ctx.key(), kept.spec, kept.seen_ms, now_ms)
    if kept.running and (found.fires_ms or kept.queued):
        # Once for all of them: what the first of them starts has only just begun.
        kept = await _without_those_over(ctx, kept, kept.running)
    for at_ms in found.fires_ms:
        is_made_up = is_late(ctx.key(), kept.spec, at_ms, now_ms)
        name = run_id(ctx.key(), kept.spec, at_ms)
        kept = await _fire(ctx, kept, name, is_made_up=is_made_up)
    # It stands still after a pause, and when the run before it was killed.
    kept = await _next_of_queue(ctx, kept)
    wake_ms = None if kept.is_paused else found.wake_ms
    kept = msgspec.structs.replace(
        kept,
        seen_ms=found.seen_ms,
        last_fire_ms=found.fires_ms[-1] if found.fires_ms else kept.last_fire_ms,
        missed=kept.missed + found.missed,
        wake_ms=wake_ms,
        generation=kept.generation + 1,
    )
    if wake_ms is not None:
        delay = timedelta(milliseconds=max(wake_ms - now_ms, 0))
        ctx.object_send(wake, ctx.key(), kept.generation, send_delay=delay)
    ctx.set("kept", kept)
    return kept


async def _fire(ctx: ObjectContext, kept: Kept, name: str, *, is_made_up: bool) -> Kept:
    """Start a run, unless one goes on and the schedule says what then.

    Under `all` what is made up for waits for the run before, whatever the overlap: nights that were
    asleep would else skip or cancel each other, though awake none of them had met another.
    """
    if not kept.running and not kept.queued:
        return await _start(ctx, kept, name)
    # Where the queue stands still, its first is to be neither overtaken nor cancelled.
    if (
        not kept.running
        or kept.spec.overlap == "queue"
        or (kept.spec.catch_up == "all" and is_made_up)
    ):
        return msgspec.structs.replace(kept, queued=(*kept.queued, name))
    if kept.spec.overlap == "skip":
        return msgspec.structs.replace(kept, skipped=kept.skipped + 1)
    for one, invocation_id in kept.running.items():
        ctx.cancel_invocation(invocation_id)
        kept = _without(kept, Ended(id=one, failure=f"cancelled for {name}"))
    return await _start(ctx, kept, name)


async def _start(ctx: ObjectContext, kept: Kept, name: str) -> Kept:
    fire = Fire(schedule=ctx.key(), id=name, spec=kept.spec)
    sent = ctx.service_send(run, fire, idempotency_key=name)
    running = {**kept.running, name: await sent.invocation_id()}
    return msgspec.structs.replace(kept, running=running)


async def _without_those_over(ctx: ObjectContext, kept: Kept, names: Iterable[str]) -> Kept:
    """A run of these that was killed has not said that it has ended, and must hold up no other."""
    looks: dict[RestateDurableFuture[Any], str] = {
        ctx.attach_invocation(kept.running[name]): name for name in names
    }
    if not looks:
        return kept
    enough = ctx.sleep(_LOOK)
    while looks:
        completed, _ = await wait_completed(*looks, enough)
        for future in [one for one in looks if one in completed]:
            end = Ended(id=looks.pop(future), failure=await _failure_of(future))
            kept = _without(kept, end)
        if enough in completed:
            break
    return kept


async def _failure_of(over: RestateDurableFuture[bytes]) -> str:
    try:
        await over
    except TerminalError as error:
        return error.message or "failed"
    return ""


def _without(kept: Kept, end: Ended) -> Kept:
    if end.id not in kept.running and end.id not in kept.stalled:
        return kept
    running = {name: one for name, one in kept.running.items() if name != end.id}
    stalled = {name: one for name, one in kept.stalled.items() if name != end.id}
    ended = (*(one for one in kept.ended if one.id != end.id), end)[-_ENDS_KEPT:]
    return msgspec.structs.replace(kept, running=running, stalled=stalled, ended=ended)


async def _kept(ctx: ObjectContext) -> Kept:
    kept = await ctx.get("kept", type_hint=Kept)
    if kept is None:
        raise TerminalError(f"there is no schedule '{ctx.key()}'", 404)
    return kept


async def _now_ms(ctx: Context) -> int:
    return round(await ctx.time() * 1000)


def view(name: str, kept: Kept, now_ms: int) -> dict[str, Any]:
    """What is said of a schedule, with times in its own zone."""
    spec = kept.spec
    overdue_ms = 0 if kept.wake_ms is None else now_ms - kept.wake_ms
    target = "/".join(part for part in (spec.service, spec.key, spec.handler) if part)
    given: Any = None if spec.argument is None else msgspec.json.decode(spec.argument)
    # That all notebooks are runs of one workflow is ours to know.
    is_notebook = spec.service == NOTEBOOK_SERVICE and isinstance(given, dict)
    notebook = given.get("notebook") if is_notebook else None
    return {
        "name": name,
        "when": spec.when,
        "tz": spec.tz,
        "target": target,
        "called": target if notebook is None else notebook,
        "input": given if notebook is None else given.get("parameters"),
        "catch_up": spec.catch_up,
        "max_staleness_ms": spec.max_staleness_ms,
        "overlap": spec.overlap,
        "jitter_ms": spec.jitter_ms,
        "notify": spec.notify,
        "notify_on": [] if spec.notify is None else list(spec.notify_on),
        "paused": kept.is_paused,
        "next": None if kept.wake_ms is None else said(spec, kept.wake_ms),
        "last": None if kept.last_fire_ms is None else said(spec, kept.last_fire_ms),
        "overdue": overdue_ms > OVERDUE_MS,
        "missed": kept.missed,
        "skipped": kept.skipped,
        "running": list(kept.running),
        "stalled": list(kept.stalled),
        "queued": list(kept.queued),
        "ended": [{"id": one.id, "failure": one.failure} for one in kept.ended],
    }
