"""`nbdurable serve`: the same services for a Restate cluster. No journal is opened here."""

from __future__ import annotations

import asyncio

import click

from nbdurable.cli.apps import load_services
from nbdurable.cli.exits import Refusal
from nbdurable.cli.signals import signalled
from nbdurable.cli.words import json_option, write_json
from nbdurable.deploy.endpoint import App
from nbdurable.deploy.serving import Endpoint
from nbdurable.settings.model import Address


@click.command
@click.option(
    "--app", "app", metavar="PATH_OR_MODULE[:ATTR]", required=True, help="Where the services are."
)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    default="127.0.0.1:9080",
    show_default=True,
    help="Where the cluster reaches them.",
)
@json_option
def serve(app: str, bind: str, as_json: bool) -> None:
    """Serve services to a Restate cluster, which journals what they do.

    Then, where the cluster is: restate deployments register http://HOST:PORT
    """
    try:
        address = Address.parse(bind)
    except ValueError as error:
        raise click.UsageError(f"--bind: {error}") from None
    services = load_services(app)
    served = services if isinstance(services, App) else App(services)
    asyncio.run(_live(Endpoint(served, address.host, address.port), as_json=as_json))


async def _live(endpoint: Endpoint, *, as_json: bool) -> None:
    stopping = signalled()
    try:
        endpoint.start()
    except ImportError as error:
        raise Refusal(str(error)) from None
    with endpoint:
        if as_json:
            write_json({"url": endpoint.url, "services": list(endpoint.app.services)})
        else:
            click.echo(endpoint.greeting)
            click.echo("Ctrl-C ends it; the cluster tries again what ran here.", err=True)
        await stopping.wait()
