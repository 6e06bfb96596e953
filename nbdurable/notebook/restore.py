"""`%durable restore`: run the recorded source of cells again, for runs whose code is not loaded.

The source was journaled when its cell was run. What the cell itself did not define, such as an
import of another cell, it finds in the present namespace or not at all: that is named.
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import builtins
from datetime import timedelta
from typing import Final

from IPython.core.error import UsageError

from nbdurable.core.manifest import ServiceManifest
from nbdurable.notebook.cells import KINDS, RUN_ORIGIN, define, run_cell
from nbdurable.notebook.needs import looked_up, sets
from nbdurable.notebook.options import CellOptions
from nbdurable.notebook.parse import CONTEXT
from nbdurable.notebook.session import Session
from nbdurable.notebook.spelling import no_such
from nbdurable.notebook.widgets.views_html import Sentence

# What a cell's origin begins with; a module has none, and papermill names itself.
_CELL: Final = "Cell"


def restore(session: Session, words: list[str]) -> Sentence:
    """Of the services that are named, or of all that an unfinished run waits for."""
    client = session.client
    known = {manifest.name: manifest for manifest in client.wait(client.services())}
    for name in words:
        if name not in known:
            raise UsageError(no_such("no service is called", name, sorted(known)))
    wanted = words or _waited_for(session)
    if not wanted:
        return Sentence("the code of every unfinished run is loaded")
    return Sentence("\n".join(_restored(session, known[name]) for name in wanted))


def _waited_for(session: Session) -> list[str]:
    views = session.client.wait(session.client.invocations())
    waiting = [view.service for view in views if not view.is_done and not view.is_code_loaded]
    return sorted(set(waiting))


def _restored(session: Session, manifest: ServiceManifest) -> str:
    """Run one cell; the line that says what came of it."""
    source, name, origin = manifest.source, manifest.name, manifest.origin or ""
    if source is None or not origin.startswith(_CELL):
        where = f"by {origin}" if origin else "in a module or script"
        return f"{name}: it was defined {where}, and not by a cell; import it, or run that again"
    options = _options(manifest)
    try:
        if origin.endswith(RUN_ORIGIN):
            told = define(session, "run", options, name, source).told
        else:
            told = run_cell(session, KINDS[manifest.type], options, name, source)
    except UsageError as error:
        return f"{name}: not restored: {error}"
    except Exception as error:  # noqa: BLE001 - border: the user's code, in another namespace.
        return f"{name}: not restored: {type(error).__name__}: {error}; run what it needs first"
    handlers = {handler.name for handler in manifest.handlers}
    missing = [one for one in _missing(session, source) if one not in handlers | {CONTEXT}]
    misses = f"; it misses {', '.join(missing)}: run the cells that define them" if missing else ""
    return f"{told}{misses}"


def _options(manifest: ServiceManifest) -> CellOptions:
    """What stood on the cell's first line: all its handlers have the same."""
    first = manifest.handlers[0]
    attempts = None if first.retry is None else first.retry.max_attempts
    return CellOptions(
        name=manifest.name,
        retries=None if attempts is None else attempts - 1,
        timeout=_duration(first.abort_timeout_ms),
        retention=_duration(first.journal_retention_ms),
        private=first.ingress_private,
        state_retention=_duration(manifest.state_retention_ms),
    )


def _duration(ms: int | None) -> timedelta | None:
    return None if ms is None else timedelta(milliseconds=ms)


def _missing(session: Session, source: str) -> list[str]:
    """Names that the cell's code looks up outside itself, and that nothing has."""
    shell = session.shell
    present = shell.user_ns.keys() | vars(builtins).keys() | sets(shell, source)
    return sorted(looked_up(shell, source) - present)
