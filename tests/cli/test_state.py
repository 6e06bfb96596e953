"""The state of a key, seen and changed by hand; and what is registered."""

from __future__ import annotations

import json
from pathlib import Path

from support.command import nbdurable

import nbdurable as package
from nbdurable.core.builtin import NOTEBOOK_SERVICE


def test_state_is_shown_whole_or_by_name(reached: Path) -> None:
    assert json.loads(nbdurable("state", "get", "Counter/ada", "--json").stdout) == {"n": 3}
    assert nbdurable("state", "get", "Counter/ada", "n").stdout == "3\n"
    assert nbdurable("state", "get", "Counter/ada", "m").exit_code == 4
    assert nbdurable("state", "get", "Nobody/ada").exit_code == 4
    assert nbdurable("state", "get", "Greeter/ada").exit_code == 2


def test_a_value_that_is_no_json_is_text_to_programs(folder: Path) -> None:
    shelf = package.VirtualObject("Shelf")

    @shelf.handler()
    async def put(ctx: package.ObjectContext) -> None:
        ctx.set("raw", b"so", serde=package.BytesSerde())

    with package.open_sync(services=[shelf]) as engine:
        engine.client.object_call(put, "one", None)
    assert nbdurable("state", "get", "Shelf/one", "raw").stdout == "so\n"
    assert nbdurable("state", "get", "Shelf/one", "raw", "--json").stdout == '"so"\n'


def test_state_is_changed_when_it_is_meant(reached: Path) -> None:
    planned = nbdurable("state", "set", "Counter/ada", "n", "41", "--dry-run")
    assert planned.stdout == "would set n of Counter/ada, which is 3, to 41\n"
    assert nbdurable("state", "set", "Counter/ada", "n", "41").exit_code == 2
    assert nbdurable("state", "get", "Counter/ada", "n").stdout == "3\n"
    assert nbdurable("state", "set", "Counter/ada", "n", "41", "--yes").exit_code == 0
    assert nbdurable("state", "get", "Counter/ada", "n").stdout == "41\n"
    assert nbdurable("state", "clear", "Counter/ada", "m", "--yes").exit_code == 4
    assert nbdurable("state", "clear", "Counter/ada", "--yes").stdout == (
        "Counter/ada holds nothing\n"
    )


def test_a_dry_run_that_would_change_nothing_says_so(reached: Path) -> None:
    assert nbdurable("state", "clear", "Counter/nobody", "--dry-run").stdout == (
        "would change nothing\n"
    )


def test_a_key_in_use_is_not_changed_behind_its_holder(reached: Path) -> None:
    nbdurable("send", "Counter/ada/add", "1")
    refused = nbdurable("state", "set", "Counter/ada", "n", "41", "--yes")
    assert refused.exit_code == 1
    assert "say --force" in refused.stderr
    assert nbdurable("state", "set", "Counter/ada", "n", "41", "--yes", "--force").exit_code == 0


def test_services_and_their_revisions_are_listed(reached: Path) -> None:
    listed = json.loads(nbdurable("services", "--json").stdout)
    # A process that has imported what runs notebooks, as other tests do, offers that as well.
    services = [one for one in listed if one["name"] != NOTEBOOK_SERVICE]
    assert [one["name"] for one in services] == ["Greeter", "Counter", "Payment"]
    assert services[0]["handlers"] == ["greet", "fail", "nap", "ask"]
    assert services[0]["loaded_in"] is None
    assert "not loaded" in nbdurable("services").stdout
    (first, *_) = json.loads(nbdurable("deployments", "--json").stdout)
    assert (first["service"], first["revision"], first["is_latest"]) == ("Greeter", 1, True)
    assert nbdurable("deployments").stdout.count("1 (latest)") == 3
