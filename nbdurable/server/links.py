"""The owner's side of attached links: other processes of the project, each over one WebSocket.

Whoever joins shows the token like everybody else, and comes from no page. It says who it is, and
becomes a link of the engine: orders go down as frames, what its attempts did comes up, and so do
proposals and questions of its clients. What comes up is decoded into values of `core`, by type, and
never unpickled. When the socket closes the link is closed, and its attempts are lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, NoReturn, assert_never

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from nbdurable import __version__
from nbdurable.client.access import LocalAccess, watch_on
from nbdurable.client.found_json import found_json
from nbdurable.client.questions import AnyQuestion, Question
from nbdurable.core.ids import InvocationId
from nbdurable.core.journal import AttemptStart, FailedRun, JournalEntry
from nbdurable.core.proposals import (
    Answer,
    AttemptSteps,
    CloseLink,
    Invoke,
    LoadCode,
    OpenLink,
    Refused,
    Stale,
)
from nbdurable.engine.loop import Engine
from nbdurable.engine.mailbox import Mailbox
from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import NbdurableError
from nbdurable.invoker.attached import PING_EVERY_S, PONG_S_MAX, REFUSED_CODE
from nbdurable.invoker.frames import (
    LINK_PATH,
    PROTOCOL,
    Ask,
    AssignRevision,
    Attach,
    Deliver,
    Did,
    Down,
    Hello,
    Leave,
    Propose,
    Query,
    Raised,
    RetryRun,
    StartAttempt,
    StopAll,
    StopAttempt,
    Told,
    Up,
    Watch,
    Welcome,
    decode_proposal,
    decode_steps,
    decode_up,
    decoded,
    encode,
)
from nbdurable.server.answers import Message, Receive, Scope, Send, admin_error
from nbdurable.server.auth import Guard, Refusal, headers_of
from nbdurable.server.query import Asked

logger = logging.getLogger("nbdurable.server")

# From the handshake to the first frame.
HELLO_S_MAX: Final = 10.0
# It has shown the token, so this bounds a broken process and not a stranger: the steps of one
# attempt that travel together may hold several values of 32 MiB.
FRAME_BYTES_MAX: Final = 1024 * 1024 * 1024

# Source: RFC 6455, section 7.4.1.
GOING_AWAY: Final = 1001

_question = msgspec.msgpack.Decoder(AnyQuestion)


class LinkConnection(WebSocketsSansIOProtocol):
    """uvicorn's, without lines in the user's log, and with its bounds set for a link."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = logging.getLogger("nbdurable.server.links")
        self.conn.logger = self.logger
        # Told once for each link, which is the concern of nobody who reads a log.
        self.logger.setLevel(logging.WARNING)

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as uvicorn's, which types it.
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # A refusal is an end as well; uvicorn logs it as a handshake that was forgotten.
            self.handshake_complete = True


class Links:
    """An application of ASGI for WebSockets. Stateless; on the loop of its server."""

    def __init__(self, engine: Engine, guard: Guard) -> None:
        self._engine = engine
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refuse(scope)
        if refusal is not None:
            await _refuse(refusal, send)
            return
        link = _Joined(self._engine, receive, send)
        try:
            await link.live()
        except _Left:
            return
        except msgspec.MsgspecError as error:
            logger.warning("a process that joined says what is no frame: %s", error)
            await _close(send, REFUSED_CODE, "this is no frame of a link")
        except (asyncio.CancelledError, NbdurableError):
            # The server is closing, or the engine has: whoever joined looks for the next owner.
            await _close(send, GOING_AWAY)

    def _refuse(self, scope: Scope) -> Refusal | None:
        raw = scope["headers"]
        refusal = self._guard.refuse(headers_of(raw), len(raw))
        if refusal is None and scope["path"] != LINK_PATH:
            return Refusal(404, f"there is no link at {scope['path']}")
        return refusal


