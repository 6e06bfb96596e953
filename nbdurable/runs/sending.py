"""Send a notebook run: it is journaled, and whoever owns the journal gives it a process."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from nbdurable.client.base import RestateClientSendHandle
from nbdurable.client.engine import EngineClient
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.runs.request import DIGEST, HANDLER, RunRequest
from nbdurable.runs.voice import saying


async def offer_notebooks(client: EngineClient) -> None:
    """Let notebook runs be sent, here and over HTTP; none is run in this process."""
    if NOTEBOOK_SERVICE in {known.name for known in await client.services()}:
        # Papermill may run one in this very process, and has loaded its code.
        return
    await client.register(saying(None), keyed=True, digest=DIGEST, origin="papermill", keys=())


async def send(
    client: EngineClient, key: str, request: RunRequest, delay: timedelta | None = None
) -> RestateClientSendHandle:
    """A key that has a run already is given that one."""
    await offer_notebooks(client)
    return await client.generic_send(
        NOTEBOOK_SERVICE, HANDLER, msgspec.json.encode(request), key, delay
    )
