"""`%durable state | export | doctor`: the journal itself, rather than a run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from IPython.core.error import UsageError

from nbdurable.client.answers import typed_value
from nbdurable.client.picture import readable
from nbdurable.core.values import ObjectId
from nbdurable.errors import ConflictError
from nbdurable.notebook.meant import run_meant
from nbdurable.notebook.session import Session
from nbdurable.notebook.spelling import no_such
from nbdurable.notebook.widgets.views_html import Columns, Sentence

_STATE_USAGE: Final = "write: %durable state SERVICE/KEY [NAME [JSON]], e.g. state Counter/user123"
_MARKS: Final = {"well": "✓", "note": "·", "ill": "✗"}
_NO_PAYLOADS: Final = "--no-payloads"


def state(session: Session, words: list[str]) -> Any:  # noqa: ANN401 - the user's values.
    """What a key holds, as a dict; the value under a name; or, with a value, put it there."""
    of = _key(session, words[:1])
    operator = session.client.operator()
    found = session.client.wait(operator.state(of))
    match words[1:]:
        case []:
            return {name: readable(value) for name, value in found.values.items()}
        case [name]:
            if name not in found.values:
                raise UsageError(no_such(f"{of} has nothing under", name, sorted(found.values)))
            return readable(found.values[name])
        case [name, *value]:
            text = " ".join(value)
            typed_value(text)
            values = {**found.values, name: text.encode()}
            try:
                session.client.wait(operator.edit_state(of, values, found.version))
            except ConflictError:
                raise UsageError(
                    f"{of} is in use, or was changed just now, so that nobody knows what this"
                    " would undo; look and try again"
                ) from None
            return Sentence(f"{of} holds {', '.join(values)}")


def _key(session: Session, words: list[str]) -> ObjectId:
    service, _, key = (words[0] if words else "").partition("/")
    if not (service and key):
        raise UsageError(_STATE_USAGE)
    known = {one.name: one for one in session.client.wait(session.client.services())}
    if service not in known:
        raise UsageError(no_such("no service is called", service, sorted(known)))
    if known[service].type == "service":
        raise UsageError(f"{service} is a service, which has no keys and no state")
    return ObjectId(service=service, key=key)


def export(session: Session, words: list[str]) -> Sentence:
    """All of the journal, or what belongs to one run, as Parquet files in a new folder."""
    payloads = _NO_PAYLOADS not in words
    for word in words:
        if word.startswith("-") and word != _NO_PAYLOADS:
            raise UsageError(no_such("export has no option", word, [_NO_PAYLOADS]))
    rest = [word for word in words if word != _NO_PAYLOADS]
    if len(rest) not in (1, 2):
        raise UsageError(f"write: %durable export FOLDER [ID] [{_NO_PAYLOADS}]")
    folder, client = Path(rest[0]), session.client
    run = run_meant(session, rest[1]).id if rest[1:] else None
    try:
        counts = client.wait(client.export(folder, invocation_id=run, payloads=payloads))
    except ImportError as error:
        raise UsageError(str(error)) from None
    rows = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Sentence(f"wrote {folder}: rows of {rows}")


def doctor(session: Session, words: list[str]) -> Columns:
    """What is well and what is not. In a process of its own: it must not trust this one."""
    if words:
        raise UsageError(
            "doctor takes nothing; in a terminal, nbdurable doctor --repair mends what can be"
        )
    command = [sys.executable, "-m", "nbdurable", "doctor", "--json", "--journal"]
    done = subprocess.run(  # noqa: S603 - our own program.
        [*command, str(session.path)], capture_output=True, text=True, check=False
    )
    try:
        findings = json.loads(done.stdout)
    except ValueError:
        raise UsageError(f"doctor said nothing: {done.stderr.strip()[-300:]}") from None
    return Columns("\n".join(line for finding in findings for line in _said(finding)))


def _said(finding: dict[str, str]) -> Iterator[str]:
    yield f"{_MARKS[finding['health']]} {finding['check']:<10}{finding['says']}"
    if finding["todo"]:
        yield f"{'':<12}→ {finding['todo']}"
