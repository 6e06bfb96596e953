"""Everybody who should not get in, trying to: over both addresses, which are guarded alike."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.http import JSON, Raw, Reply, ask
from support.served import Served

import nbdurable
from nbdurable import NbdurableError, ServeOptions
from nbdurable.server.auth import HEADERS_MAX, Guard, headers_of, kept_token

ORIGIN = "http://localhost:8888"


@pytest.fixture(scope="module")
def guarded(make_served: Callable[..., Served]) -> Served:
    """With a token, as it is served unless told otherwise."""
    return make_served(has_token=True, allowed_origins=(ORIGIN,), allowed_hosts=("box.lan",))


@pytest.fixture(params=["ingress", "admin"])
def url(request: pytest.FixtureRequest, guarded: Served) -> str:
    return getattr(guarded.serving, f"{request.param}_url")


@pytest.fixture(params=["ingress", "admin"])
def open_url(request: pytest.FixtureRequest, served: Served) -> str:
    """Without a token: then only the other walls stand."""
    return getattr(served.serving, f"{request.param}_url")


def path_of(url: str, served: Served) -> str:
    return "/version" if url == served.serving.admin_url else "/restate/health"


def bearer(served: Served) -> dict[str, str]:
    return {"authorization": f"Bearer {served.serving.token}"}


# -- the token ------------------------------------------------------------------------------------


def test_with_the_token_one_gets_in(guarded: Served, url: str):
    path = path_of(url, guarded)
    assert ask(url, "GET", path, bearer(guarded)).status == 200
    lower = {"authorization": f"bearer {guarded.serving.token}"}
    assert ask(url, "GET", path, lower).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer x{token}",
        "Bearer {half}",
        "Bearer é",
        "Bearer null",
    ],
)
def test_without_the_whole_token_nobody_gets_in(
    guarded: Served, url: str, authorization: str | None
):
    token = str(guarded.serving.token)
    headers = {}
    if authorization is not None:
        headers["authorization"] = authorization.format(token=token, half=token[:20])
    reply = ask(url, "GET", path_of(url, guarded), headers)
    assert reply.status == 401
    assert token not in reply.body.decode()


def test_a_token_in_the_address_is_none(guarded: Served, url: str):
    """Addresses are written down: in histories, in logs, and in what handlers are told."""
    path = f"{path_of(url, guarded)}?token={guarded.serving.token}"
    assert ask(url, "GET", path).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/Greeter/greet"),
        ("POST", "/Greeter/greet/send"),
        ("GET", "/restate/health"),
        ("GET", "/nope/nope"),
        ("POST", "/restate/awakeables/sign_1x/resolve"),
        ("POST", "/restate/lookup"),
        ("PUT", "/Greeter/greet"),
    ],
)
def test_nothing_of_the_ingress_is_told_without_the_token(guarded: Served, method: str, path: str):
    """Not even what exists: an awakeable's id is a capability, and wants the token all the same."""
    reply = guarded.ingress(method, path, JSON, '"x"')
    assert (reply.status, reply.json["source"]) == (401, "ingress")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/version"),
        ("GET", "/v4/services"),
        ("POST", "/services/Counter/state"),
        ("PATCH", "/invocations/inv_1x/kill"),
        ("GET", "/nope"),
        ("POST", "/query"),
    ],
)
def test_nothing_of_the_admin_api_is_told_without_the_token(
    guarded: Served, method: str, path: str
):
    reply = guarded.admin(method, path, JSON, "{}")
    assert reply.status == 401
    assert reply.json.keys() == {"message", "restate_code"}


def test_the_token_is_not_told_to_handlers(guarded: Served):
    """What a handler is told is journaled, and read by SQL."""
    told = guarded.ingress("GET", "/Greeter/told", bearer(guarded)).json
    assert "authorization" not in told
    assert str(guarded.serving.token) not in str(told)


def test_a_token_is_made_once_and_for_its_owner_only(tmp_path: Path):
    token = kept_token(tmp_path / "token")
    file = tmp_path / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(token) >= 40
    file.chmod(0o644)
    assert kept_token(tmp_path / "token") == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("")
    assert len(kept_token(tmp_path / "token")) >= 40


def test_a_token_file_that_cannot_be_one_is_named(tmp_path: Path):
    (tmp_path / "text").write_bytes("clé".encode())
    with pytest.raises(NbdurableError, match=r"text cannot be used: .* ASCII"):
        kept_token(tmp_path / "text")
    mode = tmp_path.stat().st_mode
    with pytest.raises(NbdurableError, match="cannot be used: Is a directory"):
        kept_token(tmp_path)
    assert tmp_path.stat().st_mode == mode
    with pytest.raises(NbdurableError, match="cannot be used: File exists"):
        kept_token(tmp_path / "text" / "below")


def test_without_a_token_it_listens_on_loopback_only():
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.com"):  # noqa: S104 - what is refused.
        with pytest.raises(NbdurableError, match="loopback only"):
            ServeOptions(host=host, has_token=False)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        ServeOptions(host=host, has_token=False)


# -- hosts: a page whose name was rebound to this machine -----------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "evil.com:{port}",
        "127.0.0.1.evil.com:{port}",
        "localhost.evil.com",
        "evil.com@127.0.0.1:{port}",
        "127.0.0.1:{port}@evil.com",
        "127.0.0.1:{port}, evil.com",
        "192.168.1.5:{port}",
        "0.0.0.0:{port}",
        "[::ffff:8.8.8.8]:{port}",
        "127.0.0.1:port",
        "",
    ],
)
def test_a_name_that_is_not_ours_is_refused(served: Served, open_url: str, host: str):
    port = urlsplit(open_url).port
    reply = ask(open_url, "GET", path_of(open_url, served), {"host": host.format(port=port)})
    assert reply.status == 403
    assert "not an address of this engine" in reply.message


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1", "127.0.0.1:{port}", "[::1]:{port}"]
)
def test_names_of_this_machine_are_ours(served: Served, open_url: str, host: str):
    port = urlsplit(open_url).port
    reply = ask(open_url, "GET", path_of(open_url, served), {"host": host.format(port=port)})
    assert reply.status == 200


