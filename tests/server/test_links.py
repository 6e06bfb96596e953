"""The door for other processes of the project: who may join, and what comes of what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import nbdurable
from nbdurable import Context, Service, Serving
from nbdurable.client.questions import AllInvocations
from nbdurable.client.views import InvocationView
from nbdurable.core.attempt import ref_of
from nbdurable.core.commands import OutputCommand, RunCommand
from nbdurable.core.ids import random_invocation_id
from nbdurable.core.manifest import HandlerManifest, ServiceManifest
from nbdurable.core.proposals import (
    AppendCommand,
    AttemptSteps,
    CompleteRun,
    Invoke,
    LoadCode,
    StartEpoch,
)
from nbdurable.core.values import Failure, Success, Target
from nbdurable.invoker.frames import (
    LINK_PATH,
    PROTOCOL,
    Ask,
    Did,
    Down,
    Hello,
    Propose,
    StartAttempt,
    StopAttempt,
    Told,
    Up,
    Welcome,
    decode_down,
    encode,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

ANSWER_S_MAX = 20.0
HELLO = Hello(protocol=PROTOCOL, version="0", pid=7, program="a test")
GREETER = ServiceManifest(
    name="Greeter", type="service", handlers=(HandlerManifest(name="greet"),), digest="v1"
)


@pytest.fixture
def opened() -> Iterator[DurableEngine]:
    with SyncDurableEngine(DurableEngine(store=MemoryStore())) as engine:
        owned = engine.opened.owned
        yield owned


@pytest.fixture
def serving(opened: DurableEngine) -> Iterator[Serving]:
    with nbdurable.serve(opened) as serving:
        yield serving


class Process:
    """What joins. Mutable: the frames that came and were not asked for yet."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._heard: list[Down] = []

    def say(self, frame: Up) -> None:
        self.socket.send(encode(frame))

    def hear(self) -> Down:
        message = self.socket.recv(ANSWER_S_MAX)
        assert isinstance(message, bytes)
        return decode_down(message)

    def until(self, kind: type[Any]) -> Any:
        for frame in self._heard:
            if isinstance(frame, kind):
                self._heard.remove(frame)
                return frame
        while not isinstance(frame := self.hear(), kind):
            self._heard.append(frame)
        return frame

    def propose(self, proposal: Any) -> Any:
        self.say(Propose(id=1, proposal=msgspec.Raw(encode(proposal))))
        return msgspec.msgpack.decode(self.until(Told).value)

    def views(self) -> list[InvocationView]:
        self.say(Ask(id=2, question=msgspec.Raw(encode(AllInvocations()))))
        told = self.until(Told)
        return msgspec.msgpack.decode(told.value, type=list[InvocationView])


@contextmanager
def joining(
    serving: Serving, *, path: str = LINK_PATH, token: str | None = None, **more: Any
) -> Iterator[Process]:
    bearer = {"authorization": f"Bearer {serving.token if token is None else token}"}
    headers = {**(bearer if token != "" else {}), **more.pop("headers", {})}
    url = serving.admin_url.replace("http", "ws", 1) + path
    with connect(url, additional_headers=headers, proxy=None, **more) as socket:
        yield Process(socket)


@pytest.fixture
def process(serving: Serving) -> Iterator[Process]:
    """One that was welcomed and offers the code of Greeter."""
    with joining(serving) as process:
        process.say(HELLO)
        assert isinstance(process.hear(), Welcome)
        process.propose(LoadCode(link="whatever it says", manifest=GREETER))
        yield process


def called(seed: int = 1) -> Invoke:
    return Invoke(
        invocation_id=random_invocation_id(seed),
        seed=seed,
        target=Target(service="Greeter", handler="greet"),
        argument=ref_of(b'"ada"'),
        payload=b'"ada"',
    )


def done(start: Any, result: bytes = b'"hello"', **other: Any) -> Did:
    output = OutputCommand(result=Success(value=ref_of(result)))
    fields = {
        "epoch": start.epoch,
        "invocation_id": start.invocation_id,
        "seed": start.seed,
        "attempt": start.attempt,
        "steps": (AppendCommand(command=output, payload=result),),
    } | other
    return Did(steps=msgspec.Raw(encode(AttemptSteps(**fields))))


# -- who may join ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"token": ""}, 401),
        ({"token": "wrong"}, 401),
        ({"headers": {"origin": "http://evil.example"}}, 403),
        ({"headers": {"sec-fetch-site": "cross-site"}}, 403),
        ({"path": "/nbdurable/elsewhere"}, 404),
    ],
)
def test_strangers_and_pages_are_refused_before_the_handshake(
    serving: Serving, caplog: pytest.LogCaptureFixture, how: dict[str, Any], status: int
):
    """A WebSocket asks no page's browser for permission first, so Origin must be looked at.

    It is no concern of whoever reads the log, which a stranger could fill.
    """
    with pytest.raises(InvalidStatus) as raised, joining(serving, **how):
        pass
    assert raised.value.response.status_code == status
    assert caplog.records == []


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (msgspec.structs.replace(HELLO, protocol=PROTOCOL + 1), "use one version in a project"),
        (Ask(id=1, question=msgspec.Raw(b"\xc0")), "not a Hello"),
    ],
)
def test_who_does_not_say_hello_as_expected_is_told_why(serving: Serving, first: Up, why: str):
    with joining(serving) as process:
        process.say(first)
        with pytest.raises(ConnectionClosed) as raised:
            process.hear()
    assert raised.value.rcvd is not None
    assert why in raised.value.rcvd.reason


