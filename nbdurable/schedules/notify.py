"""Tell somebody how a run stands: a webhook is posted to, a command reads it; both as JSON.

from nbdurable: {"event": "failed", "target": "Report/build", "failure": "no ink", …}
"""

from __future__ import annotations

import json
import shlex
import subprocess
import urllib.request
from datetime import timedelta
from typing import Any, Final

import msgspec

from nbdurable.core.builtin import NOTICE_SERVICE
from nbdurable.errors import CANCELLED_CODE, TerminalError
from nbdurable.sdk.context import Context
from nbdurable.sdk.options import RunOptions
from nbdurable.sdk.service import Service
from nbdurable.settings.said import notify_here

_TRIES: Final[RunOptions[None]] = RunOptions(
    max_attempts=5, initial_retry_interval=timedelta(seconds=1)
)
# A place that takes longer is as good as gone, and is tried again.
_PATIENCE_S: Final = 30

NOTICES: Final = Service(NOTICE_SERVICE)
# Before the name of a handler, as in `handler:Ops/told` and `handler:Ops/ada/told`.
HANDLER: Final = "handler:"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told, and what. `to`: None is whom the settings name, if they want to know."""

    said: dict[str, Any]
    to: str | None = None


@NOTICES.handler()
async def tell(ctx: Context, notice: Notice) -> None:
    to = notice.to
    if to is None:
        to = await ctx.run_typed("whom", whom, event=notice.said["event"])
    if to is not None:
        await notify(ctx, to, notice.said)


def whom(event: str) -> str | None:
    options = notify_here()
    return None if options is None or event not in options.on else options.to


async def notify(ctx: Context, to: str, said: dict[str, Any]) -> None:
    """As a step, with retries; in the end who cannot be told is not, and the run is none the worse.

    At-least-once: a process that dies between telling and recording tells again. A handler is sent
    it, and so has it once.
    """
    if to.startswith(HANDLER):
        called = to.removeprefix(HANDLER)
        service, _, rest = called.partition("/")
        key, slash, handler = rest.rpartition("/")
        ctx.generic_send(service, handler, json.dumps(said).encode(), key if slash else None)
        return
    try:
        await ctx.run_typed(f"notify {said['event']}", deliver, _TRIES, to, said)
    except TerminalError as error:
        if error.status_code == CANCELLED_CODE:
            raise


def deliver(to: str, said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    if to.startswith(("http://", "https://")):
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(to, body, headers, method="POST")  # noqa: S310 - checked above.
        with urllib.request.urlopen(request, timeout=_PATIENCE_S):  # noqa: S310 - the same.
            return
    # The user's own command, without a shell. As a line: what is told is often kept in a file.
    line = body + b"\n"
    subprocess.run(shlex.split(to), input=line, check=True, timeout=_PATIENCE_S)  # noqa: S603
