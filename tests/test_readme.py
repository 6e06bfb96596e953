"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from support.running import durable

README = Path(__file__).parent.parent / "README.md"


def python_blocks(after: str) -> list[str]:
    """The Python blocks of one section, in order."""
    section = README.read_text().split(f"\n## {after}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_script_runs_as_it_stands(tmp_path: Path) -> None:
    """It is the first thing that somebody without a notebook copies."""
    script, _ = python_blocks("In a script")
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert (shown.stdout, shown.stderr) == ("charged 100\n", "")
    assert (tmp_path / ".nbdurable").is_dir()


async def test_the_handler_of_steps_runs_as_it_stands() -> None:
    _, block = python_blocks("In a script")
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - it is our own README.
    assert names["price"]("tea") == 9.99
    async with durable(names["shop"]) as engine:
        client = engine.client
        sent = await client.service_send(names["cheapest"], ["tea", "cake"])
        assert await client.attach(sent.invocation_id) == 9.99
        journal = await client.journal(sent.invocation_id)
    assert [entry.name for entry in journal if entry.kind == "Run"] == ["price", "price"]


def test_the_server_answers_the_curl_lines(tmp_path: Path) -> None:
    """On ports of its own, for the README's may be taken here."""
    (script,) = python_blocks("Over HTTP")
    ingress, admin = free_ports(2)
    script = script.replace("8080", str(ingress)).replace("9070", str(admin))
    with subprocess.Popen([sys.executable, "-W", "error", "-c", script], cwd=tmp_path) as server:
        try:
            url = f"http://127.0.0.1:{ingress}/Greeter/greet"
            headers = {"content-type": "application/json"}
            answer = httpx.HTTPTransport(retries=20)
            with httpx.Client(transport=answer, timeout=30) as client:
                said = client.post(url, content=b'"World"', headers=headers)
                sent = client.post(f"{url}/send?delay=10s", content=b'"World"', headers=headers)
                services = client.get(f"http://127.0.0.1:{admin}/services")
        finally:
            server.kill()
    assert (said.status_code, said.json()) == (200, "Hello, World!")
    assert (sent.status_code, sent.json()["status"]) == (202, "Accepted")
    assert [service["name"] for service in services.json()["services"]] == ["Greeter"]


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
