"""Who may come in: four questions, asked of every request before anything of it is believed.

1. Is it addressed to us? A page whose name was rebound to 127.0.0.1 names itself in `Host`.
2. Does a page send it that may? A browser says in `Origin`, or in `Sec-Fetch-Site`, whose page it
   is; a simple POST, or an image, is sent without asking us first.
3. Does it bring the token? It is made once, readable by the journal's owner only.
4. Is it of a size that a request has?

Nothing is ever mirrored: what an answer says about origins comes from the options.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from nbdurable.errors import NbdurableError
from nbdurable.server.options import ServeOptions, is_loopback
from nbdurable.store.lock import write_private

TOKEN_FILE: Final = "token"  # noqa: S105 - the name of a file.
_TOKEN_BYTES: Final = 32
# Enough for any client and every proxy; a bomb of headers has thousands.
HEADERS_MAX: Final = 128
_HOSTS_CACHED: Final = 64

# Only the process that owns a journal makes its token, and may serve it twice at once.
_making: Final = threading.Lock()

_BEARER: Final = "bearer "
# Pages of ours, and what a person typed or scripts send. Source: Fetch Metadata, W3C.
_OWN_SITES: Final = frozenset({"same-origin", "none"})
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]/@\s]+)(:[0-9]{1,5})?")


class Refusal(NamedTuple):
    """Why somebody may not come in. `status` is HTTP's."""

    status: int
    message: str


class Guard:
    """Stateless but for what it has looked up; one for every address that is listened on."""

    def __init__(self, options: ServeOptions, token: str | None) -> None:
        assert token is not None or not options.has_token, "a token is wanted, and there is none"
        self._token = None if token is None else token.encode()
        self._loopback = all(map(is_loopback, options.hosts))
        self._hosts = frozenset(host.lower() for host in options.allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in options.allowed_origins)
        # Each client names the same host in every request, and parsing it takes as long as a call
        # takes to be routed.
        self._is_known = lru_cache(maxsize=_HOSTS_CACHED)(self._is_ours)

    @property
    def has_token(self) -> bool:
        return self._token is not None

    def refuse(self, headers: Mapping[str, str], header_count: int) -> Refusal | None:
        """Why this request may not come in; None when it may."""
        return (
            self.refuse_host(headers)
            or self.refuse_origin(headers)
            or self._refuse_token(headers.get("authorization"))
            or _refuse_size(header_count)
        )

    def refuse_host(self, headers: Mapping[str, str]) -> Refusal | None:
        host = headers.get("host")
        if host is None:
            return Refusal(400, "the request names no host; HTTP/1.1 wants a Host header")
        if self._is_known(host):
            return None
        return Refusal(
            403,
            f"{host!r} is not an address of this engine. A page may have had its name pointed at"
            " this machine. If it is a name of this machine, serve with allowed_hosts",
        )

    def refuse_origin(self, headers: Mapping[str, str]) -> Refusal | None:
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site", "none") in _OWN_SITES:
                return None
            return Refusal(403, "a page of another site may not send requests to this engine")
        if self.may_call(origin) or origin.lower() == f"http://{headers.get('host', '')}".lower():
            return None
        return Refusal(
            403, f"the page {origin!r} may not call this engine; serve with allowed_origins"
        )

    def may_call(self, origin: str | None) -> bool:
        """Whether the options name this origin."""
        return origin is not None and origin.lower() in self._origins

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].strip("[]").lower()
        if name == "localhost" or name in self._hosts or host.lower() in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # A name can be rebound, a number cannot.
        return address.is_loopback or not self._loopback

    def _refuse_token(self, authorization: str | None) -> Refusal | None:
        if self._token is None:
            return None
        if authorization is None:
            return Refusal(
                401, "no token: send 'authorization: Bearer TOKEN', with what is in the token file"
            )
        scheme, given = authorization[: len(_BEARER)], authorization[len(_BEARER) :]
        is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
        if scheme.lower() == _BEARER and is_right:
            return None
        return Refusal(401, "wrong token: it is in the token file, and was printed with the URL")


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By lower-case name. Of several under one name the first counts, as in Restate."""
    headers: dict[str, str] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def _refuse_size(header_count: int) -> Refusal | None:
    if header_count <= HEADERS_MAX:
        return None
    return Refusal(431, f"the request has {header_count} headers; at most {HEADERS_MAX} are read")


def kept_token(file: Path) -> str:
    """The token in this file, made when it is first asked for; readable by its owner only.

    Raises:
        NbdurableError: The file cannot be read or made, or holds what cannot be a token.
    """
    try:
        with _making:
            return _kept_or_made(file)
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "it holds something else than ASCII text"
    raise NbdurableError(
        f"the token file {file} cannot be used: {why}. Name another one with token_file, or remove"
        " it, and a new token is made"
    )


def _kept_or_made(file: Path) -> str:
    if file.exists():
        token = file.read_text(encoding="ascii").strip()
        # Somebody may have copied the folder, or made it readable, since. What cannot be read is
        # nothing of ours, and is left as it is.
        file.chmod(0o600)
        if token:
            return token
    token = new_token()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, token.encode())
    return token


def new_token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)
