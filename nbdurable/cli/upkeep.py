"""What keeps a journal small, and what is set: `gc`, `config`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import click

from nbdurable.cli.asking import destructive, is_meant
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.words import DurationType, common, write_json, write_table
from nbdurable.client.picture import short_id, status_of
from nbdurable.client.views import InvocationView
from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.invoker.payloads import ms_of
from nbdurable.runs.lock import forget_gone
from nbdurable.settings.model import found_settings, read_settings, unknown_variables
from nbdurable.store.disk import disk_use, shown_bytes
from nbdurable.wiring import journal_path


@click.command
@click.option("--older-than", type=DurationType(), help="Forget finished runs of this age, too.")
@destructive
@common
def gc(
    older_than: timedelta | None,
    dry_run: bool,
    yes: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Forget what has been kept for as long as it should be; say what the journal takes.

    The owner of a journal does so by itself, every `cleanup_interval`. With --older-than 7d also
    finished runs that would be kept for longer, with their results. Logs of notebook runs that are
    gone go as well.
    """
    path = journal_path(read_settings({"home": journal}).home)

    async def look(at_hand: Reached) -> list[InvocationView]:
        if older_than is None:
            return []
        before_ms = at_hand.client.now_ms() - ms_of(older_than)
        listed = await at_hand.client.newest_invocations(statuses=["completed"])
        return [view for view in listed.views if (view.completed_at_ms or 0) <= before_ms]

    async def forget(at_hand: Reached) -> int:
        # Together, so that many take one commit.
        await asyncio.gather(*(at_hand.client.purge(view.id) for view in old))
        purged_count = len(old) + await at_hand.client.clean_up()
        left = await at_hand.client.calls_of(NOTEBOOK_SERVICE)
        forget_gone(at_hand.path, [view.key or "" for view, _ in left])
        return purged_count

    old = ask(journal, look)
    deeds = [f"forget {view.target} ({short_id(view.id)}, {status_of(view)})" for view in old]
    if dry_run and not deeds and not as_json:
        click.echo("would forget only what has been kept for as long as it should be")
        return
    # The journal is not held while somebody thinks.
    if (dry_run or not yes) and not is_meant(deeds, dry_run=dry_run, as_json=as_json):
        return
    purged_count = ask(journal, forget)
    use = disk_use(path)
    if as_json:
        write_json({"purged_count": purged_count, **use._asdict()})
    else:
        click.echo(
            f"{purged_count} runs forgotten; {path} takes {shown_bytes(use.total_bytes)}, of which"
            f" {shown_bytes(use.blob_bytes)} are large payloads"
        )


@click.command
@common
def config(journal: Path | None, as_json: bool) -> None:
    """Show every setting, its value, and who says so."""
    found = found_settings({"home": journal})
    if as_json:
        write_json([setting._asdict() for setting in found])
    else:
        write_table(("SETTING", "VALUE", "FROM", ""), [tuple(setting) for setting in found])
    for name in unknown_variables():
        click.echo(f"{name} is no setting; is it misspelled?", err=True)
