"""From the words in which Restate's CLI asks to DuckDB's, query by query; see sql/cli_queries.sql.

No translator of a dialect: what is not one of these queries goes to DuckDB as it came.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Final, NamedTuple

_LITERAL: Final = r"'(?:[^']|'')*'"
_PLACES: Final = {
    "{names}": rf"(?P<names>{_LITERAL}(?:\s*,\s*{_LITERAL})*)",
    "{filter}": r"(?P<filter>.+)",
}
_PLACE: Final = re.compile(r"(\{\w+\})")
# What case and white space there are is the CLI's own, and changes with its versions.
_TOKEN: Final = re.compile(rf"{_LITERAL}|\{{\w+\}}|\w+|\S")


class _Translation(NamedTuple):
    asked: re.Pattern[str]
    answered: str


def translated(sql: str) -> str:
    """The same query in DuckDB's words, if it is one of the CLI's that need them."""
    for translation in _TRANSLATIONS:
        match = translation.asked.fullmatch(sql)
        if match is not None:
            return translation.answered.format(**match.groupdict())
    return sql


def _read() -> tuple[_Translation, ...]:
    file = resources.files(__package__).joinpath("sql/cli_queries.sql")
    _, *blocks = file.read_text(encoding="utf-8").split("-- name: ")
    found = []
    for block in blocks:
        _, asked, answered = re.split(r"-- asked:\n|-- in DuckDB:\n", block)
        found.append(_Translation(_pattern(asked), answered.strip()))
    return tuple(found)


def _pattern(asked: str) -> re.Pattern[str]:
    """Any white space between any two tokens, and none at the ends that matters."""
    parts = [_PLACES.get(token) or re.escape(token) for token in _TOKEN.findall(asked)]
    return re.compile(r"\s*".join(["", *parts, ";?", ""]), re.IGNORECASE | re.DOTALL)


_TRANSLATIONS: Final = _read()
