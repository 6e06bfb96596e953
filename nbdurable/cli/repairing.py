"""`nbdurable doctor --repair`: what is harmed, what would be done about it, and doing it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nbdurable.cli.asking import is_meant
from nbdurable.cli.exits import FAILED, NOT_FOUND, Refusal
from nbdurable.cli.finding import Finding, exact_time
from nbdurable.cli.owner import is_journal
from nbdurable.client.picture import short_id
from nbdurable.core.ids import InvocationId
from nbdurable.store import repair as repairs
from nbdurable.store.files import BLOBS_FOLDER
from nbdurable.store.repair import Examined


def repair(
    path: Path, now_ms: int, *, dry_run: bool, yes: bool, as_json: bool
) -> Iterator[Finding]:
    """The findings; of a repair that was carried out, what was done.

    Raises:
        Refusal: There is no journal; or it has changed while somebody thought.
        JournalHeldError: Somebody has it open.
    """
    if not is_journal(path):
        raise Refusal(f"there is no journal at {path}", NOT_FOUND)
    found = repairs.examine(path, now_ms)
    for harm in found.harms:
        yield Finding("harm", "ill" if found.is_hopeless or dry_run else "note", harm)
    yield from _lost(path, found)
    if found.is_hopeless:
        todo = "restore it from a backup, or move it away to begin a new one"
        yield Finding("repair", "ill", "too little of it can be read to make it anew", todo)
        return
    if not found.is_repairable:
        yield Finding("repair", "well", "all of it can be read; there is nothing to repair")
        return
    deeds = list(_deeds(path, found))
    if dry_run:
        again = f"nbdurable doctor --repair --journal {path}"
        yield from (Finding("repair", "note", f"would {deed}") for deed in deeds)
        yield Finding("repair", "ill", "nothing was done", again)
        return
    # The journal is not held while somebody thinks.
    if not yes:
        is_meant(deeds, dry_run=False, as_json=as_json)
    copy = repairs.repair(path, found, now_ms)
    if copy is None:
        raise Refusal("the journal has changed meanwhile, and nothing was done; look again", FAILED)
    yield Finding("repair", "well", f"done; {path} as it was is in {copy}")


def _deeds(path: Path, found: Examined) -> Iterator[str]:
    yield f"copy {path} aside, beside it, as it is"
    if found.kept is not None:
        last = "no fact"
        if found.kept.last_at_ms is not None:
            last = f"fact {found.kept.last_lsn} of {exact_time(found.kept.last_at_ms)}"
        yield f"make its databases anew of what can be read, which ends with {last}"
        if found.given_up_count:
            count = found.given_up_count
            facts = "the one fact" if count == 1 else f"the {count} facts"
            yield f"give up {facts} acknowledged after that"
        elif not found.acknowledged:
            yield "give up what came after that, if anything did: nobody knows"
    for name, source in found.found_files.items():
        yield f"put back {BLOBS_FOLDER}/{name} from {source}"


def _lost(path: Path, found: Examined) -> Iterator[Finding]:
    """Large payloads that are nowhere, and those that an earlier copy has."""
    for name, run in found.lost_files.items():
        says = f"{path / BLOBS_FOLDER / name} is missing or harmed"
        whose = "" if run is None else f"; {short_id(InvocationId(run))} needs it"
        if name in found.found_files:
            yield Finding("payload", "note", f"{says}{whose}")
            continue
        todo = "restore that file from a backup; all else goes on without it"
        yield Finding("payload", "ill", f"{says}{whose}", todo)
