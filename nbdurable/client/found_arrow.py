"""What a query has found, as Arrow: a table, a stream of bytes, a Parquet file.

Columns get the types that Restate's tables have (times in UTC by the millisecond, lengths of time
as durations), whatever rows there are; a type that Arrow lacks is shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

    from nbdurable.client.query import Found

_PLAIN: Final = {
    "BOOLEAN": "bool",
    "TINYINT": "int8",
    "SMALLINT": "int16",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "UTINYINT": "uint8",
    "USMALLINT": "uint16",
    "UINTEGER": "uint32",
    "UBIGINT": "uint64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "JSON": "string",
    "UUID": "string",
    "BIT": "string",
    "BLOB": "binary",
    "DATE": "date32",
    "TIME": "time64[us]",
    "TIMESTAMP": "timestamp[us]",
    "TIMESTAMP_S": "timestamp[s]",
    "TIMESTAMP_MS": "timestamp[ms]",
    "TIMESTAMP_NS": "timestamp[ns]",
    "INTERVAL": "duration[ms]",
    '"NULL"': "null",
}
_DECIMAL: Final = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_LIST: Final = re.compile(r"(.*)\[\d*\]")
# An offset, because readers without a table of time zones know no name, not even this one.
_UTC: Final = "+00:00"
_INT64: Final = range(-(2**63), 2**63)
# What cut the rows, in the schema of a stream: rows may be read with nothing else at hand.
CUT_BY: Final = b"nbdurable.cut_by"


def table_of(found: Found) -> pa.Table:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError("Arrow needs pyarrow; write: pip install 'nbdurable[arrow]'") from error
    cells = list(zip(*found.rows, strict=True)) or [()] * len(found.columns)
    columns = [_column(pa, kind, column) for kind, column in zip(found.types, cells, strict=True)]
    table = pa.Table.from_arrays(columns, names=list(found.columns))
    if found.cut_by is None:
        return table
    return table.replace_schema_metadata({CUT_BY: found.cut_by.encode()})


def stream_of(found: Found) -> bytes:
    """As the bytes of an Arrow IPC stream."""
    table = table_of(found)
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _column(pa: Any, kind: str, cells: Sequence[Any]) -> Any:
    wanted = _type(pa, kind, cells)
    if kind == "UUID":
        cells = [None if cell is None else str(cell) for cell in cells]
    try:
        column = pa.array(cells, wanted, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    if kind == "TIMESTAMP WITH TIME ZONE":
        return column.cast(pa.timestamp("ms", _UTC), safe=False)
    return column


def _type(pa: Any, kind: str, cells: Sequence[Any]) -> Any:
    """None leaves it to Arrow, which looks at the values."""
    listed, decimal = _LIST.fullmatch(kind), _DECIMAL.fullmatch(kind)
    if kind in _PLAIN:
        return pa.type_for_alias(_PLAIN[kind])
    if kind == "TIMESTAMP WITH TIME ZONE":
        return pa.timestamp("us", _UTC)
    if kind in ("HUGEINT", "UHUGEINT"):
        # What DuckDB makes of a sum. Few are as large as their type, and few readers know it.
        fits = all(cell is None or cell in _INT64 for cell in cells)
        return pa.int64() if fits else pa.decimal128(38, 0)
    if decimal is not None:
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if kind.startswith("ENUM("):
        return pa.string()
    if listed is not None:
        inner = _type(pa, listed[1], [part for cell in cells for part in cell or ()])
        return None if inner is None else pa.list_(inner)
    return None