class RemoteLink:
    """The engine's link to a process that has joined. Its orders go out in the order given."""

    def __init__(self, name: str, outbox: Mailbox[Down | tuple[int, object]]) -> None:
        self.name = name
        self._outbox = outbox

    def __repr__(self) -> str:
        return f"<RemoteLink {self.name}>"

    def assign_revision(self, service: str, digest: str, revision: int) -> None:
        self._order(AssignRevision(service=service, digest=digest, revision=revision))

    def start_attempt(self, start: AttemptStart) -> None:
        self._order(StartAttempt(start=start))

    def deliver(
        self, invocation_id: InvocationId, attempt: int, entries: Sequence[JournalEntry]
    ) -> None:
        self._order(Deliver(invocation_id=invocation_id, attempt=attempt, entries=tuple(entries)))

    def retry_run(self, invocation_id: InvocationId, attempt: int, failed: FailedRun) -> None:
        self._order(RetryRun(invocation_id=invocation_id, attempt=attempt, failed=failed))

    def stop_attempt(self, invocation_id: InvocationId, attempt: int, why: str) -> None:
        self._order(StopAttempt(invocation_id=invocation_id, attempt=attempt, why=why))

    def stop_all(self, why: str) -> None:
        self._order(StopAll(why=why))

    def _order(self, order: Down) -> None:
        # Once the server's loop is closed nobody is left to obey.
        with suppress(RuntimeError):
            self._outbox.put(order)


class _Left(Exception):
    """The other end has closed the socket, or was hung up on."""


class _Joined:
    """Mutable: one process that has joined, for as long as its socket is open."""

    def __init__(self, engine: Engine, receive: Receive, send: Send) -> None:
        self._engine = engine
        self._access = LocalAccess(engine)
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._outbox: Mailbox[Down | tuple[int, object]] = Mailbox(self._loop)
        # What is not answered yet, by the id of its request.
        self._waiting: dict[int, Future[Any]] = {}
        self._watching: dict[int, Future[Callable[[], None]]] = {}

    async def live(self) -> None:
        """Be welcomed, carry frames both ways until the socket closes, and end the link."""
        hello = await self._hello()
        # A process that comes back is another link: what ends the old one must not end this.
        link = RemoteLink(f"attached-{hello.pid}-{secrets.token_hex(3)}", self._outbox)
        self._link = link
        await asyncio.wrap_future(self._engine.add_link(link))
        sending: asyncio.Task[None] | None = None
        try:
            opening = OpenLink(link=link.name, slots=hello.slots)
            await asyncio.wrap_future(self._engine.propose(opening))
            epoch = await asyncio.wrap_future(
                self._engine.ask(lambda: self._engine.machine.state.epoch)
            )
            await self._put(Welcome(epoch=epoch, link=link.name))
            sending = asyncio.create_task(self._send_all())
            while True:
                self._hear(await self._frame())
        finally:
            if sending is not None:
                sending.cancel()
            # The engine may be gone before its links are.
            with suppress(NbdurableError, RuntimeError):
                self._engine.post(CloseLink(link=link.name))
            for id_ in [*self._waiting, *self._watching]:
                self._leave(id_)

    async def _hello(self) -> Hello:
        first = await self._receive()
        assert first["type"] == "websocket.connect", first
        await self._send({"type": "websocket.accept"})
        try:
            async with asyncio.timeout(HELLO_S_MAX):
                hello = await self._frame()
        except TimeoutError:
            await self._hang_up("it did not say who it is")
        if not isinstance(hello, Hello):
            await self._hang_up("the first frame is not a Hello")
        if hello.protocol != PROTOCOL:
            await self._hang_up(
                f"the owner is nbdurable {__version__} and cannot work with {hello.version}: use"
                " one version in a project"
            )
        return hello

    async def _hang_up(self, why: str) -> NoReturn:
        await _close(self._send, REFUSED_CODE, why)
        raise _Left

    async def _frame(self) -> Up:
        message: Message = await self._receive()
        if message["type"] != "websocket.receive":
            raise _Left
        return decode_up(message.get("bytes") or b"")

    async def _put(self, frame: Down) -> None:
        await self._send({"type": "websocket.send", "bytes": encode(frame)})

    async def _send_all(self) -> None:
        """A socket that is gone is noticed by whoever receives."""
        with suppress(Exception):  # border: the server's socket.
            while True:
                for frame in await self._outbox.take():
                    if isinstance(frame, tuple):
                        id_, value = frame
                        frame = Told(id=id_, value=msgspec.Raw(encode(value)))  # noqa: PLW2901 - as it goes out.
                    await self._put(frame)

    def _hear(self, frame: Up) -> None:
        match frame:
            case Did(steps=raw):
                steps = decode_steps(raw)
                self._engine.submit(steps, _Fenced(self._link, steps))
            case Propose(id=id_, proposal=raw):
                self._propose(id_, raw)
            case Ask(id=id_, question=raw):
                self._answer(id_, self._access.ask(decoded(_question, raw)))
            case Query():
                asking = asyncio.run_coroutine_threadsafe(self._query(frame), self._loop)
                self._answer(frame.id, asking)
            case Attach(id=id_, invocation_id=invocation_id):
                self._answer(id_, self._engine.attach(invocation_id))
            case Watch(id=id_, question=raw):
                self._watch(id_, decoded(_question, raw))
            case Leave(id=id_):
                self._leave(id_)
            case Hello():
                raise _Left
            case _:
                assert_never(frame)

    async def _query(self, asked: Query) -> bytes:
        question = msgspec.json.decode(asked.question, type=Asked)
        limits = AnswerLimits(asked.time_ms, asked.rows_max, asked.bytes_max)
        found = await self._access.query(question.query, question.parameters, limits)
        return await asyncio.to_thread(found_json, found)

    def _propose(self, id_: int, raw: msgspec.Raw) -> None:
        try:
            proposal = decode_proposal(raw)
        except msgspec.MsgspecError as error:
            self._outbox.put((id_, Refused(code=400, message=f"it cannot be recorded: {error}")))
            return
        if isinstance(proposal, LoadCode | Invoke):
            # What is offered or asked over this link can be run over it, and its name is ours.
            proposal = msgspec.structs.replace(proposal, link=self._link.name)
        self._answer(id_, self._engine.propose(proposal))

    def _answer(self, id_: int, asked: Future[Any]) -> None:
        self._waiting[id_] = asked

        def answered(reply: Future[Any]) -> None:
            self._waiting.pop(id_, None)
            if reply.cancelled():
                return
            error = reply.exception()
            with suppress(RuntimeError):
                self._outbox.put((id_, reply.result()) if error is None else _raised(id_, error))

        asked.add_done_callback(answered)

    def _watch(self, id_: int, question: Question[Any]) -> None:
        def listener(answer: object) -> None:
            with suppress(RuntimeError):
                self._outbox.put((id_, answer))

        self._watching[id_] = self._engine.ask(lambda: watch_on(self._engine, question, listener))

    def _leave(self, id_: int) -> None:
        waiting = self._waiting.pop(id_, None)
        if waiting is not None:
            waiting.cancel()
        watching = self._watching.pop(id_, None)
        if watching is not None:
            watching.add_done_callback(self._unwatch)

    def _unwatch(self, begun: Future[Callable[[], None]]) -> None:
        """On the engine's thread, which owns the feed."""
        if not begun.cancelled() and begun.exception() is None:
            end = begun.result()
            with suppress(NbdurableError, RuntimeError):
                self._engine.ask(end)


