"""`nbdurable up`: own the journal, run the services of a file or a module, and serve both ports.

It ends by a signal, or by itself when `--idle-exit` says so and nothing here needs a process.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

import nbdurable
from nbdurable import __version__
from nbdurable.cli.apps import load_services
from nbdurable.cli.signals import signalled
from nbdurable.cli.words import common, write_json
from nbdurable.invoker.alertness import have_no_other_threads
from nbdurable.runs.sending import offer_notebooks
from nbdurable.sdk.definition import Definition
from nbdurable.server.options import ServeOptions
from nbdurable.server.serving import Serving
from nbdurable.settings.model import Address, Settings, read_settings
from nbdurable.wiring import DurableEngine

_LOOK_EVERY_S: Final = 1.0
# Whoever sleeps longer is woken by the next process; within a day somebody counts on this one.
_DUE_WITHIN_MS: Final = 24 * 3_600_000
# Python's own are for programs that come and go, and cost a server 13 % of its calls.
_GC_THRESHOLDS: Final = (10_000, 20, 50)


@click.command
@click.option("--app", "app", metavar="PATH_OR_MODULE[:ATTR]", help="Where the services are.")
@click.option("--ingress", metavar="HOST:PORT", help="Where calls are taken; 127.0.0.1:8080.")
@click.option("--admin", metavar="HOST:PORT", help="Where it is operated; 127.0.0.1:9070.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the token is; made when it is missing.",
)
@click.option("--no-token", is_flag=True, default=None, help="Let everybody on this machine in.")
@click.option("--idle-exit", metavar="10m", help="End after this long with nothing to do.")
@common
def up(
    app: str | None,
    ingress: str | None,
    admin: str | None,
    token_file: Path | None,
    no_token: bool | None,
    idle_exit: str | None,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Own the journal, run services, and serve them over HTTP.

    Without --app it runs no code of its own: it keeps the journal, its timers and its answers
    alive for the notebooks and scripts of the project.
    """
    if no_token and token_file is not None:
        raise click.UsageError("--token-file and --no-token exclude each other")
    settings = read_settings(
        {
            "home": journal,
            "ingress": ingress,
            "admin": admin,
            "token_file": token_file,
            # What is typed wins over what is set, also where the two are one question.
            "no_token": False if token_file is not None else no_token,
            "idle_exit": idle_exit,
        }
    )
    services = load_services(app) if app is not None else []
    with asyncio.Runner() as runner:
        runner.run(_live(services, settings, as_json=as_json))


async def _live(services: Iterable[Definition], settings: Settings, *, as_json: bool) -> None:
    # First, for what is refused leaves no journal behind.
    served = serve_options(settings)
    stopping = signalled()
    # It owns the journal or does not start: others join it, and it joins nobody.
    options = settings.engine_options()
    opened = DurableEngine(settings.home, services, options=options, lasts=True)
    async with opened as engine, nbdurable.serve(engine, served) as serving:
        _settle_down()
        # What earlier ones have brought is known, and not here.
        known = await engine.client.operator().deployments()
        names = list(dict.fromkeys(one.manifest.name for one in known if one.link is not None))
        await offer_notebooks(engine.client)
        _greet(engine, serving, names, as_json=as_json)
        why = await _until_over(engine, serving, stopping, settings.idle_exit)
        click.echo(f"{why}; closing the journal", err=True)


def _settle_down() -> None:
    """What is here once it serves stays for good: the garbage collector need not look at it again.

    And no thread of anybody's computes beside the handlers. In this process only, which is nobody
    else's: a notebook's collector is its user's affair.
    """
    gc.collect()
    have_no_other_threads()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def serve_options(settings: Settings) -> ServeOptions:
    """Raises SettingsError for what would let strangers in."""
    ingress, admin = Address.parse(settings.ingress), Address.parse(settings.admin)
    return ServeOptions(
        host=ingress.host,
        ingress_port=ingress.port,
        admin_host=admin.host,
        admin_port=admin.port,
        has_token=not settings.no_token,
        token_file=settings.token_file,
        allowed_origins=settings.allowed_origins,
        allowed_hosts=settings.allowed_hosts,
        body_bytes_max=int(settings.body_limit),
    )


def _greet(engine: DurableEngine, serving: Serving, names: list[str], *, as_json: bool) -> None:
    if as_json:
        write_json(
            {
                "version": __version__,
                "journal": engine.path,
                "ingress": serving.ingress_url,
                "admin": serving.admin_url,
                "token_file": serving.token_file,
                "services": names,
            }
        )
        return
    click.echo(f"nbdurable {__version__} is up")
    click.echo(f"journal  {engine.path}")
    click.echo(f"serves   {', '.join(names) or 'no code of its own; see --app'}")
    click.echo(serving.greeting)
    click.echo("Ctrl-C ends it; what runs goes on when the journal is next opened.", err=True)


async def _until_over(
    engine: DurableEngine, serving: Serving, stopping: asyncio.Event, idle_exit: timedelta | None
) -> str:
    """Return why: a signal, or that there was nothing to do for so long.

    Raises:
        NbdurableError: The engine has stopped by itself.
    """
    loop = asyncio.get_running_loop()
    calm_since, last_lsn = loop.time(), -1
    while True:
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):
                await stopping.wait()
        except TimeoutError:
            pass
        else:
            return "told to end"
        engine.engine.check_alive()
        if idle_exit is None:
            continue
        calm = await engine.client.calm(engine.client.now_ms() + _DUE_WITHIN_MS)
        is_used = serving.connections.are_used or engine.is_starting_runs
        if not calm.is_calm or calm.last_lsn != last_lsn or is_used:
            calm_since, last_lsn = loop.time(), calm.last_lsn
        elif loop.time() - calm_since >= idle_exit.total_seconds():
            return "nothing to do"
