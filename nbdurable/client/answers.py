"""A person's answer to a durable promise, the same from a button and from a magic."""

from __future__ import annotations

from typing import Final

from nbdurable.client.engine import EngineClient
from nbdurable.client.views import InvocationView

APPROVED: Final = True
REJECTED_MESSAGE: Final = "rejected by a person"
# HTTP's word for "understood, and refused": not 409, which is a cancelled run's.
REJECTED_CODE: Final = 403


async def approve(client: EngineClient, view: InvocationView, promise: str) -> None:
    """Raises ConflictError when the promise was answered before."""
    assert view.key is not None, "only workflows have promises, and they have keys"
    await client.resolve_promise(view.service, view.key, promise, APPROVED)


async def reject(
    client: EngineClient, view: InvocationView, promise: str, message: str = REJECTED_MESSAGE
) -> None:
    """The handler's await raises TerminalError. Raises ConflictError when answered before."""
    assert view.key is not None, "only workflows have promises, and they have keys"
    await client.reject_promise(view.service, view.key, promise, message, REJECTED_CODE)