# -- what it may say ------------------------------------------------------------------------------


def test_an_invocation_is_run_by_the_process_that_has_the_code(
    serving: Serving, opened: DurableEngine, process: Process
):
    process.propose(called())
    start = process.until(StartAttempt).start
    assert (start.argument, start.attempt) == (b'"ada"', 1)
    process.say(done(start))
    assert opened.client.wait(opened.client.attach(start.invocation_id)) == "hello"


@pytest.mark.parametrize("other", [{"epoch": 99}, {"attempt": 99}, {"seed": 99}])
def test_what_is_of_another_epoch_attempt_or_life_is_stale_and_changes_nothing(
    process: Process, other: dict[str, int]
):
    process.propose(called())
    start = process.until(StartAttempt).start
    process.say(done(start, b'"stale"', **other))
    stopped = process.until(StopAttempt)
    assert stopped.why.startswith("stale")
    (view,) = process.views()
    assert (view.status, view.entry_count) == ("running", 1)
    process.say(done(start))


@pytest.mark.parametrize("proposal", [StartEpoch(owner="me", version="0"), {"type": "Nothing"}])
def test_what_is_the_owners_own_affair_cannot_be_proposed(process: Process, proposal: Any):
    assert process.propose(proposal)["code"] == 400


def test_steps_that_cannot_be_recorded_end_their_attempt_only(process: Process):
    """A process that said them again and again would never be rid of them."""
    process.propose(called())
    start = process.until(StartAttempt).start
    steps = AttemptSteps(
        epoch=start.epoch,
        invocation_id=start.invocation_id,
        seed=start.seed,
        attempt=start.attempt,
        steps=(
            AppendCommand(command=RunCommand(completion_id=1, name="step")),
            CompleteRun(completion_id=1, result=Failure(code="500", message="x")),  # type: ignore[arg-type]
        ),
    )
    process.say(Did(steps=msgspec.Raw(encode(steps))))
    (view,) = process.views()
    assert view.status == "paused"
    assert "cannot be recorded" in str(view.failure)


@pytest.mark.parametrize("payload", [None, b'"hallo"', b""])
def test_a_payload_that_is_not_as_described_is_not_recorded(
    opened: DurableEngine, process: Process, payload: bytes | None
):
    """Whoever looked for it later once ended the engine."""
    process.propose(called())
    start = process.until(StartAttempt).start
    output = OutputCommand(result=Success(value=ref_of(b'"hello"')))
    process.say(done(start, steps=(AppendCommand(command=output, payload=payload),)))
    (view,) = process.views()
    assert view.status == "paused"
    assert "its payload is not the one that it describes" in str(view.failure)
    wrong = msgspec.structs.replace(called(2), payload=b'"bob"')
    assert process.propose(wrong)["code"] == 400


@pytest.mark.parametrize("message", [b"", b"\x80\x04N.", b"{}", b"\xff" * 100])
def test_what_is_no_frame_ends_the_link_and_nothing_else(
    serving: Serving, opened: DurableEngine, message: bytes, caplog: pytest.LogCaptureFixture
):
    with joining(serving) as process:
        process.say(HELLO)
        process.until(Welcome)
        process.socket.send(message)
        with pytest.raises(ConnectionClosed):
            process.hear()
    assert opened.client.wait(opened.client.services()) == []


# -- when it goes ---------------------------------------------------------------------------------


def test_a_link_that_closes_loses_its_attempts_and_they_begin_again_elsewhere(
    serving: Serving, opened: DurableEngine, process: Process
):
    """Lost is not failed: it counts against no policy."""
    process.propose(called())
    start = process.until(StartAttempt).start
    with joining(serving) as other:
        other.say(HELLO)
        other.propose(LoadCode(link="", manifest=GREETER))
        process.socket.close()
        again = other.until(StartAttempt).start
        assert (again.invocation_id, again.attempt) == (start.invocation_id, 2)
        (view,) = other.views()
        assert view.failure_count == 0
        other.say(done(again))
        assert opened.client.wait(opened.client.attach(start.invocation_id)) == "hello"


def test_without_the_code_anywhere_it_waits_and_says_so(
    opened: DurableEngine, process: Process, settled: Callable[[], list[InvocationView]]
):
    process.propose(called())
    process.until(StartAttempt)
    process.socket.close()
    (view,) = settled()
    assert not view.is_code_loaded
    service = Service("Greeter")

    @service.handler()
    async def greet(ctx: Context, name: str) -> str:
        return f"hello {name}"

    opened.client.wait(opened.client.register(service))
    assert opened.client.wait(opened.client.attach(view.id)) == "hello ada"


@pytest.fixture
def settled(opened: DurableEngine) -> Callable[[], list[InvocationView]]:
    """The invocations, once none is running."""

    def look() -> list[InvocationView]:
        while True:
            views = opened.client.wait(opened.client.invocations())
            if all(view.status != "running" for view in views):
                return views

    return look


def test_a_process_gets_no_more_attempts_than_it_has_slots(serving: Serving):
    with joining(serving) as process:
        process.say(msgspec.structs.replace(HELLO, slots=1))
        process.propose(LoadCode(link="", manifest=GREETER))
        process.propose(called(1))
        process.propose(called(2))
        assert sorted(view.status for view in process.views()) == ["ready", "running"]


def test_serving_that_ends_hangs_up_on_everybody(serving: Serving, process: Process):
    """Whoever joined must look for the next owner at once, and not wait for pings."""
    serving.close()
    with pytest.raises(ConnectionClosed):
        process.until(StopAttempt)
