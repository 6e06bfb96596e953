"""What may be asked of history, and what is wrong with what may not.

Exactly one SELECT, of tables and of functions that only compute. A transaction that cannot write
is no fence by itself: a SELECT may hold an INSERT in a common table expression, and a table
function may take a checkpoint or read a file. So the parsed statement is looked through. It also
finds there what DuckDB would plan for minutes or hours, which no interruption reaches.
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
# They take a size inside of a text, or of a type, where it is not seen.
_UNBOUNDED_FUNCTIONS: Final = frozenset({"bitstring", "format", "printf"})
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
# They multiply what they are given by what they are given.
_MULTIPLYING_FUNCTIONS: Final = frozenset({"regexp_replace", "replace"})

# A list of 1,000 ids, which Restate's CLI asks with, is 40 KB.
QUERY_BYTES_MAX: Final = 256 * 1024
# Catalog, schema, table, column, field. 20,000 of them were looked up for longer than 100 s.
NAME_PARTS_MAX: Final = 5
# Each view of history is planned anew: 30 times sys_journal takes 18 s on a busy machine.
TABLES_MAX: Final = 32
# DuckDB writes out an alias wherever a later expression uses it: 65,000 terms take a second, and
# each `aN + aN as aM` doubles them.
ALIASED_TERMS_MAX: Final = 10_000

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
    if len(sql.encode("utf-8", "replace")) > QUERY_BYTES_MAX:
        raise QueryError(
            f"The query is longer than {QUERY_BYTES_MAX >> 10} KiB. Give long lists as a parameter:"
            " where id in (select unnest($ids))."
        )
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
    table_count = 0
    for node in _nodes(_parsed(connection, sql)):
        _check_node(node)
        table_count += node.get("type") == "BASE_TABLE"
    if table_count > TABLES_MAX:
        raise QueryError(
            f"The query names {table_count} tables; at most {TABLES_MAX} are joined or united at"
            " once. Ask in parts, and put them together in a DuckDB connection of your own."
        )


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
        found = connection.execute(QUERIES["serialize_query"], {"sql": sql}).fetchall()
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
    if kind == "COLUMN_REF" and len(node["column_names"]) > NAME_PARTS_MAX:
        name = ".".join(node["column_names"][:NAME_PARTS_MAX])
        raise QueryError(
            f"{name}.… has {len(node['column_names'])} parts; a column's name has at most"
            f" {NAME_PARTS_MAX}. Take what is inside of it with a function, e.g. struct_extract()."
        )
    if kind == "SELECT_NODE":
        _check_select(node)
    if kind == "LAMBDA":
        _check_grows_once(node["expr"], "a lambda")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in _TABLE_FUNCTIONS:
            raise QueryError(f"{name}() is refused: a journal is read, nothing else; {_ELSEWHERE}.")
    if kind == "FUNCTION":
        _check_function(str(node["function_name"]).lower(), node["arguments"])


def _check_function(name: str, arguments: list[dict[str, Any]]) -> None:
    if name in _FORBIDDEN_FUNCTIONS:
        raise QueryError(f"{name}() is refused: a query only reads.")
    if name in _UNBOUNDED_FUNCTIONS:
        raise QueryError(
            f"{name}() makes values of any size, and is refused. Join texts with ||, or take the"
            " columns as they are and format them in Python."
        )
    if name in _GROWING_FUNCTIONS or name in _MULTIPLYING_FUNCTIONS:
        _check_grows_once(arguments, f"{name}()")
    if name in _GROWING_FUNCTIONS:
        which = _GROWING_FUNCTIONS[name]
        counts = arguments if which is None else arguments[which : which + 1]
        if not all(_is_small(count["expression"]) for count in counts):
            raise QueryError(
                f"{name}() makes values of any size. Write its size as a number up to"
                f" {GROWN_MAX:,}; for more, ask for rows: from range(…)."
            )


def _check_grows_once(inside: Any, where: str) -> None:  # noqa: ANN401 - JSON.
    """Sizes that are small one by one multiply."""
    for node in _nodes(inside):
        name = str(node.get("function_name", "")).lower()
        if node.get("type") == "FUNCTION" and name in _GROWING_FUNCTIONS:
            raise QueryError(
                f"{name}() inside of {where} makes values of any size. Use one of them in an"
                " expression; for more, ask for rows: from range(…)."
            )


def _check_select(node: dict[str, Any]) -> None:
    """Nothing is written out again and again while it is planned: no alias, no `with`."""
    for entry in node["cte_map"]["map"]:
        if entry["value"]["materialized"] == "CTE_MATERIALIZE_NEVER":
            raise QueryError(
                f"`{entry['key']} as not materialized` is refused: it would be planned again"
                " wherever it is used. Leave out `not materialized`."
            )
    terms: dict[str, int] = {}
    written_count = 0
    for expression in node["select_list"]:
        term_count = _term_count(expression, terms)
        written_count += term_count
        if alias := str(expression.get("alias", "")).lower():
            terms[alias] = term_count
    if any(count > 1 for count in terms.values()):
        others = [part for name, part in node.items() if name not in ("select_list", "cte_map")]
        written_count += _term_count(others, terms)
    if written_count > ALIASED_TERMS_MAX:
        raise QueryError(
            "Its aliases use each other so often that the query has more than"
            f" {ALIASED_TERMS_MAX:,} terms when they are written out. Compute them step by step,"
            " with `with`."
        )


def _term_count(part: Any, terms: dict[str, int]) -> int:  # noqa: ANN401 - JSON.
    """How many columns are in it, once those that are aliases are written out; at least one."""
    named = (node["column_names"] for node in _nodes(part) if node.get("type") == "COLUMN_REF")
    return sum(terms.get(names[0].lower(), 1) if len(names) == 1 else 1 for names in named) or 1


def _is_small(expression: dict[str, Any]) -> bool:
    literal = expression.get("literal") or {}
    return literal.get("kind") == "INTEGER" and abs(int(literal["text"])) <= GROWN_MAX
