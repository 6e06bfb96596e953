"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import click
import httpx
import pytest
from support.command import END_S_MAX, nbdurable, start_apart, until_served
from support.running import durable, until

from nbdurable.cli.main import main
from nbdurable.client.answers import answer, find_awaited
from nbdurable.client.picture import NOTEBOOK

README = Path(__file__).parent.parent / "README.md"


def python_blocks(after: str) -> list[str]:
    """The Python blocks of one section, in order."""
    section = README.read_text().split(f"\n## {after}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_script_runs_as_it_stands(tmp_path: Path) -> None:
    """It is the first thing that somebody without a notebook copies."""
    script, *_ = python_blocks("In a script")
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
    _, block, *_ = python_blocks("In a script")
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - it is our own README.
    assert names["price"]("tea") == 9.99
    async with durable(names["shop"]) as engine:
        client = engine.client
        sent = await client.service_send(names["cheapest"], ["tea", "cake"])
        assert await client.attach(sent.invocation_id) == 9.99
        journal = await client.journal(sent.invocation_id)
    assert [entry.name for entry in journal if entry.kind == "Run"] == ["price", "price"]


async def test_a_person_is_asked_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, block, _ = python_blocks("In a script")
    # Annotations are looked up in the module that a class says it is of.
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    names = vars(module)
    exec(block, names)  # noqa: S102 - it is our own README.
    async with durable(names["refunds"]) as engine:
        client = engine.client
        sent = await client.workflow_send(names["run"], "k", {"total": 80})
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_promises))
        awaited = await find_awaited(client, "k", "refund", NOTEBOOK)
        await answer(client, awaited, {"amount": 5, "reason": "late"})
        refunded = await client.workflow_attach(names["run"], "k")
    assert refunded == "refunded 5.0 because it was late"


def test_the_test_of_a_handler_passes_as_it_stands(tmp_path: Path) -> None:
    """With pytest and the package, and nothing else."""
    *_, block = python_blocks("In a script")
    (tmp_path / "test_orders.py").write_text(block)
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    shown = subprocess.run(pytest_here, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in shown.stdout, shown.stdout


def test_the_server_answers_the_curl_lines(tmp_path: Path) -> None:
    """On ports of its own, for the README's may be taken here."""
    ingress, admin = free_ports(2)
    script, asks = (
        block.replace("8080", str(ingress)).replace("9070", str(admin))
        for block in python_blocks("Over HTTP")
    )
    with subprocess.Popen([sys.executable, "-W", "error", "-c", script], cwd=tmp_path) as server:
        try:
            url = f"http://127.0.0.1:{ingress}/Greeter/greet"
            headers = {"content-type": "application/json"}
            answer = httpx.HTTPTransport(retries=20)
            with httpx.Client(transport=answer, timeout=30) as client:
                said = client.post(url, content=b'"World"', headers=headers)
                sent = client.post(f"{url}/send?delay=10s", content=b'"World"', headers=headers)
                services = client.get(f"http://127.0.0.1:{admin}/services")
            asked = subprocess.check_output([sys.executable, "-W", "error", "-c", asks], text=True)
        finally:
            server.kill()
    assert (said.status_code, said.json()) == (200, "Hello, World!")
    assert (sent.status_code, sent.json()["status"]) == (202, "Accepted")
    assert [service["name"] for service in services.json()["services"]] == ["Greeter"]
    assert asked == "b'\"Hello, World!\"'\n"


def test_the_command_line_does_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line as it stands, on ports of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    for name in ("INGRESS", "ADMIN"):
        monkeypatch.setenv(f"NBDURABLE_{name}", "127.0.0.1:0")
    (flows,) = python_blocks("On the command line")
    Path("flows.py").write_text(flows)
    up, commands, *_, schedules = shell_blocks("On the command line")
    serving = start_apart(*shlex.split(up)[1:])
    try:
        until_served(tmp_path / ".nbdurable")
        lines = (commands + schedules).splitlines()
        shown = [nbdurable(*shlex.split(line)[1:]) for line in lines]
    finally:
        serving.terminate()
        serving.communicate(timeout=END_S_MAX)
    assert [one.exit_code for one in shown] == [0] * 9
    assert shown[0].stdout == '"Hello, World!"\n'
    assert "PaymentWorkflow/order-456/run" in shown[2].stdout
    assert "approved" in shown[3].stdout
    assert shown[5].stdout == '"captured 100"\n'
    assert "PaymentWorkflow/order-456/run" in shown[6].stdout
    assert "Greeter/greet" in shown[8].stdout


def test_curl_says_what_a_restate_server_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line as it stands, by curl itself, but for the ports."""
    assert shutil.which("curl"), "the README's lines need curl; write: apt-get install curl"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    ingress, admin = free_ports(2)
    for name, port in (("INGRESS", ingress), ("ADMIN", admin)):
        monkeypatch.setenv(f"NBDURABLE_{name}", f"127.0.0.1:{port}")
    (flows,) = python_blocks("On the command line")
    Path("flows.py").write_text(flows)
    _, _, up, curls, _schedule = shell_blocks("On the command line")
    lines = curls.replace(":8080", f":{ingress}").replace(":9070", f":{admin}").splitlines()
    serving = start_apart(*shlex.split(up)[1:])
    try:
        until_served(tmp_path / ".nbdurable")
        said = [curled(line) for line in lines]
    finally:
        serving.terminate()
        serving.communicate(timeout=END_S_MAX)
    # A send is answered before it has run, so the count that is read may be without it.
    assert said[6] in (5, 6)
    assert {said[2], said[3]} == {said[0]} == {"Hello, World!"}
    assert said[4] == 5
    assert [said[sent]["status"] for sent in (1, 5, 7)] == ["Accepted"] * 3
    assert said[8]["code"] == 470
    assert said[9:13] == [None, "captured 100", None, "captured 50"]
    services = {service["name"]: service["ty"] for service in said[13]["services"]}
    assert services == {
        "Greeter": "Service",
        "Counter": "VirtualObject",
        "PaymentWorkflow": "Workflow",
        # Whoever is told by HTTP to run a notebook is always there.
        "Notebook": "Workflow",
    }
    found = {row["target"]: row["status"] for row in said[14]["rows"]}
    assert found["PaymentWorkflow/order-789/run"] == "completed"


def test_every_line_about_notebooks_is_one_that_its_command_takes() -> None:
    """Read as it is typed, and not run, which would take minutes."""
    lines = "".join(shell_blocks("With papermill")).splitlines()
    ours = [shlex.split(line)[1:] for line in lines if line.startswith("nbdurable ")]
    assert len(ours) == 4
    for line in ours:
        words, command = line, cast("click.Command", main)
        context, name = click.Context(command), "nbdurable"
        while isinstance(command, click.Group):
            found, known, words = command.resolve_command(context, words)
            assert known is not None, words
            command, name = known, found or ""
        command.make_context(name, words)


def test_every_link_within_leads_somewhere() -> None:
    """GitHub's names of headings, which change with their words."""
    text = README.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert len(linked) >= 3
    assert linked <= slugs


def curled(line: str) -> Any:
    """What one line of a shell prints, which is JSON unless it is nothing."""
    ran = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, check=True, timeout=END_S_MAX
    )
    return json.loads(ran.stdout) if ran.stdout else None


def shell_blocks(after: str) -> list[str]:
    """The shell blocks of one section, in order."""
    section = README.read_text().split(f"\n## {after}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
