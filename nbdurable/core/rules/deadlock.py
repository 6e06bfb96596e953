"""Found before it happens: a call that would wait for its own caller.

The waits-for graph has two kinds of edges: an invocation waits for those it called, and one in an
inbox waits for whoever holds the lock. A cycle can only close when something is about to wait, so
that is when it is looked for.

Restate lets both hang until somebody cancels one (restate-semantics.md, 1.1; design, section 6.7).
"""

from __future__ import annotations

from collections.abc import Iterator

from nbdurable.core.draft import Draft
from nbdurable.core.ids import InvocationId
from nbdurable.core.state import Invocation
from nbdurable.core.values import Failure, Target


def refuse_deadlock(draft: Draft, caller: Invocation, awaited: InvocationId) -> Failure | None:
    """Why `caller` must not wait for an invocation that is there already; None when it may."""
    live = draft.live(awaited)
    chain = None if live is None else _path(draft, live, caller)
    return None if chain is None else _refusal([caller, *chain])


def refuse_queueing(draft: Draft, caller: Invocation, target: Target) -> Failure | None:
    """Why `caller` must not wait for a new invocation of this exclusive handler."""
    obj = None if target.object is None else draft.state.objects.get(target.object)
    holder = None if obj is None or obj.holder is None else draft.live(obj.holder)
    chain = None if holder is None else _path(draft, holder, caller)
    return None if chain is None else _refusal([caller, *chain], target)


def _path(draft: Draft, start: Invocation, goal: Invocation) -> list[Invocation] | None:
    came_from: dict[InvocationId, InvocationId | None] = {start.id: None}
    rest = [start]
    while rest:
        here = rest.pop()
        if here.id == goal.id:
            return _unwind(draft, came_from, here.id)
        for awaited in _waits_for(draft, here):
            if awaited.id not in came_from:
                came_from[awaited.id] = here.id
                rest.append(awaited)
    return None


def _waits_for(draft: Draft, inv: Invocation) -> Iterator[Invocation]:
    for called in inv.open_calls.values():
        live = draft.live(called)
        if live is not None:
            yield live
    obj = draft.state.objects.get(inv.object) if inv.status == "pending" and inv.object else None
    holder = None if obj is None or obj.holder is None else draft.live(obj.holder)
    if holder is not None:
        yield holder


def _unwind(
    draft: Draft, came_from: dict[InvocationId, InvocationId | None], end: InvocationId
) -> list[Invocation]:
    chain: list[Invocation] = []
    here: InvocationId | None = end
    while here is not None:
        chain.append(draft.state.invocations[here])
        here = came_from[here]
    return chain[::-1]


def _refusal(chain: list[Invocation], target: Target | None = None) -> Failure:
    names = [str(inv.target) for inv in chain]
    if target is not None:
        names.insert(1, str(target))
    shown = " → ".join(dict.fromkeys(names[:-1])) + f" → {names[-1]}"
    return Failure(
        code=409,
        message=f"deadlock: {shown} would wait for each other without an end. Send instead of"
        " calling, call a shared handler, or do the work without the call.",
    )
