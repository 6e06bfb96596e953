"""A real Restate server, from npm: one node, on loopback, its data in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.http import JSON, ask

# Both are long for a machine under load; only what fails waits for them.
START_S_MAX = 60.0
STOP_S_MAX = 20.0
POLL_S = 0.05


class RestateServer:
    """Mutable while it starts and ends; use it as a `with`.

    Args:
        program: Where a program of Restate's is, by its name.
        folder: For its data and its log; a second server on the same folder goes on with both.
        settings: More of its settings, by their names in the environment.
    """

    def __init__(self, program: Callable[[str], Path], folder: Path, **settings: str) -> None:
        self._program = program
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        node, ingress, admin = free_ports(3)
        self.ingress_url = f"http://127.0.0.1:{ingress}"
        self.admin_url = f"http://127.0.0.1:{admin}"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "DO_NOT_TRACK": "1",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_LOG_FILTER": "warn",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            # A test has little to keep; the defaults are for a machine of its own.
            "RESTATE_DEFAULT_NUM_PARTITIONS": "4",
            "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256MiB",
            **self._settings,
        }
        command = [str(self._program("restate-server")), "--no-logo"]
        command += ["--node-name", "test", "--base-dir", str(self._folder / "data")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log
            )
        try:
            self.until(lambda: ask(self.admin_url, "GET", "/health").status == 200)
            self.until(lambda: ask(self.ingress_url, "GET", "/restate/health").status == 200)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def register(self, url: str, **more: Any) -> Any:
        """Register an endpoint; return its deployment once the ingress knows its services."""
        registered = self.admin("POST", "/deployments", {"uri": url, **more})
        names = {service["name"] for service in registered["services"]}
        self.until(lambda: names <= set(self._known()))
        return registered

    def admin(self, method: str, path: str, content: Any = None) -> Any:
        """What the admin API answers to a request that it has to accept."""
        body = None if content is None else json.dumps(content)
        reply = ask(self.admin_url, method, path, JSON if body else None, body)
        assert reply.status < 300, reply
        return reply.json if reply.body else None

    def status_of(self, invocation_id: str) -> str:
        """As SQL says it."""
        query = f"select status from sys_invocation where id = '{invocation_id}'"
        headers = {**JSON, "accept": "application/json"}
        reply = ask(self.admin_url, "POST", "/query", headers, json.dumps({"query": query}))
        return str(reply.json["rows"][0]["status"])

    def cli(self, *arguments: str) -> str:
        """What the official command line prints."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "DO_NOT_TRACK": "1",
            "RESTATE_ADMIN_URL": self.admin_url,
            "RESTATE_INGRESS_URL": self.ingress_url,
        }
        done = subprocess.run(
            [str(self._program("restate")), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{done.args} said:\n{done.stdout}{done.stderr}"
        return done.stdout

    def until(self, is_so: Any) -> None:
        """Ask until it is so, as long as the server lives."""
        assert self._process is not None
        end = time.monotonic() + START_S_MAX
        while True:
            with contextlib.suppress(OSError):
                if is_so():
                    return
            code = self._process.poll()
            assert code is None, f"restate-server ended with {code}:\n{self._said()}"
            assert time.monotonic() < end, f"restate-server is not ready:\n{self._said()}"
            time.sleep(POLL_S)

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _known(self) -> list[str]:
        return list(ask(self.ingress_url, "GET", "/restate/health").json["services"])

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-4_000:]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; held together, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
