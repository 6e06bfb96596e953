"""`nbdurable doctor`: what is well and what is not, with what to do; and a journal set aside.

Each check is a function that looks at one thing and says one sentence. Nothing is modified but by
`--repair` (see `repairing.py`), which says before what would be lost, and copies everything aside.
"""

from __future__ import annotations

import asyncio
import platform
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from nbdurable import __version__
from nbdurable.cli.asking import destructive
from nbdurable.cli.exits import NOT_FOUND, Refusal
from nbdurable.cli.finding import Finding, exact_time, show_findings
from nbdurable.cli.owner import is_journal, reached
from nbdurable.cli.repairing import repair
from nbdurable.cli.words import common
from nbdurable.client.picture import clock_time
from nbdurable.client.questions import NewestInvocations
from nbdurable.client.views import InvocationView
from nbdurable.core.proposals import StartEpoch
from nbdurable.engine.clock import WallClock
from nbdurable.errors import JournalHeldError, NbdurableError, SettingsError, StoreError
from nbdurable.server.address import ServedAt
from nbdurable.settings.model import (
    Settings,
    default_settings,
    read_settings,
    unknown_variables,
)
from nbdurable.settings.said import HOME
from nbdurable.store import files, rescue
from nbdurable.store import repair as repairs
from nbdurable.store.disk import disk_use, shown_bytes
from nbdurable.wiring import journal_path

# An absorb needs about as much as it moves, and a query may spill half a gigabyte.
_FREE_BYTES_MIN: Final = 1024**3
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# Whose versions decide what a journal's files and values are.
_NEIGHBOURS: Final = ("duckdb", "msgspec")


