"""More requests than can be served, of people who may and of people who may not."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from support.http import JSON, Reply, ask
from support.served import Served

CLIENTS = 16
REQUESTS_EACH = 60
BEGUN_S_MAX = 60.0
CUT_OFF = 0
LARGE = b'"' + b"x" * 2_000_000 + b'"'


@pytest.fixture(scope="module")
def guarded(make_served: Callable[..., Served]) -> Served:
    return make_served(has_token=True, body_bytes_max=1_000_000)


@contextmanager
def flooded(request: Callable[[int], Reply]) -> Iterator[Counter[int]]:
    """Statuses, of so many clients that never pause; begun when each has been answered once."""
    statuses, ends = Counter[int](), threading.Event()
    begun = threading.Barrier(CLIENTS + 1, timeout=BEGUN_S_MAX)

    def be_one(number: int) -> None:
        is_first = True
        while is_first or not ends.is_set():
            try:
                statuses[request(number).status] += 1
            except ConnectionError:
                # Its body is not read, so it may still be sending when it is hung up on.
                statuses[CUT_OFF] += 1
            if is_first:
                begun.wait()
            is_first = False

    with ThreadPoolExecutor(CLIENTS) as clients:
        working = [clients.submit(be_one, number) for number in range(CLIENTS)]
        try:
            begun.wait()
            yield statuses
        finally:
            ends.set()
            for one in working:
                one.result()


def bearer(served: Served) -> dict[str, str]:
    return {**JSON, "authorization": f"Bearer {served.serving.token}"}


def greet(served: Served) -> None:
    """A call that may be made."""
    reply = ask(served.serving.ingress_url, "POST", "/Greeter/greet", bearer(served), b'"ada"')
    assert (reply.status, reply.json) == (200, "hello ada")


@pytest.mark.parametrize(
    ("body", "who", "status"),
    [
        (b'"ada"', "stranger", 401),
        (LARGE, "stranger", 401),
        (LARGE, "user", 413),
        (b"{", "user", 400),
    ],
)
def test_what_is_refused_keeps_nobody_from_being_served(
    guarded: Served, body: bytes, who: str, status: int
):
    """And nothing of it becomes a run."""
    headers = bearer(guarded) if who == "user" else JSON
    url = guarded.serving.ingress_url
    before = len(guarded.wait(guarded.client.invocations()))

    with flooded(lambda _: ask(url, "POST", "/Greeter/greet", headers, body)) as statuses:
        served = 0
        # Whoever is cut off each time would never hear why.
        while served < 5 or not statuses[status]:
            greet(guarded)
            served += 1
    assert set(statuses) <= {status, CUT_OFF}
    assert len(guarded.wait(guarded.client.invocations())) == before + served


def test_a_thousand_calls_at_once_are_all_answered(guarded: Served):
    """Each of them once, and the engine serves as before."""
    url, headers = guarded.serving.ingress_url, bearer(guarded)

    def add(_: int) -> list[int]:
        path = "/Counter/flood/add"
        return [ask(url, "POST", path, headers, b"1").json for _ in range(REQUESTS_EACH)]

    with ThreadPoolExecutor(CLIENTS) as clients:
        told = [number for numbers in clients.map(add, range(CLIENTS)) for number in numbers]
    assert sorted(told) == list(range(1, CLIENTS * REQUESTS_EACH + 1))
    greet(guarded)
