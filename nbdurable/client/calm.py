"""Whether an engine that serves nobody could as well not run: what `up --idle-exit` asks."""

from __future__ import annotations

from typing import NamedTuple

from nbdurable.core.builtin import SCHEDULE_SERVICE
from nbdurable.core.state import EngineState, Invocation
from nbdurable.engine.loop import Engine


class Calm(NamedTuple):
    """`last_lsn` tells two moments apart between which something has happened."""

    is_calm: bool
    last_lsn: int


def calm_of(engine: Engine, own_link: str, until_ms: int) -> Calm:
    """On the engine's thread. Calm: no other process is linked, nothing runs or is due by then.

    Who waits for a person, or for code that is not here, waits as well in a file.
    """
    state = engine.machine.state
    is_calm = engine.links <= {own_link} and not any(
        _needs_us(state, inv, until_ms) for inv in state.invocations.values()
    )
    return Calm(is_calm, state.last_lsn)


def _needs_us(state: EngineState, inv: Invocation, until_ms: int) -> bool:
    match inv.status:
        case "running":
            return True
        case "ready":
            return bool(state.links_for(inv))
        case "scheduled":
            # A schedule counts on us however long it waits: it was promised that something runs.
            is_schedule = inv.target.service == SCHEDULE_SERVICE
            return inv.start_at_ms is not None and (is_schedule or inv.start_at_ms <= until_ms)
        case "backing-off":
            return inv.next_retry_at_ms is not None and inv.next_retry_at_ms <= until_ms
        case "suspended":
            return any(at_ms <= until_ms for at_ms in inv.sleeping.values())
        case _:
            return False
