"""kill -9 of the server while it is under load: what a client was told stays true."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from support.http import Reply, ask

SERVED = Path(__file__).with_name("served.py")
SEED = 20261126
KILL_COUNT = 8
CLIENT_COUNT = 8
REQUESTS_EACH = 60
KEYS = ("ada", "bob", "cy")
# A server that is not there again by now will not be.
TRIES_MAX = 2_000


class Server:
    """Mutable: the process that serves now. Killed and started again, on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.is_up = threading.Event()

    def start(self) -> None:
        command = [sys.executable, str(SERVED), str(self._folder), str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "served\n"
        self.is_up.set()

    def kill(self) -> None:
        self.is_up.clear()
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Told:
    """Mutable: what clients were told, by all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counted: dict[tuple[str, str], int] = {}
        self.accepted: dict[str, str] = {}
        self.lost_count = 0
        self.answered = threading.Semaphore(0)

    def count(self, key: str, idempotency_key: str, total: int) -> None:
        with self._lock:
            self.counted[key, idempotency_key] = total
        self.answered.release()

    def accept(self, invocation_id: str, key: str) -> None:
        with self._lock:
            self.accepted[invocation_id] = key
        self.answered.release()

    def lose(self) -> None:
        with self._lock:
            self.lost_count += 1


def try_once(server: Server, told: Told, path: str, headers: dict[str, str]) -> Reply | None:
    """The answer, or None when the connection broke: then nobody knows."""
    server.is_up.wait()
    try:
        reply = ask(server.url, "POST", path, headers)
    except (OSError, http.client.HTTPException):
        told.lose()
        return None
    return reply if reply.status in (200, 202) else None


def be_a_client(server: Server, told: Told, number: int) -> None:
    """Call until it is answered, with one key each time; send, and forget what is not accepted."""
    chance = random.Random(f"{SEED} {number}")
    for n in range(REQUESTS_EACH):
        key = chance.choice(KEYS)
        if chance.random() < 0.5:
            idempotency_key = f"{number}-{n}"
            named = {"idempotency-key": idempotency_key}
            for _ in range(TRIES_MAX):
                reply = try_once(server, told, f"/Counter/{key}/add", named)
                if reply is not None:
                    told.count(key, idempotency_key, reply.json)
                    break
        else:
            reply = try_once(server, told, f"/Book/{key}/enter/send", {})
            if reply is not None:
                told.accept(reply.json["invocationId"], key)


@pytest.mark.kill
@pytest.mark.slow
def test_what_was_answered_is_still_true_after_eight_kills(tmp_path: Path):
    """Each 200 is a count that nobody else has, each 202 an entry, once, in the end."""
    told, chance = Told(), random.Random(SEED)
    print(f"seed {SEED}")
    with Server(tmp_path) as server, ThreadPoolExecutor(CLIENT_COUNT) as clients:
        working = [clients.submit(be_a_client, server, told, n) for n in range(CLIENT_COUNT)]
        for _ in range(KILL_COUNT):
            for _ in range(chance.randrange(20, 45)):
                told.answered.acquire(timeout=60)
            server.kill()
            server.start()
        for one in working:
            one.result()

        print(f"{len(told.counted)} counted, {len(told.accepted)} accepted, {told.lost_count} lost")
        assert told.lost_count > KILL_COUNT, "no kill fell under load"
        check_counts(server, told)
        check_entries(server, told)


def check_counts(server: Server, told: Told) -> None:
    """Nothing was counted twice, nothing is forgotten, and asked again the answer is the same."""
    by_key: dict[str, Counter[int]] = {key: Counter() for key in KEYS}
    for (key, idempotency_key), total in told.counted.items():
        by_key[key][total] += 1
        again = ask(server.url, "POST", f"/Counter/{key}/add", {"idempotency-key": idempotency_key})
        assert (again.status, again.json) == (200, total)
    for key, totals in by_key.items():
        assert totals == Counter(range(1, totals.total() + 1)), key


def check_entries(server: Server, told: Told) -> None:
    for invocation_id in told.accepted:
        done = ask(server.url, "GET", f"/restate/invocation/{invocation_id}/attach")
        assert done.status == 200, done
    entries: dict[str, list[Any]] = {
        key: ask(server.url, "POST", f"/Book/{key}/entered").json for key in KEYS
    }
    for key, entered in entries.items():
        expected = {of for of, its_key in told.accepted.items() if its_key == key}
        assert len(entered) == len(set(entered)), f"{key}: something was entered twice"
        # What was sent and not answered may be there as well.
        assert expected <= set(entered), key
