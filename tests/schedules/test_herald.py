"""How runs stand, told to whom the settings name, and to the schedules that wait for them."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import nbdurable
from nbdurable import Context, InvocationRetryPolicy, Service, TerminalError, durable

service = Service("Report", invocation_retry_policy=InvocationRetryPolicy(max_attempts=1))
other = Service("Other")
WAIT_S_MAX = 30


@service.handler()
async def build(ctx: Context, how: str) -> str:
    if how == "fails":
        raise TerminalError("no ink")
    if how == "pauses":
        raise ValueError("a bug")
    return how


@service.handler(inactivity_timeout=timedelta(milliseconds=1))
async def ask(ctx: Context) -> bool:
    return await durable.approval("publish", title="Publish it?")


@other.handler()
async def fail(ctx: Context) -> None:
    raise TerminalError("not told of")


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S_MAX
    while not (found := holds()):
        assert time.monotonic() < deadline, "it is not told"
        time.sleep(0.02)
    return found


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, str]]]:
    """What the command that the settings name was told, in order."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "told"
    on = ["failed", "suspended", "completed"]
    said = {"to": f"tee -a {file}", "on": on, "services": ["Report"]}
    monkeypatch.setenv("NBDURABLE_NOTIFY", json.dumps(said))
    return lambda: (
        [json.loads(one) for one in file.read_text().splitlines()] if file.exists() else []
    )


def opened() -> Any:
    return nbdurable.open_sync("j", services=[service, other])


def test_each_end_and_each_wait_is_told_once(told):
    with opened() as engine:
        engine.client.service_call(build, "well")
        until(lambda: len(told()) == 1)
        with pytest.raises(TerminalError):
            engine.client.service_call(build, "fails")
        until(lambda: len(told()) == 2)
        engine.client.service_send(build, "pauses")
        until(lambda: len(told()) == 3)
        engine.client.service_send(ask, None)
        until(lambda: len(told()) == 4)
    events = [(one["event"], one["target"], one.get("failure")) for one in told()]
    assert events == [
        ("completed", "Report/build", None),
        ("failed", "Report/build", "no ink"),
        ("failed", "Report/build", "ValueError('a bug')"),
        ("suspended", "Report/ask", None),
    ]


def test_an_owner_that_comes_later_does_not_tell_it_again(told):
    with opened() as engine:
        engine.client.service_send(build, "pauses")
        until(lambda: len(told()) == 1)
    with opened() as engine:
        engine.client.service_call(build, "well")
        until(lambda: len(told()) == 2)
    assert [one["event"] for one in told()] == ["failed", "completed"]


def test_what_nobody_could_tell_is_told_by_the_next_owner(told, monkeypatch):
    with monkeypatch.context() as silent:
        silent.delenv("NBDURABLE_NOTIFY")
        with opened() as engine, pytest.raises(TerminalError):
            engine.client.service_call(build, "fails")
    with opened():
        until(lambda: len(told()) == 1)


def test_services_that_are_not_named_are_not_told_of(told):
    with opened() as engine:
        with pytest.raises(TerminalError):
            engine.client.service_call(fail, None)
        engine.client.service_call(build, "well")
        until(told)
    assert [one["target"] for one in told()] == ["Report/build"]


def test_a_webhook_that_is_away_is_tried_again(monkeypatch, tmp_path):
    heard: list[dict[str, str]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        refused = 0

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not Hook.refused:
                Hook.refused = 1
                self.send_error(503)
                return
            heard.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        to = {"to": f"http://127.0.0.1:{server.server_port}/hook", "on": ["failed"]}
        monkeypatch.setenv("NBDURABLE_NOTIFY", json.dumps(to))
        monkeypatch.chdir(tmp_path)
        with opened() as engine:
            engine.client.service_send(build, "fails")
            until(lambda: heard)
        server.shutdown()
    assert (heard[0]["failure"], Hook.refused) == ("no ink", 1)


def test_a_handler_is_called_with_how_a_run_has_ended(monkeypatch, tmp_path):
    """A hook that is as durable as what it is called for."""
    ops, heard = Service("Ops"), []

    @ops.handler()
    async def told(ctx: Context, said: dict[str, str]) -> None:
        heard.append(said)

    to = {"to": "handler:Ops/told", "on": ["failed"], "services": ["Report"]}
    monkeypatch.setenv("NBDURABLE_NOTIFY", json.dumps(to))
    with nbdurable.open_sync(tmp_path / "j", services=[service, ops]) as engine:
        engine.client.service_send(build, "fails")
        until(lambda: heard)
    assert [(one["target"], one["failure"]) for one in heard] == [("Report/build", "no ink")]


def test_a_schedule_hears_that_its_run_is_paused_and_goes_on_without_it(tmp_path):
    with nbdurable.open_sync(tmp_path / "j", services=[service]) as engine:
        nightly = durable.schedule("nightly", build, "@yearly", "pauses", engine=engine)
        run = nightly.trigger()
        until(lambda: nightly.show()["stalled"] == [run])
        assert nightly.show()["running"] == []


def test_a_setting_that_cannot_be_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("NBDURABLE_NOTIFY", '{"to": "x", "on": ["burned"]}')
    with pytest.raises(nbdurable.errors.SettingsError, match="NBDURABLE_NOTIFY"):
        nbdurable.open_sync("j")
