"""Sugar: `from nbdurable import durable`, then `@durable.step`, `durable.sql()` and their like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, overload

from nbdurable.sdk.approval import approval
from nbdurable.sdk.blocking import wait
from nbdurable.sdk.context import current_context
from nbdurable.sdk.mapping import map_items as map  # noqa: A004 - `durable.map` is its name.
from nbdurable.sdk.steps import step

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nbdurable.notebook.board import Board

__all__ = ["approval", "board", "current_context", "map", "sql", "step", "wait"]

_Parameters = Sequence[object] | Mapping[str, object] | None


def board() -> Board:
    """All runs of this notebook's journal, live in the output of the cell that ends with it."""
    from nbdurable.notebook.board import Board
    from nbdurable.notebook.sql import session_here

    return Board(session_here("durable.board()", "nbdurable ls"))


@overload
def sql(
    query: str, parameters: _Parameters = None, *, arrow: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def sql(query: str, parameters: _Parameters = None, *, arrow: Literal[True]) -> pa.Table: ...
def sql(
    query: str, parameters: _Parameters = None, *, arrow: bool = False
) -> pd.DataFrame | pa.Table:
    """Ask one SELECT of this notebook's journal: of sys_invocation, sys_journal, state and so on.

    ```python
    durable.sql("select * from sys_invocation where status = ?", ["paused"])
    ```

    Args:
        query: In DuckDB's dialect, over the tables that Restate has.
        parameters: Values for its `?` or `$name`.
        arrow: True gives a pyarrow Table, False a pandas DataFrame.

    Raises:
        QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
    """
    from nbdurable.notebook.sql import found_here

    found = found_here(query, parameters)
    return found.arrow() if arrow else found.df()
