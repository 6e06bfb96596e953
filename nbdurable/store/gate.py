"""What may be asked of history, and what is wrong with what may not.

Exactly one SELECT, of tables and of functions that only compute. A transaction that cannot write
is no fence by itself: a SELECT may hold an INSERT in a common table expression, and a table
function may take a checkpoint or read a file. So the parsed statement is looked through.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb

from nbdurable.errors import QueryError
from nbdurable.store.sql import QUERIES

# All others read or write something outside of the journal, or work on the engine itself.
_TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "json_each",
        "json_tree",
        "pragma_table_info",
        "range",
        "repeat",
        "unnest",
    }
)
_FORBIDDEN_FUNCTIONS: Final = frozenset({"nextval", "setval", "write_log"})
# What makes much of little, by which argument (None: by each). It does so beside DuckDB's memory
# limit, and cannot be interrupted.
_GROWING_FUNCTIONS: Final[dict[str, int | None]] = {
    "array_resize": 1,
    "generate_series": None,
    "list_resize": 1,
    "lpad": 1,
    "range": None,
    "repeat": 1,
    "rpad": 1,
}
# 2,048 values at once, of 8 bytes each: as much as one query may hold.
GROWN_MAX: Final = 10_000

_ONLY_SELECT: Final = "Exactly one SELECT can be asked of a journal"
_ELSEWHERE: Final = (
    "take the result as .df() or .arrow() into a DuckDB connection of your own, which may read and"
    " write what it likes"
)
_WAYS_OUT: Final = {
    "ATTACH": _ELSEWHERE,
    "COPY": "write files with client.export()",
    "EXPORT": "write files with client.export()",
    "EXPLAIN": "ask the SELECT itself; it is interrupted if it takes too long",
    "MULTI": "PIVOT works in several steps; group by instead, or pivot the .df()",
    "CALL": "a query only reads",
}
# DuckDB has one name for several statements; people look for the word they wrote.
_FIRST_WORD: Final = re.compile(r"\s*([A-Za-z]+)")
_HINTS: Final = re.compile(r"^(?:Did you mean|Candidate bindings:)(.*)$", re.MULTILINE)
_MISSING_COLUMN: Final = re.compile(r'does not have a column named "(.+?)"')
_MISSING_TABLE: Final = re.compile(r"^Catalog Error: Table with name (.+?) does not exist!")
_FILE: Final = re.compile(r'^Permission Error: Cannot access file "(.+?)"')
NEAREST_MAX: Final = 3

# Errors that are about the query and not about the journal.
USERS_ERRORS: Final = (
    duckdb.ProgrammingError,
    duckdb.DataError,
    duckdb.NotSupportedError,
    duckdb.PermissionException,
    duckdb.TransactionException,
)


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises QueryError unless it is one SELECT that only reads, and only the journal."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise explain(error) from None
    if not statements:
        raise QueryError(f"{_ONLY_SELECT}, and there is none here.")
    kinds = [statement.type.name for statement in statements]
    refused = next((kind for kind in kinds if kind != "SELECT"), None)
    if refused is not None:
        way_out = _WAYS_OUT.get(refused)
        told = f": {way_out}" if way_out else ""
        named = _FIRST_WORD.match(statements[kinds.index(refused)].query)
        verb = named[1].upper() if named else refused
        raise QueryError(f"{_ONLY_SELECT}; {verb} is refused{told}.")
    if len(kinds) > 1:
        raise QueryError(f"{_ONLY_SELECT}; these are {len(kinds)}: ask them one after another.")
    for node in _nodes(_parsed(connection, sql)):
        _check_node(node)


def explain(error: Exception, connection: duckdb.DuckDBPyConnection | None = None) -> QueryError:
    """DuckDB's first line, and the names that are nearest to one that does not exist."""
    text = str(error).strip()
    first = text.partition("\n")[0].rstrip()
    table, column = _MISSING_TABLE.match(first), _MISSING_COLUMN.search(first)
    file = _FILE.match(first)
    if file is not None:
        return _no_file(file[1])
    if table is not None and connection is not None:
        return _no_such_table(table[1], connection)
    hint = _HINTS.search(text)
    nearest = re.findall(r'"([^"]+)"', hint[1]) if hint else []
    if column is not None and connection is not None:
        nearest = _nearest(column[1], _names(connection, "names_of_columns"))
    told = f"{first.rstrip('.!')}. Nearest: {', '.join(nearest[:NEAREST_MAX])}."
    return QueryError(told if nearest else first)


def _no_file(name: str) -> QueryError:
    return QueryError(f"There is no table {name!r}, and files are not read here: {_ELSEWHERE}.")


def _no_such_table(name: str, connection: duckdb.DuckDBPyConnection) -> QueryError:
    if "/" in name or "." in name:
        return _no_file(name)
    tables = _names(connection, "names_of_tables")
    nearest = _nearest(name, tables)
    told = f"nearest: {', '.join(nearest)}" if nearest else f"there are: {', '.join(tables)}"
    return QueryError(f"There is no table {name!r}; {told}.")


def _names(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(QUERIES[query]).fetchall()]


def _nearest(name: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(name.lower(), names, NEAREST_MAX, cutoff=0.5)


def _parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:  # noqa: ANN401 - JSON.
    try:
        found = connection.execute("select json_serialize_sql($sql)", {"sql": sql}).fetchall()
        parsed = json.loads(found[0][0])
    except RecursionError:
        raise QueryError("The query is nested too deeply; take it apart with `with`.") from None
    except duckdb.Error as error:
        raise explain(error) from None
    if parsed["error"]:
        raise QueryError(f"The query cannot be read: {parsed['error_message']}")
    return parsed


def _nodes(parsed: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON.
    """All objects in it. Not recursive: a statement may be nested deeper than Python's stack."""
    rest = [parsed]
    while rest:
        here = rest.pop()
        if isinstance(here, dict):
            yield here
            if here.get("type") == "TABLE_FUNCTION":
                # Itself is no scalar function, though it is written down as one.
                rest += here["function"]["arguments"]
            rest += [part for name, part in here.items() if name != "function"]
        elif isinstance(here, list):
            rest += here


def _check_node(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_QUERY_NODE"):
        verb = kind.removesuffix("_QUERY_NODE")
        raise QueryError(f"{_ONLY_SELECT}; {verb} is refused, also inside of one.")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in _TABLE_FUNCTIONS:
            raise QueryError(f"{name}() is refused: a journal is read, nothing else; {_ELSEWHERE}.")
    if kind == "FUNCTION":
        _check_function(str(node["function_name"]).lower(), node["arguments"])


def _check_function(name: str, arguments: list[dict[str, Any]]) -> None:
    if name in _FORBIDDEN_FUNCTIONS:
        raise QueryError(f"{name}() is refused: a query only reads.")
    if name in _GROWING_FUNCTIONS:
        which = _GROWING_FUNCTIONS[name]
        counts = arguments if which is None else arguments[which : which + 1]
        if not all(_is_small(count["expression"]) for count in counts):
            raise QueryError(
                f"{name}() makes values of any size. Write its size as a number up to"
                f" {GROWN_MAX:,}; for more, ask for rows: from range(…)."
            )


def _is_small(expression: dict[str, Any]) -> bool:
    literal = expression.get("literal") or {}
    return literal.get("kind") == "INTEGER" and abs(int(literal["text"])) <= GROWN_MAX
