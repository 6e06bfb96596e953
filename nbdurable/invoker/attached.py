"""The link to an owner in another process: one WebSocket, over which handlers here are run.

    engine --orders--> owner's side (server/links.py) ==frames==> here --orders--> LocalLink
    engine <-proposals- owner's side                  <==frames== here <-proposals- LocalLink

The handlers run here exactly as in the owner: the same `LocalLink` obeys, whoever gives the orders.
When the link is lost its attempts are closed without recording anything; the engine starts the next
ones where their code is.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, assert_never

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from nbdurable import __version__
from nbdurable.core.proposals import AttemptSteps, Proposal
from nbdurable.engine.mailbox import Mailbox
from nbdurable.errors import LinkLostError, NbdurableError
from nbdurable.invoker.frames import (
    PROTOCOL,
    AssignRevision,
    Deliver,
    Did,
    Down,
    Hello,
    Order,
    Raised,
    Reply,
    RetryRun,
    StartAttempt,
    StopAll,
    StopAttempt,
    Told,
    Up,
    Welcome,
    decode_down,
    encode,
)
from nbdurable.invoker.local import LocalLink

logger = logging.getLogger("nbdurable.link")

# An owner on this machine answers in milliseconds, unless it is being killed.
OPEN_S_MAX: Final = 5.0
# A socket tells at once that a process is gone; this is for one that hangs. Code that holds the GIL
# for so long is rare, and loses no more than its attempts.
PING_EVERY_S: Final = 20.0
PONG_S_MAX: Final = 60.0
# With this code the owner refuses for good, and says why.
REFUSED_CODE: Final = 4400
# Of HTTP, before there is a link: it answers, so to wait and ask again would change nothing.
_REFUSED: Final = frozenset({401, 403})


class Attachment:
    """Mutable; owned by the loop it is opened on. `send` and `post` are for any thread."""

    def __init__(self, socket: ClientConnection, hands: LocalLink) -> None:
        self.epoch = 0
        self.name = ""
        self._socket = socket
        self._hands = hands
        self._outbox: Mailbox[bytes] = Mailbox(asyncio.get_running_loop())
        self._is_lost = False

    def __repr__(self) -> str:
        return f"<Attachment {self.name or 'not welcomed yet'}, epoch {self.epoch}>"

    @classmethod
    async def open(
        cls,
        url: str,
        headers: Mapping[str, str],
        hands: LocalLink,
        *,
        token_file: Path | None = None,
        program: str = "",
        slots: int | None = None,
    ) -> Attachment:
        """Say who we are and be welcomed.

        Raises:
            LinkLostError: Nobody is there, or nobody who answers.
            NbdurableError: The owner refuses, or does not take the token of `token_file`.
        """
        try:
            socket = await connect(
                url,
                additional_headers=dict(headers),
                # Loopback needs neither; what comes down has been bounded when it was recorded.
                proxy=None,
                compression=None,
                max_size=None,
                open_timeout=OPEN_S_MAX,
                ping_interval=PING_EVERY_S,
                ping_timeout=PONG_S_MAX,
                close_timeout=1,
                user_agent_header=None,
                logger=logger,
            )
        except (OSError, TimeoutError, InvalidHandshake) as error:
            if isinstance(error, InvalidStatus) and error.response.status_code in _REFUSED:
                raise _not_let_in(url, error.response.status_code, token_file) from None
            raise LinkLostError(f"the owner of the journal does not answer: {error}") from None
        attachment = cls(socket, hands)
        hello = Hello(
            protocol=PROTOCOL, version=__version__, pid=os.getpid(), program=program, slots=slots
        )
        try:
            async with asyncio.timeout(OPEN_S_MAX):
                await socket.send(encode(hello))
                attachment._welcome(decode_down(_bytes(await socket.recv())))
        except BaseException as error:
            await socket.close()
            if isinstance(error, ConnectionClosed | TimeoutError):
                raise _lost(error) from None
            raise
        return attachment

    def descriptor(self) -> int:
        """Of the socket; -1 when that is closed."""
        known = self._socket.transport.get_extra_info("socket")
        return -1 if known is None else int(known.fileno())

    def send(self, frame: Up) -> None:
        """Raises LinkLostError when nothing can be sent any more."""
        if self._is_lost:
            raise LinkLostError("the owner of the journal is gone")
        # Here, because what cannot be written is the fault of whoever sends it.
        message = encode(frame)
        try:
            self._outbox.put(message)
        except RuntimeError:
            raise LinkLostError("this process is closing its link to the owner") from None

    def post(self, proposal: Proposal) -> None:
        """What attempts propose; raises as `send` does."""
        assert isinstance(proposal, AttemptSteps), proposal
        self.send(Did(steps=msgspec.Raw(encode(proposal))))

    async def run(self, heard: Callable[[Reply], None]) -> None:
        """Carry frames until the link is lost; then stop every attempt that it has started.

        `heard` is told, on this loop, what is answered to proposals and questions.
        """
        sending = asyncio.create_task(self._send_all())
        try:
            while True:
                frame = decode_down(_bytes(await self._socket.recv()))
                if isinstance(frame, Told | Raised):
                    heard(frame)
                else:
                    self._obey(frame)
        except ConnectionClosed as error:
            logger.debug("the link is lost: %s", error)
        except msgspec.MsgspecError as error:
            logger.warning("the owner says what this version does not understand: %s", error)
        finally:
            self._is_lost = True
            sending.cancel()
            self._hands.stop_all("the link to the owner is lost")
            with suppress(OSError):
                await self._socket.close()

    async def close(self) -> None:
        """Let `run` end."""
        self._is_lost = True
        await self._socket.close()

    async def _send_all(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                for message in await self._outbox.take():
                    await self._socket.send(message)

    def _welcome(self, frame: Down) -> None:
        if not isinstance(frame, Welcome):
            raise NbdurableError(f"the owner of the journal answers {type(frame).__name__}")
        self.epoch, self.name = frame.epoch, frame.link

    def _obey(self, frame: Order | Welcome) -> None:
        hands = self._hands
        match frame:
            case AssignRevision(service=service, digest=digest, revision=revision):
                hands.assign_revision(service, digest, revision)
            case StartAttempt(start=start):
                hands.start_attempt(start)
            case Deliver(invocation_id=invocation_id, attempt=attempt, entries=entries):
                hands.deliver(invocation_id, attempt, entries)
            case RetryRun(invocation_id=invocation_id, attempt=attempt, failed=failed):
                hands.retry_run(invocation_id, attempt, failed)
            case StopAttempt(invocation_id=invocation_id, attempt=attempt, why=why):
                hands.stop_attempt(invocation_id, attempt, why)
            case StopAll(why=why):
                hands.stop_all(why)
            case Welcome():
                raise msgspec.ValidationError("a second welcome")
            case _:
                assert_never(frame)


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def _not_let_in(url: str, status: int, token_file: Path | None) -> NbdurableError:
    shown = "no token" if token_file is None else f"the token in {token_file}"
    return NbdurableError(
        f"the owner of the journal answers at {url}, and does not let us in with {shown}"
        f" ({status}). The file may have been changed since it was started: put the token back, or"
        " restart the owner"
    )


def _lost(error: ConnectionClosed | TimeoutError) -> NbdurableError:
    close = error.rcvd if isinstance(error, ConnectionClosed) else None
    if close is not None and close.code == REFUSED_CODE:
        return NbdurableError(close.reason)
    return LinkLostError(f"the owner of the journal does not answer: {error}")
