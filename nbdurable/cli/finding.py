"""What `doctor` has found, one thing a line, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from rich.text import Text

from nbdurable.cli.exits import FAILED
from nbdurable.cli.words import write_json, write_table

Health = Literal["well", "note", "ill"]

_MARKS: Final[dict[Health, tuple[str, str]]] = {
    "well": ("✓", "green"),
    "note": ("·", "yellow"),
    "ill": ("✗", "red"),
}


class Finding(NamedTuple):
    """What one check has found. `todo` is empty where nothing is to be done."""

    check: str
    health: Health
    says: str
    todo: str = ""


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Raises SystemExit with 1 when something is ill."""
    if as_json:
        write_json([finding._asdict() for finding in findings])
    else:
        rows: list[tuple[Text, ...]] = []
        for finding in findings:
            mark, colour = _MARKS[finding.health]
            rows.append((Text(mark, colour), Text(finding.check), Text(finding.says)))
            if finding.todo:
                rows.append((Text(), Text(), Text(f"→ {finding.todo}", "bold")))
        write_table(("", "", ""), rows)
    if any(finding.health == "ill" for finding in findings):
        raise SystemExit(FAILED)


def exact_time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S}"