class _Fenced:
    """What an attempt did is not answered; one that is stale is told to stop."""

    def __init__(self, link: RemoteLink, steps: AttemptSteps) -> None:
        self._link = link
        self._steps = steps

    def done(self) -> bool:
        return False

    def set_running_or_notify_cancel(self) -> bool:
        return True

    def set_result(self, result: Answer) -> None:
        if isinstance(result, Stale):
            why = "stale: another attempt is the live one"
            self._link.stop_attempt(self._steps.invocation_id, self._steps.attempt, why)

    def set_exception(self, error: BaseException) -> None:
        """The engine is gone; so is this link, soon."""


def _raised(id_: int, error: BaseException) -> Raised:
    status = getattr(error, "status_code", 500)
    message = getattr(error, "message", None) or str(error)
    return Raised(id=id_, name=type(error).__name__, message=message, status=status)


async def _close(send: Send, code: int, reason: str = "") -> None:
    """The socket may be gone already."""
    with suppress(Exception):  # border: the server's socket.
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def _refuse(refusal: Refusal, send: Send) -> None:
    """In HTTP's words, before the handshake."""
    answer = admin_error(*refusal)
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    start = {"type": "websocket.http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": answer.body})


def websocket_settings() -> dict[str, Any]:
    """Of uvicorn's, for a listener that takes links."""
    return {
        "ws": LinkConnection,
        "ws_max_size": FRAME_BYTES_MAX,
        "ws_ping_interval": PING_EVERY_S,
        "ws_ping_timeout": PONG_S_MAX,
        "ws_per_message_deflate": False,
    }
