"""What a query has found, as JSON, in two shapes.

Restate's, `{"rows": [{column: value}]}`, leaves out nulls, and with them what a value was. Ours has
everything that `Found` has, so that a client on the other side gets the same as one in the process.
Values are written alike in both: bytes as hex, times as RFC 3339, lengths of time as `PT86400S`.

Source: restate-http-observed.md, "SQL"; restate-cli-calls.md, "SQL".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from nbdurable.client.query import Found, Parameters

# What a client asks for by its `accept` header to get all of `Found`.
FOUND_TYPE: Final = "application/vnd.nbdurable.found+json"

_LIST: Final = re.compile(r"(.*)\[(\d*)\]")
_US: Final = timedelta(microseconds=1)
_NONE: Final = timedelta()

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def question_json(sql: str, parameters: Parameters | None) -> bytes:
    """The body of a request for it."""
    given: dict[str, object] = {"query": sql}
    if isinstance(parameters, Mapping):
        given["parameters"] = {name: _plain(value) for name, value in parameters.items()}
    elif parameters is not None:
        given["parameters"] = [_plain(value) for value in parameters]
    return _encode(given)


def rows_json(found: Found) -> bytes:
    """Restate's shape."""
    rows = [
        {
            name: _plain(cell)
            for name, cell in zip(found.columns, row, strict=True)
            if cell is not None
        }
        for row in found.rows
    ]
    return _encode({"rows": rows})


def found_json(found: Found) -> bytes:
    rows = [[_plain(cell, is_exact=True) for cell in row] for row in found.rows]
    return _encode(
        {
            "columns": found.columns,
            "types": found.types,
            "rows": rows,
            "cut_by": found.cut_by,
        }
    )


def found_of(content: bytes) -> Found:
    """What `found_json` has written, as it was."""
    told = json.loads(content, parse_float=Decimal)
    types = tuple(told["types"])
    rows = [
        tuple(_typed(cell, kind) for cell, kind in zip(row, types, strict=True))
        for row in told["rows"]
    ]
    return Found(tuple(told["columns"]), types, rows, told["cut_by"])


def _plain(cell: object, *, is_exact: bool = False) -> object:
    """`is_exact`: what JSON has no number for is its name, and not null."""
    match cell:
        case None | bool() | int() | str() | Decimal():
            return cell
        case float():
            return str(cell) if is_exact and not math.isfinite(cell) else cell
        case bytes():
            return cell.hex()
        case datetime(tzinfo=None):
            return _clock(cell)
        case datetime():
            return _clock(cell.astimezone(UTC).replace(tzinfo=None)) + "Z"
        case date() | time():
            return cell.isoformat()
        case timedelta():
            return _span(cell)
        case list() | tuple():
            return [_plain(part, is_exact=is_exact) for part in cell]
        case dict():
            return {str(name): _plain(part, is_exact=is_exact) for name, part in cell.items()}
        case _:
            return str(cell)


def _clock(at: datetime) -> str:
    """With as many digits as it has, in threes."""
    if at.microsecond == 0:
        return at.isoformat(timespec="seconds")
    return at.isoformat(timespec="microseconds" if at.microsecond % 1_000 else "milliseconds")


def _span(span: timedelta) -> str:
    seconds = Decimal(abs(span) // _US) / 1_000_000
    sign = "-" if span < _NONE else ""
    return f"{sign}PT{seconds.normalize():f}S" if span else "P0D"


def _span_of(text: str) -> timedelta:
    sign, _, seconds = text.removesuffix("S").partition("PT")
    span = timedelta(microseconds=int(Decimal(seconds or 0) * 1_000_000))
    return -span if sign == "-" else span


def _typed(cell: Any, kind: str) -> Any:
    if cell is None:
        return None
    listed = _LIST.fullmatch(kind)
    if listed is not None and isinstance(cell, list):
        parts = [_typed(part, listed[1]) for part in cell]
        # DuckDB's arrays are of one length, and tuples in Python.
        return tuple(parts) if listed[2] else parts
    match kind:
        case "BLOB":
            return bytes.fromhex(cell)
        case "FLOAT" | "DOUBLE":
            return float(cell)
        case "DATE":
            return date.fromisoformat(cell)
        case "TIME":
            return time.fromisoformat(cell)
        case "INTERVAL":
            return _span_of(cell)
        case "UUID":
            return UUID(cell)
        case _ if kind.startswith("TIMESTAMP"):
            return datetime.fromisoformat(cell)
        case _ if kind.startswith("DECIMAL"):
            return Decimal(cell)
        case _:
            return cell
