"""An endpoint for a cluster: where it listens, what it says, how it ends."""

from __future__ import annotations

import socket
import sys

import pytest
from support.http import ask

import nbdurable
from nbdurable import Context, DefinitionError, NbdurableError, Service
from nbdurable.deploy.serving import Endpoint

greeter, waver = Service("Greeter"), Service("Waver")
MANIFEST = {"accept": "application/vnd.restate.endpointmanifest.v3+json"}


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@waver.handler()
def wave(ctx: Context) -> str:
    return "o/"


def test_it_can_be_discovered_until_it_is_closed():
    with Endpoint(nbdurable.app([greeter]), port=0) as endpoint:
        url = endpoint.url
        reply = ask(url, "GET", "/discover", MANIFEST)
        assert [service["name"] for service in reply.json["services"]] == ["Greeter"]
    with pytest.raises(ConnectionError):
        ask(url, "GET", "/discover", MANIFEST)
    with pytest.raises(NbdurableError, match="nothing is served"):
        _ = endpoint.url
    endpoint.close()


def test_it_says_how_it_is_registered():
    with Endpoint(nbdurable.app([greeter]), port=0) as endpoint:
        assert endpoint.greeting == (
            f"serving  Greeter\n"
            f"at       {endpoint.url}\n"
            f"next     restate deployments register {endpoint.url}"
        )
        assert repr(endpoint) == f"<Endpoint {endpoint.url} Greeter>"
    assert repr(endpoint) == "<Endpoint closed Greeter>"


def test_who_can_be_reached_by_others_is_told_so():
    with Endpoint(nbdurable.app([greeter]), "0.0.0.0", 0) as endpoint:  # noqa: S104 - the point.
        assert endpoint.url.startswith("http://127.0.0.1:")
        assert "whoever reaches this address can run these handlers" in endpoint.greeting


def test_without_hypercorn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    with pytest.raises(ImportError, match=r"pip install 'nbdurable\[restate\]'"):
        Endpoint(nbdurable.app([greeter]), port=0).start()


def test_an_address_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NbdurableError, match=f"cannot listen on 127.0.0.1:{port}"):
            Endpoint(nbdurable.app([greeter]), port=port).start()


def test_what_a_cluster_cannot_run_is_refused_before_it_listens():
    with pytest.raises(DefinitionError, match="write: async def wave"):
        Endpoint(nbdurable.app([waver]), port=0).start()
