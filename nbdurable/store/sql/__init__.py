"""All SQL of the store, by name. A query is `-- name: x`, a sentence that says why, and its text.

Read once at import: a query that is missing or named twice fails there, not in the middle of a run.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

_MARK: Final = "-- name: "


def parse(text: str) -> dict[str, str]:
    """The queries of one file. What stands before the first name is prose for people."""
    queries: dict[str, str] = {}
    for block in text.split(_MARK)[1:]:
        name, _, query = block.partition("\n")
        lines = query.strip().splitlines()
        assert lines[:1], f"query {name!r} is empty"
        assert lines[0].startswith("-- "), f"query {name!r} does not say why it is there"
        assert name not in queries, f"query {name!r} is there twice"
        queries[name.strip()] = "\n".join(line for line in lines if not line.startswith("--"))
    return queries


def _load(*files: str) -> dict[str, str]:
    queries: dict[str, str] = {}
    for file in files:
        found = parse(resources.files(__name__).joinpath(file).read_text(encoding="utf-8"))
        assert not queries.keys() & found.keys(), f"{file} names a query that is there already"
        queries |= found
    return queries


QUERIES: Final = _load(
    "schema.sql",
    "instance.sql",
    "queries.sql",
    "absorb.sql",
    "repair.sql",
    "history.sql",
    "views.sql",
    "journal.sql",
    "migrations/0002_snapshot.sql",
)

# In the order in which they build on each other. Views of our own instance, never stored.
HISTORY: Final = (
    "create_history",
    "create_invocations",
    "create_journal",
    "create_keys",
    "create_deployment",
)