def test_a_name_that_the_options_give_is_ours(guarded: Served, url: str):
    headers = {**bearer(guarded), "host": "box.lan:1234"}
    assert ask(url, "GET", path_of(url, guarded), headers).status == 200


def test_a_request_without_a_host_is_refused(served: Served, open_url: str):
    with Raw(open_url) as client:
        path = path_of(open_url, served).encode()
        client.send(b"GET %s HTTP/1.0\r\n\r\n" % path)
        assert client.head().startswith(b"HTTP/1.1 400 ")


def test_an_absolute_address_does_not_replace_the_host(served: Served, open_url: str):
    with Raw(open_url) as client:
        path = path_of(open_url, served).encode()
        client.send(b"GET http://localhost%s HTTP/1.1\r\nhost: evil.com\r\n\r\n" % path)
        assert client.head().startswith(b"HTTP/1.1 403 ")


# -- origins: pages of other sites ----------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.com"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://localhost:8888.evil.com"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"},
    ],
    ids=str,
)
def test_a_page_of_another_site_is_refused(served: Served, open_url: str, headers: dict[str, str]):
    """Also with GET, which runs handlers too: an image's address is enough for that."""
    reply = ask(open_url, "GET", path_of(open_url, served), headers)
    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


def test_a_form_of_another_site_runs_nothing(served: Served):
    headers = {"origin": "http://evil.com", "content-type": "text/plain"}
    for path in ("/Counter/form/add", "/Counter/form/add/send"):
        assert served.ingress("POST", path, headers, "1").status == 403
    assert served.ingress("GET", "/Counter/form/get").body == b"0"


def test_the_token_does_not_open_the_door_for_a_page_that_may_not(guarded: Served, url: str):
    headers = {**bearer(guarded), "origin": "http://evil.com"}
    assert ask(url, "GET", path_of(url, guarded), headers).status == 403


def test_a_page_that_may_call_is_told_so(guarded: Served, url: str):
    headers = {**bearer(guarded), "origin": ORIGIN, "sec-fetch-site": "same-site"}
    reply = ask(url, "GET", path_of(url, guarded), headers)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in reply.headers


def test_a_page_that_may_call_hears_of_errors_too(guarded: Served, url: str):
    reply = ask(url, "GET", "/nope/nope", {**bearer(guarded), "origin": ORIGIN})
    assert reply.status == 404
    assert reply.headers["access-control-allow-origin"] == ORIGIN


def preflight(url: str, origin: str) -> Reply:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
        "access-control-request-private-network": "true",
    }
    return ask(url, "OPTIONS", "/Greeter/greet", asked)


def test_a_page_that_may_call_may_ask_first(guarded: Served, url: str):
    """A browser's question brings no token, so it is answered without."""
    reply = preflight(url, ORIGIN)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "authorization,content-type"
    assert reply.headers["access-control-allow-private-network"] == "true"


def test_no_origin_is_mirrored(guarded: Served, url: str, served: Served):
    """Restate tells every page that it may."""
    for address in (url, served.serving.ingress_url, served.serving.admin_url):
        reply = preflight(address, "http://evil.com")
        assert reply.status == 403
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_page_of_its_own_may_call(served: Served, open_url: str):
    headers = {"origin": open_url, "sec-fetch-site": "same-origin"}
    assert ask(open_url, "GET", path_of(open_url, served), headers).status == 200


@pytest.mark.parametrize("option", ["allowed_origins", "allowed_hosts"])
def test_everybody_is_nobody_that_can_be_named(option: str):
    with pytest.raises(NbdurableError, match="every page a browser shows"):
        ServeOptions(**{option: ("*",)})  # type: ignore[arg-type]


# -- sizes ----------------------------------------------------------------------------------------


def test_a_request_with_too_many_headers_is_refused(served: Served, open_url: str):
    headers = {f"x-{n}": "1" for n in range(HEADERS_MAX + 1)}
    assert ask(open_url, "GET", path_of(open_url, served), headers).status == 431
    assert ask(open_url, "GET", path_of(open_url, served)).status == 200


# -- the guard by itself --------------------------------------------------------------------------


def test_an_address_that_is_served_to_others_has_their_numbers_but_not_their_names():
    """A name can be rebound, a number cannot."""
    guard = Guard(ServeOptions(host="0.0.0.0"), "t")  # noqa: S104 - what is asked about.
    assert guard.refuse_host({"host": "192.168.1.5:8080"}) is None
    assert guard.refuse_host({"host": "[fe80::1]"}) is None
    assert guard.refuse_host({"host": "evil.com"}) is not None


def test_of_several_headers_of_one_name_the_first_counts():
    raw = [(b"host", b"a"), (b"x", b"\xe9"), (b"host", b"b")]
    assert headers_of(raw) == {"host": "a", "x": "é"}


def test_a_guard_that_wants_a_token_and_has_none_is_our_mistake():
    with pytest.raises(AssertionError):
        Guard(ServeOptions(), None)


def test_the_greeting_says_what_to_send(guarded: Served, served: Served):
    assert f"authorization: Bearer {guarded.serving.token}" in guarded.serving.greeting
    assert "no token" in served.serving.greeting


def test_public_names_are_offered(guarded: Served):
    names: list[Any] = [nbdurable.serve, nbdurable.Serving, nbdurable.ServeOptions]
    assert all(names)
