"""What can be called, and where its code is: `services`, `deployments`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import common, write_json, write_table
from nbdurable.client.engine import EngineClient
from nbdurable.client.picture import clock_time
from nbdurable.client.questions import Deployment
from nbdurable.core.manifest import ServiceManifest
from nbdurable.errors import HttpError

_NOWHERE = "not loaded"


async def known_service(client: EngineClient, name: str) -> ServiceManifest:
    """Raises HttpError 404 for one that is not there, with those that are."""
    known = {service.name: service for service in await client.services()}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise HttpError(404, f"there is no service '{name}'; there are: {names}")
    return known[name]


@click.command
@common
def services(journal: Path | None, as_json: bool) -> None:
    """List services, their handlers, and whether their code is loaded anywhere."""
    latest = [one for one in ask(journal, _deployments) if one.is_latest]
    if as_json:
        write_json([_service(one) for one in latest])
        return
    rows = [
        (
            one.manifest.name,
            one.manifest.type.replace("_", " "),
            str(one.revision),
            ", ".join(handler.name for handler in one.manifest.handlers),
            one.link or _NOWHERE,
        )
        for one in sorted(latest, key=lambda one: one.manifest.name)
    ]
    write_table(("SERVICE", "TYPE", "REVISION", "HANDLERS", "LOADED IN"), rows)


@click.command
@common
def deployments(journal: Path | None, as_json: bool) -> None:
    """List every revision of every service: the code that runs are pinned to."""
    known = ask(journal, _deployments)
    if as_json:
        write_json([_deployment(one) for one in known])
        return
    rows = [
        (
            one.id,
            one.manifest.name,
            f"{one.revision}{' (latest)' if one.is_latest else ''}",
            clock_time(one.registered_at_ms),
            one.manifest.origin or "a module",
            one.link or _NOWHERE,
        )
        for one in known
    ]
    write_table(("ID", "SERVICE", "REVISION", "REGISTERED", "FROM", "LOADED IN"), rows)


async def _deployments(at_hand: Reached) -> list[Deployment]:
    return await at_hand.client.operator().deployments()


def _service(one: Deployment) -> dict[str, Any]:
    return {
        "name": one.manifest.name,
        "type": one.manifest.type,
        "revision": one.revision,
        "deployment_id": one.id,
        "handlers": [handler.name for handler in one.manifest.handlers],
        "public": any(not handler.ingress_private for handler in one.manifest.handlers),
        "loaded_in": one.link,
    }


def _deployment(one: Deployment) -> dict[str, Any]:
    return {
        "id": one.id,
        "service": one.manifest.name,
        "revision": one.revision,
        "is_latest": one.is_latest,
        "registered_at_ms": one.registered_at_ms,
        "origin": one.manifest.origin,
        "digest": one.manifest.digest,
        "loaded_in": one.link,
    }
