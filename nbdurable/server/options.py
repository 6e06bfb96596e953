"""How an engine is served: where, to whom, and how much of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nbdurable.errors import SettingsError
from nbdurable.settings.said import settings_here

# Restate's bound for one message (restate-semantics.md, 1.7).
BODY_BYTES_MAX: Final = 32 * 1024 * 1024


def _token_file_here() -> Path | None:
    settings = settings_here()
    return None if settings is None else settings.token_file


def _origins_here() -> tuple[str, ...]:
    settings = settings_here()
    return () if settings is None else settings.allowed_origins


def _hosts_here() -> tuple[str, ...]:
    settings = settings_here()
    return () if settings is None else settings.allowed_hosts


def _body_bytes_here() -> int:
    settings = settings_here()
    return BODY_BYTES_MAX if settings is None else int(settings.body_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What is not said is the safe choice: loopback, a free port, a token.

    The last four are then as the environment or `pyproject.toml` says. The first five are not: what
    is set of them is meant for `up`, and a notebook beside it must not want the same port.

    Attributes:
        host: An address to listen on. What is not loopback can be reached by others.
        ingress_port: 0 takes a free one; Restate's is 8080.
        admin_port: 0 takes a free one; Restate's is 9070.
        admin_host: Where the admin API listens, if not on `host`.
        has_token: False lets everybody on this machine in, and is refused elsewhere.
        token_file: Where the token is kept, if not with the journal; made when it is missing.
            None is with the journal.
        allowed_origins: Pages that may call from a browser, e.g. `http://localhost:8888`.
        allowed_hosts: Names under which this machine is called, besides its addresses.
        body_bytes_max: A request may have this many; one more is a 413.
    """

    host: str = "127.0.0.1"
    ingress_port: int = 0
    admin_port: int = 0
    admin_host: str | None = None
    has_token: bool = True
    token_file: Path | None = field(default_factory=_token_file_here)
    allowed_origins: tuple[str, ...] = field(default_factory=_origins_here)
    allowed_hosts: tuple[str, ...] = field(default_factory=_hosts_here)
    body_bytes_max: int = field(default_factory=_body_bytes_here)

    def __post_init__(self) -> None:
        if "*" in self.allowed_origins or "*" in self.allowed_hosts:
            raise SettingsError(
                "'*' would let every page a browser shows call this engine; name the origins and"
                " hosts that may, e.g. allowed_origins=('http://localhost:8888',)"
            )
        open_host = next((host for host in self.hosts if not is_loopback(host)), None)
        if not self.has_token and open_host is not None:
            raise SettingsError(
                f"serving without a token is possible on loopback only, and {open_host!r} is not:"
                " whoever reaches it could run your handlers. Serve it with a token, or on"
                " 127.0.0.1"
            )

    @property
    def hosts(self) -> tuple[str, str]:
        """Of the ingress and of the admin API."""
        return self.host, self.host if self.admin_host is None else self.admin_host


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
