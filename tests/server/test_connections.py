"""What a stranger can do to the server before, and without, showing a token: nothing that lasts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
from support.http import Raw, ask
from support.served import Served

from nbdurable.server import connection
from nbdurable.server.connection import BODY_STALL_S_MAX, HEAD_BYTES_MAX, HEAD_S_MAX, Connection

HEALTH = b"GET /restate/health HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST /Greeter/greet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def guarded(make_served: Callable[..., Served]) -> Served:
    return make_served(has_token=True)


@pytest.fixture(scope="module")
def narrow(make_served: Callable[..., Served]) -> Served:
    return make_served(body_bytes_max=1_000)


def is_well(served: Served) -> bool:
    headers = {"authorization": f"Bearer {served.serving.token}"}
    return served.ingress("GET", "/restate/health", headers).status == 200


def connections_of(served: Served) -> Any:
    return served.serving.connections


# -- heads ----------------------------------------------------------------------------------------


def test_a_head_without_an_end_is_cut_off(guarded: Served):
    """It would fill memory for as long as somebody likes to type."""
    with Raw(guarded.serving.ingress_url) as client:
        client.send(HEALTH)
        sent = client.flood(b"x-bomb: " + b"a" * 8_000 + b"\r\n", 10_000)
        assert client.rest().startswith(b"HTTP/1.1 431 ")
    assert sent < 100 * HEAD_BYTES_MAX
    assert is_well(guarded)


def test_one_endless_header_is_cut_off(guarded: Served):
    with Raw(guarded.serving.ingress_url) as client:
        client.send(HEALTH + b"x-bomb: ")
        client.flood(b"a" * 65_536, 1_000)
        assert client.rest().startswith(b"HTTP/1.1 431 ")
    assert is_well(guarded)


def test_an_endless_address_is_cut_off(guarded: Served):
    with Raw(guarded.serving.admin_url) as client:
        client.send(b"GET /")
        client.flood(b"a" * 65_536, 1_000)
        assert client.rest().startswith(b"HTTP/1.1 431 ")
    assert is_well(guarded)


def test_a_long_body_after_a_short_head_is_no_long_head(served: Served):
    body = b'"' + b"a" * 300_000 + b'"'
    reply = served.ingress("POST", "/Greeter/greet", {"content-type": "application/json"}, body)
    assert reply.status == 200
    assert len(reply.body) == 300_000 + len('"hello "')


def test_a_second_head_on_a_connection_is_bounded_as_well(served: Served):
    with Raw(served.serving.ingress_url) as client:
        client.send(HEALTH + b"\r\n")
        assert b" 200 OK" in client.answer()
        client.send(HEALTH)
        client.flood(b"x-bomb: " + b"a" * 8_000 + b"\r\n", 1_000)
        assert client.rest().startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 40 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\x00: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: l\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request_is_answered_with_400_and_closed(served: Served, garbage: bytes):
    with Raw(served.serving.ingress_url) as client:
        client.send(garbage)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest().startswith(b"HTTP/1.1 400 ")
    assert is_well(served)


def test_what_is_no_request_is_not_logged(served: Served, caplog: pytest.LogCaptureFixture):
    """A port scan has shown no token, and must not write into somebody's notebook."""
    broken = (
        b"GET /link HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    )
    with caplog.at_level(logging.INFO):
        for url in (served.serving.ingress_url, served.serving.admin_url):
            for garbage in (b"\x00" * 40 + b"\r\n\r\n", broken + b"\r\n"):
                with Raw(url) as client:
                    client.send(garbage)
                    client.socket.shutdown(socket.SHUT_WR)
                    assert client.rest().startswith(b"HTTP/1.1 4")
    assert caplog.messages == []


def test_who_takes_http_2_for_granted_is_told_so_in_http_2(served: Served):
    """Of an answer in HTTP/1.1 such a client shows its user nothing."""
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    with Raw(served.serving.ingress_url) as raw:
        raw.send(client.data_to_send())
        events = client.receive_data(raw.rest())
    (told,) = (event for event in events if isinstance(event, h2.events.ConnectionTerminated))
    assert told.error_code == h2.errors.ErrorCodes.HTTP_1_1_REQUIRED
    assert told.additional_data == b"HTTP/1.1 is spoken here, and no HTTP/2; ask again with that"
    assert is_well(served)


def test_an_offer_of_another_protocol_is_not_taken_up(served: Served):
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n"
    with Raw(served.serving.ingress_url) as client:
        client.send(HEALTH + offer)
        assert client.head().startswith(b"HTTP/1.1 200 ")


# -- bodies ---------------------------------------------------------------------------------------


def test_a_body_that_is_announced_as_too_long_is_refused_unread(guarded: Served):
    """A GiB of it never comes: whoever waits for leave to send it (curl does) is told no."""
    token = str(guarded.serving.token).encode()
    with Raw(guarded.serving.ingress_url) as client:
        client.send(
            POST
            + b"authorization: Bearer %s\r\nexpect: 100-continue\r\n" % token
            + b"content-length: %d\r\n\r\n" % 2**30
        )
        answer = client.rest()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\nlength limit exceeded")
    assert b"content-type: text/plain" in answer


def test_a_body_that_turns_out_too_long_is_cut_off(narrow: Served):
    with Raw(narrow.serving.ingress_url) as client:
        client.send(POST + b"transfer-encoding: chunked\r\n\r\n")
        sent = client.flood(b"3e8\r\n" + b"a" * 1_000 + b"\r\n", 100_000)
        assert client.rest().startswith(b"HTTP/1.1 413 ")
    assert sent < 50_000_000
    assert is_well(narrow)


def test_a_body_of_just_the_bound_is_read(narrow: Served):
    headers = {"content-type": "application/json"}
    assert narrow.ingress("POST", "/Greeter/greet", headers, b'"' + b"a" * 998 + b'"').status == 200
    refused = narrow.ingress("POST", "/Greeter/greet", headers, b'"' + b"a" * 999 + b'"')
    assert refused.status == 413
    headers = {"content-type": "application/json"}
    assert narrow.admin("PATCH", "/services/Greeter", headers, b" " * 1_001).status == 413


def test_a_stranger_s_body_is_not_read(guarded: Served):
    """The answer comes before it, and the connection ends with it."""
    with Raw(guarded.serving.ingress_url) as client:
        client.send(POST + b"content-length: %d\r\n\r\n" % (16 * 2**20))
        assert client.rest().startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "body",
    [
        b'"\xff\xfe"',
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b"\x00",
        b"1 2",
        b'"\n"',
        # Valid JSON, of which Python makes no `int`.
        b"1" * 5_000,
        b"[-%s]" % (b"9" * 4_301),
    ],
)
def test_what_is_not_json_is_a_400(served: Served, body: bytes):
    headers = {"content-type": "application/json"}
    reply = served.ingress("POST", "/Greeter/greet", headers, body)
    assert (reply.status, reply.json["source"]) == (400, "ingress")
    admin = served.admin("PATCH", "/services/Greeter", headers, body)
    assert admin.status in (400, 422)


