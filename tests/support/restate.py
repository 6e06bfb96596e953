"""A real Restate server, with handlers of ours on the official SDK behind it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from support.http import JSON, ask
from support.npm import installed

# A server that is up answers in a second; one that does not come up is a failure.
START_S_MAX = 60.0


class Restate(NamedTuple):
    ingress: str
    admin: str


@contextmanager
def restate_server(app: Any, folder: Path) -> Iterator[Restate]:
    """Both processes of a deployment on this machine, until the block ends.

    Args:
        app: What `nbdurable.app()` gives, for requests and responses.
        folder: For the program and what it writes.
    """
    ports = _free_ports(3)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    settings = {
        "BASE_DIR": str(folder / "data"),
        "INGRESS__BIND_ADDRESS": f"127.0.0.1:{ports[0]}",
        "ADMIN__BIND_ADDRESS": f"127.0.0.1:{ports[1]}",
        "BIND_ADDRESS": f"127.0.0.1:{ports[2]}",
        "LISTEN_MODE": "tcp",
        "DISABLE_TELEMETRY": "true",
        "DEFAULT_NUM_PARTITIONS": "2",
        "ROCKSDB_TOTAL_MEMORY_SIZE": "128MiB",
    }
    program = installed("restate-server", folder / "npm")
    environment = os.environ | {f"RESTATE_{name}": value for name, value in settings.items()}
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [program, "--no-logo", "--node-name", "test"], env=environment, stdout=log, stderr=log
    )
    try:
        with _endpoint(app) as endpoint:
            _wait_until_up(urls[1] + "/health", server)
            body = json.dumps({"uri": endpoint, "use_http_11": True})
            registered = ask(urls[1], "POST", "/deployments", JSON, body)
            assert registered.status == 201, registered.body
            yield Restate(urls[0], urls[1])
    finally:
        server.kill()
        server.wait()
        log.close()


@contextmanager
def _endpoint(app: Any) -> Iterator[str]:
    """The handlers, where the server finds them."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        # Restate keeps its connections; nobody waits for them to end.
        server.should_exit = server.force_exit = True
        thread.join()
        listening.close()


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    host, _, path = url.removeprefix("http://").partition("/")
    deadline = time.monotonic() + START_S_MAX
    while True:
        assert server.poll() is None, "the server has ended"
        try:
            if ask(f"http://{host}", "GET", f"/{path}").status == 200:
                return
        except OSError:
            assert time.monotonic() < deadline, "the server does not come up"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
