"""How a run stands, in the words that people are told. Pure: of one run, as the engine has it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from nbdurable.client.views import invocation_view
from nbdurable.core.facts import Completed
from nbdurable.core.state import EngineState, Invocation

Event = Literal["failed", "suspended", "completed", "overdue"]
EVENTS: Final = ("failed", "suspended", "completed", "overdue")
# Services of our own: of what they do people are told by what it is done for.
OURS: Final = "Nbdurable"

# Asked of every run at each of its commits, and no more of most of them.
_STANDS: Final = frozenset(("completed", "paused", "suspended"))


class Standing(NamedTuple):
    """`token`: the same for the same event, whoever looks, and however often.

    `is_over`: nothing more is to be heard of it.
    """

    event: Event
    token: str
    why: str
    is_over: bool


def standing_of(state: EngineState, inv: Invocation | Completed) -> Standing | None:
    """None while it runs, sleeps, or is paused because somebody wanted that."""
    if inv.status not in _STANDS or inv.target.service.startswith(OURS):
        return None
    view = invocation_view(state, inv)
    event: Event
    match inv.status:
        case "completed":
            event, why = ("completed", "") if view.succeeded else ("failed", view.failure or "")
        case "paused" if view.paused_by in ("retries", "error"):
            event, why = "failed", view.failure or "it is paused"
        case "suspended" if view.open_promises or view.open_awakeables:
            asked = ", ".join(view.open_promises) or "an awakeable"
            event, why = "suspended", f"waits for {asked}"
        case _:
            return None
    token = f"{inv.id}/{inv.seed}/{event}/{inv.attempt}"
    return Standing(event, token, why, view.is_done)
