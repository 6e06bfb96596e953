"""Tables and arrays as Arrow: columns are written as they lie in memory, not value by value.

pyarrow, and whichever library a value is of, are imported when a value is written or read.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Optional

from nbdurable.errors import SerializationError
from nbdurable.sdk.canonical_json import type_name
from nbdurable.sdk.serde import Serde

# Under this name the schema says of what library a value is, and what Arrow does not keep of it.
_KEPT = b"nbdurable"
_FIX = (
    "Return a pandas or polars DataFrame, a pyarrow Table or a NumPy array of numbers, dates or"
    " text, or use another serde."
)


class ArrowSerde(Serde[Any]):
    """A pandas or polars DataFrame, a pyarrow Table, or a NumPy array; read back as what it was.

    `RunOptions(serde=ArrowSerde())`. Needs pyarrow: `pip install 'nbdurable[arrow]'`.

    Equal tables need not have equal bytes, so replay compares names and kinds of entries only.
    """

    def serialize(self, obj: Optional[Any]) -> bytes:
        """Write an Arrow IPC stream; nothing for None."""
        if obj is None:
            return b""
        import pyarrow as pa

        table, kept = _table_of(obj)
        metadata = {**(table.schema.metadata or {}), _KEPT: json.dumps(kept).encode()}
        table = table.replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    def deserialize(self, buf: bytes) -> Optional[Any]:
        """Return a value of the library it was written from."""
        if not buf:
            return None
        import pyarrow as pa

        try:
            table = pa.ipc.open_stream(buf).read_all()
            kept = json.loads((table.schema.metadata or {}).get(_KEPT, b'{"kind": "pyarrow"}'))
        except (pa.ArrowException, ValueError) as error:
            raise SerializationError(
                f"cannot be read as Arrow: {error}",
                root="payload",
                fix="Read it with the serde it was written with.",
            ) from error
        metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != _KEPT}
        return _restored(table.replace_schema_metadata(metadata or None), kept)


def _table_of(value: Any) -> tuple[Any, dict[str, Any]]:
    """An Arrow table, and what is needed to make the value of it again."""
    import pyarrow as pa

    try:
        if isinstance(value, pa.RecordBatch):
            return pa.Table.from_batches([value]), {"kind": "pyarrow"}
        if isinstance(value, pa.Table):
            return value, {"kind": "pyarrow"}
        if _is_a(value, "pandas", "DataFrame"):
            return pa.Table.from_pandas(value), {"kind": "pandas"}
        if _is_a(value, "polars", "DataFrame"):
            return value.to_arrow(), {"kind": "polars"}
        if _is_a(value, "numpy", "ndarray"):
            kept = {"kind": "numpy", "dtype": value.dtype.str, "shape": list(value.shape)}
            return pa.table({"values": pa.array(value.ravel())}), kept
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SerializationError(f"cannot be written as Arrow: {error}", fix=_FIX) from error
    raise SerializationError(f"is of type {type_name(value)}, which is no table", fix=_FIX)


def _restored(table: Any, kept: dict[str, Any]) -> Any:
    match kept["kind"]:
        case "pandas":
            return table.to_pandas()
        case "polars":
            import polars as pl

            return pl.from_arrow(table)
        case "numpy":
            values = table.column("values").to_numpy()
            # Arrow's memory is not ours to write to, and a user's array is theirs.
            return values.astype(kept["dtype"], copy=True).reshape(kept["shape"])
        case _:
            return table


def _is_a(value: Any, library: str, name: str) -> bool:
    """Without loading the library: if the value is of it, it is loaded."""
    cls = getattr(sys.modules.get(library), name, None)
    return cls is not None and isinstance(value, cls)