@pytest.mark.parametrize(
    "body",
    [b"NaN", b'"\\ud800"', b"1e999", b"1" * 4_300, b"0." + b"1" * 5_000, b'"%s"' % (b"1" * 5_000)],
)
def test_what_python_reads_as_json_is_json(served: Served, body: bytes):
    """A handler is asked in the end, so nothing that it reads is refused before."""
    reply = served.ingress("POST", "/Greeter/greet", {"content-type": "application/json"}, body)
    assert reply.status == 200 or reply.json["source"] == "invocation"


# -- time -----------------------------------------------------------------------------------------


class Clocked:
    """A loop's clock, as far as `is_late` needs one: the connection of a server that is not run."""

    def __init__(self, served: Served, client: Raw) -> None:
        """Find the server's end of a client's connection."""
        port = client.socket.getsockname()[1]
        open_now = served.until(
            lambda: [c for c in connections_of(served).open if c.client[1] == port]
        )
        self.connection: Connection = open_now[0]
        self.loop = self.connection.loop

    def is_late_in(self, seconds: float) -> bool:
        async def ask_it() -> bool:
            return self.connection.is_late(self.loop.time() + seconds)

        return asyncio.run_coroutine_threadsafe(ask_it(), self.loop).result()


def test_a_head_that_takes_too_long_is_late(served: Served):
    """The slow loris: a byte now and then, on as many connections as there are."""
    with Raw(served.serving.ingress_url) as client:
        client.send(HEALTH)
        served_end = Clocked(served, client)
        assert not served_end.is_late_in(HEAD_S_MAX - 5)
        client.send(b"x-slow: 1\r\n")
        assert served_end.is_late_in(HEAD_S_MAX + 1)


