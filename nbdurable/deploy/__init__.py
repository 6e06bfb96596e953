"""The same handlers elsewhere: `app()` names services, `official` serves them by restate-sdk."""

from __future__ import annotations

from collections.abc import Iterable

from nbdurable.deploy.endpoint import App, Asgi
from nbdurable.sdk.definition import Definition


def restate_app(services: Iterable[Definition]) -> Asgi:
    """Return the official SDK's ASGI application of these services, for a Restate cluster.

    restate-sdk is imported here and not before; `nbdurable.app()` is for what needs options.

    Raises:
        ImportError: restate-sdk is not installed: `pip install 'nbdurable[restate]'`.
        DefinitionError: A handler uses what a cluster has not.
    """
    return App(services).official()
