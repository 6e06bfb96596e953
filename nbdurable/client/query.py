"""SQL over history: one SELECT, and what it has found, as rows, as a DataFrame, as Arrow.

What comes back is a copy. It never is a relation of the engine's own DuckDB, which nobody else may
hold; joins with a user's files are done in a connection of the user's own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from nbdurable.engine.ports import ANSWER_LIMITS, Answer, AnswerLimits, History, Question

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Parameters = Sequence[object] | Mapping[str, object]


class Found(Answer):
    """What a SELECT has found. `types` are DuckDB's; `cut_by` is the limit that has left out rows.

    ```python
    found = await client.query("select target, status from sys_invocation")
    found.rows, found.df(), found.arrow()
    ```
    """

    __slots__ = ()

    def __repr__(self) -> str:
        cut = f", cut by its limit of {self.cut_by}" if self.cut_by else ""
        return f"<Found {len(self.rows)} rows of {', '.join(self.columns)}{cut}>"

    def dicts(self) -> list[dict[str, object]]:
        """Each row by the names of its columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def df(self) -> pd.DataFrame:
        """Needs pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("df() needs pandas; write: pip install pandas") from error
        columns = pd.Index(self.columns, dtype="str")
        return pd.DataFrame.from_records(self.rows, columns=columns)

    def arrow(self) -> pa.Table:
        """Needs pyarrow: `pip install 'nbdurable[arrow]'`."""
        from nbdurable.client.found_arrow import table_of

        return table_of(self)


async def ask(
    history: History,
    sql: str,
    parameters: Parameters | None = None,
    limits: AnswerLimits = ANSWER_LIMITS,
) -> Found:
    """Have it answered on a thread of its own; cancelling the wait interrupts the query.

    Raises:
        QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
    """
    question = history.ask(sql, parameters, limits)
    try:
        return Found(*await asyncio.wrap_future(_answering(question)))
    except asyncio.CancelledError:
        question.interrupt()
        raise


def _answering(question: Question) -> Future[Answer]:
    """On a daemon: asyncio and the interpreter wait for threads of a pool when they end."""
    answering: Future[Answer] = Future()
    # From now on it cannot be cancelled, only interrupted.
    answering.set_running_or_notify_cancel()

    def answer() -> None:
        try:
            answering.set_result(question.answer())
        except BaseException as error:  # noqa: BLE001 - border: the awaiting side gets it.
            answering.set_exception(error)

    threading.Thread(target=answer, name="nbdurable-answer", daemon=True).start()
    return answering