def test_saying_nothing_at_all_is_late_too(served: Served):
    with Raw(served.serving.ingress_url) as client:
        assert Clocked(served, client).is_late_in(HEAD_S_MAX + 1)


def test_a_body_that_stands_still_is_late(served: Served):
    with Raw(served.serving.ingress_url) as client:
        client.send(POST + b"content-length: 100\r\n\r\nabc")
        served_end = Clocked(served, client)
        served.until(lambda: served_end.connection.cycle is not None)
        assert not served_end.is_late_in(BODY_STALL_S_MAX - 5)
        assert served_end.is_late_in(BODY_STALL_S_MAX + 1)


def test_whoever_waits_for_an_answer_is_never_late(served: Served):
    with Raw(served.serving.ingress_url) as client:
        client.send(b"GET /Counter/late/hold HTTP/1.1\r\nhost: localhost\r\n\r\n")
        served_end = Clocked(served, client)
        served.until(lambda: served_end.connection.cycle is not None)
        assert not served_end.is_late_in(3_600)


def test_what_is_late_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch):
    """Looked for once a second, by the server itself."""
    monkeypatch.setattr(connection, "HEAD_S_MAX", 0.0)
    with Raw(served.serving.ingress_url) as client:
        client.send(HEALTH)
        assert client.rest() == b""
    monkeypatch.undo()
    assert is_well(served)


# -- numbers --------------------------------------------------------------------------------------


def test_a_thousand_that_say_nothing_are_harmless(served: Served):
    """They make way for one that asks: a process has so many files, and a journal needs some."""
    connections = connections_of(served)
    before = connections._max
    connections._max = 40
    try:
        with ExitStack() as clients:
            for _ in range(1_000):
                clients.enter_context(Raw(served.serving.ingress_url))
            assert is_well(served)
            assert ask(served.serving.admin_url, "GET", "/version").status == 200
            assert len(connections.open) <= 40
    finally:
        connections._max = before


def test_those_who_are_served_do_not_make_way(served: Served):
    """Then there is no room, which is said, instead of dropping what somebody waits for."""
    connections = connections_of(served)
    before = connections._max
    with ExitStack() as clients:
        waiting = []
        for n in range(4):
            client = clients.enter_context(Raw(served.serving.ingress_url))
            client.send(b"GET /Counter/busy-%d/hold HTTP/1.1\r\nhost: localhost\r\n\r\n" % n)
            waiting.append(Clocked(served, client).connection)
        served.until(lambda: not any(one.is_idle for one in waiting))
        busy = sum(not one.is_idle for one in list(connections.open))
        connections._max = busy
        try:
            with Raw(served.serving.ingress_url) as one_more:
                assert one_more.rest().startswith(b"HTTP/1.1 503 ")
            assert not any(one.transport.is_closing() for one in waiting)
        finally:
            connections._max = before


def test_requests_in_a_row_on_one_connection_are_answered_in_order(served: Served):
    with Raw(served.serving.ingress_url) as client:
        body = b'"%d"'
        for n in range(5):
            sent = body % n
            client.send(POST + b"content-length: %d\r\n\r\n%s" % (len(sent), sent))
        client.send(HEALTH + b"connection: close\r\n\r\n")
        answers = client.rest()
    found = [answers.index(b'"hello %d"' % n) for n in range(5)]
    assert found == sorted(found)
    assert answers.count(b"HTTP/1.1 200 OK") == 6