@click.command
@click.option("--copy-aside", is_flag=True, help="Only copy a journal that cannot be opened.")
@click.option("--repair", "is_repair", is_flag=True, help="Copy it aside, and mend what can be.")
@destructive
@common
def doctor(
    copy_aside: bool,
    is_repair: bool,
    dry_run: bool,
    yes: bool,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Look at everything a journal needs, and say what is wrong and what to do.

    With --repair, a journal that nobody has open is read whole, and made anew of what can be read;
    --dry-run says what that would be. Exits with 1 when something is ill.
    """
    if dry_run and not is_repair:
        raise click.UsageError("nothing is done without --repair, so there is nothing to try")
    wrong: SettingsError | None = None
    try:
        settings = read_settings({"home": journal})
    except SettingsError as error:
        # It is asked what is wrong, and this may not be all.
        wrong, settings = error, default_settings(journal)
    path = journal_path(settings.home)
    findings: list[Finding] = []
    if copy_aside:
        findings = list(_aside(path))
    elif not is_repair:
        findings = [_versions(), _set(wrong), *_of_the_folder(path)]
        if is_journal(path):
            findings += _of_the_journal(settings)
    if is_repair:
        findings += repair(path, WallClock().now_ms(), dry_run=dry_run, yes=yes, as_json=as_json)
    show_findings(findings, as_json=as_json)


def _versions() -> Finding:
    versions = [f"nbdurable {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in _NEIGHBOURS]
    return Finding("versions", "well", f"{', '.join(versions)} on {platform.platform()}")


def _set(wrong: SettingsError | None) -> Finding:
    """What is set, and whether it is understood."""
    if wrong is not None:
        todo = (
            f"correct it; looked at with defaults, the journal too: {HOME} or --journal names one"
        )
        return Finding("settings", "ill", str(wrong), todo)
    unknown = unknown_variables()
    if unknown:
        names = ", ".join(unknown)
        return Finding("settings", "ill", f"{names}: no such setting", "nbdurable config shows all")
    return Finding("settings", "well", "all that is set is known; `nbdurable config` shows it")


def _of_the_folder(path: Path) -> Iterator[Finding]:
    """What can be seen without opening anything."""
    try:
        files.refuse_network(path if path.exists() else path.parent)
    except StoreError as error:
        yield Finding("disk", "ill", str(error))
    if not is_journal(path):
        yield Finding("journal", "note", f"there is none at {path}; the first engine begins it")
        return
    yield Finding("journal", "well", str(path))
    use = disk_use(path)
    parts = f"{shown_bytes(use.database_bytes)} of databases, {shown_bytes(use.blob_bytes)} of"
    says = f"{parts} large payloads; {shown_bytes(use.free_bytes)} are free"
    if use.free_bytes < _FREE_BYTES_MIN:
        yield Finding("disk", "ill", says, "make room, or move the journal: NBDURABLE_HOME")
    else:
        yield Finding("disk", "well", says)
    open_to_others = sorted(_not_private(path))
    if open_to_others:
        names = ", ".join(open_to_others[:5])
        todo = f"chmod -R go= {path}"
        yield Finding("privacy", "ill", f"others can read {names}", todo)
    else:
        yield Finding("privacy", "well", "only its owner can read it")


def _of_the_journal(settings: Settings) -> list[Finding]:
    """What is found by reading all of it; or what whoever has it says."""
    path = journal_path(settings.home)
    try:
        return list(_at_rest(path))
    except JournalHeldError:
        return asyncio.run(_of_its_owner(settings))
    except NbdurableError as error:
        return [Finding("opening", "ill", str(error))]


def _at_rest(path: Path) -> Iterator[Finding]:
    """Nobody has it open, and nobody does so for this."""
    now_ms = WallClock().now_ms()
    found, machine = repairs.look(path, now_ms)
    mending = f"nbdurable doctor --repair --dry-run --journal {path}"
    for harm in found.harms:
        yield Finding("opening", "ill", harm, mending)
    if found.lost_files:
        count, first = len(found.lost_files), min(found.lost_files)
        says = f"of {found.file_count} large payloads {count} are missing or harmed, e.g. {first}"
        yield Finding("payloads", "ill", says, mending)
    elif not found.harms:
        yield Finding("payloads", "well", f"all {found.file_count} large payloads are there")
    if machine is not None:
        todo = "what is due by itself waits until something is; nbdurable up --app …"
        yield Finding("owner", "note", "no process has it open, and all of it can be read", todo)
        # As it will be for whoever opens it: what was running is not.
        machine.decide(StartEpoch(owner="nbdurable doctor", version=__version__), now_ms)
        known = NewestInvocations(count_max=0).of(machine.state)
        unfinished = NewestInvocations(statuses=("unfinished",)).of(machine.state)
        yield from _runs(known.found_count, unfinished.views)


async def _of_its_owner(settings: Settings) -> list[Finding]:
    try:
        async with reached(settings) as at_hand:
            known = await at_hand.client.newest_invocations(0)
            unfinished = await at_hand.client.newest_invocations(statuses=["unfinished"])
            owner = [] if at_hand.owner is None else [_owner(at_hand.owner)]
            return [*owner, *_runs(known.found_count, unfinished.views)]
    except Refusal as refusal:
        return [Finding("owner", "ill", refusal.message)]
    except NbdurableError as error:
        return [Finding("opening", "ill", str(error))]


def _owner(owner: ServedAt) -> Finding:
    since = clock_time(owner.started_at_ms)
    says = f"{owner.who} since {since}, nbdurable {owner.version}, at {owner.admin}"
    if owner.version != __version__:
        return Finding("owner", "ill", says, "use one version in a project; restart that process")
    return Finding("owner", "well", says)


def _runs(known_count: int, unfinished: Sequence[InvocationView]) -> list[Finding]:
    counted = Counter(view.status for view in unfinished)
    says = ", ".join(f"{count} {status}" for status, count in counted.most_common())
    findings = [Finding("runs", "well", f"{known_count}, of which {len(unfinished)} are not over")]
    if says:
        findings[0] = findings[0]._replace(says=f"{findings[0].says}: {says}")
    paused = [view for view in unfinished if view.status == "paused"]
    if paused:
        todo = "nbdurable ls --status paused; correct the code, then nbdurable resume RUN"
        findings.append(Finding("paused", "ill", f"{len(paused)} wait for a correction", todo))
    lost = {view.service: view.how_to_load for view in unfinished if not view.is_code_loaded}
    findings += [
        Finding("code", "note", f"{service} is loaded nowhere", how)
        for service, how in lost.items()
    ]
    return findings


# -- setting aside ------------------------------------------------------------------------------


def _aside(path: Path) -> Iterator[Finding]:
    if not is_journal(path):
        raise Refusal(f"there is no journal at {path}", NOT_FOUND)
    copy = rescue.copy_aside(path, WallClock().now_ms())
    yield Finding("copied", "well", f"{path} as it is now is in {copy}; nothing was modified")
    for found in rescue.readable(copy):
        yield _how_far(path, found)


def _how_far(path: Path, found: rescue.Readable) -> Finding:
    """What would be lost without what cannot be read."""
    last = ""
    if found.last_at_ms is not None:
        last = f", the last of {exact_time(found.last_at_ms)}"
    facts = f"{found.fact_count} facts can be read{last}"
    if found.problem is None:
        return Finding(found.file, "well", facts)
    if not found.is_without_log:
        todo = "restore it from a backup, or move the journal away to begin a new one"
        return Finding(found.file, "ill", f"nothing of it can be read: {found.problem}", todo)
    lost = f"its log of {shown_bytes(found.log_bytes)} cannot be: {found.problem}"
    todo = f"nbdurable doctor --repair --journal {path}; or restore it from a backup"
    return Finding(found.file, "ill", f"{facts}; {lost}", todo)


def _not_private(path: Path) -> Iterator[str]:
    for entry in (path, *path.iterdir()):
        try:
            mode = stat.S_IMODE(entry.stat().st_mode)
        except FileNotFoundError:
            continue
        if mode & _OTHERS:
            yield entry.name
