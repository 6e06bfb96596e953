"""Services that are served together: `app = nbdurable.app([greeter, counter])`.

One object for both homes of a handler. `nbdurable.open(services=app)` runs it on a journal here;
given to a server of ASGI applications (`hypercorn my_module:app`), the same handlers are served by
the official SDK to a Restate cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Literal, Optional, Union

from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider
from nbdurable.sdk.definition import Definition, by_name
from nbdurable.sdk.object import VirtualObject
from nbdurable.sdk.service import Service
from nbdurable.sdk.workflow import Workflow

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class App:
    """Iterating gives the services. Mutable: the official application is made at first need.

    Attributes:
        protocol: For the official SDK only, as are `identity_keys`.
    """

    def __init__(
        self,
        services: Iterable[Definition],
        protocol: Literal["bidi", "request_response"] | None = None,
        identity_keys: list[str] | None = None,
        journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
    ) -> None:
        self.services = by_name(services)
        self.protocol = protocol
        self.identity_keys = identity_keys or []
        self.journal_value_codec = journal_value_codec
        self._official: Asgi | None = None

    def __repr__(self) -> str:
        return f"<App {', '.join(self.services)}>"

    def __iter__(self) -> Iterator[Definition]:
        return iter(self.services.values())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection by the official SDK, which has to be installed."""
        await self.official()(scope, receive, send)

    def official(self) -> Asgi:
        """Return the official SDK's application for the same services.

        Raises:
            ImportError: restate-sdk is not installed.
            DefinitionError: A handler uses what a cluster has not.
        """
        if self._official is None:
            from nbdurable.deploy.official import official_app

            self._official = official_app(self)
        return self._official


def app(
    services: Iterable[Union[Service, VirtualObject, Workflow]],
    protocol: Optional[Literal["bidi", "request_response"]] = None,
    identity_keys: Optional[list[str]] = None,
    journal_value_codec: Optional[Union[JournalValueCodec, JournalValueCodecProvider]] = None,
) -> App:
    """Name the services that are served together.

    Args:
        services: Services, objects and workflows; each name once.
        protocol: How the official SDK talks to its server; an engine here has no use for it.
        identity_keys: Whose requests the official SDK accepts; the same.
        journal_value_codec: Transforms every value that is recorded, here and there.
    """
    return App(services, protocol, identity_keys, journal_value_codec)
