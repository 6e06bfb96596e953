"""SQL in a notebook: `%durable sql SELECT …`, `%%durable sql [NAME]` above one, `durable.sql()`.

What comes back is a DataFrame of the user's own, or Arrow, and never something that the engine is
asked again by.
"""

# ruff: noqa: ANN401 - a DataFrame, and its packages are not ours.
from __future__ import annotations

import warnings
from typing import Any

from IPython.core.error import UsageError
from IPython.core.getipython import get_ipython

from nbdurable.client.query import Found, Parameters
from nbdurable.errors import NbdurableError
from nbdurable.notebook.extension import magics_of
from nbdurable.notebook.session import Session
from nbdurable.notebook.widgets.views_html import FoundTable

_USAGE = (
    'write: %durable sql "select target, status from sys_invocation", or %%durable sql above it'
)


def answer(session: Session, line: str, cell: str | None) -> Any:
    """What a magic shows: a DataFrame where pandas is, else a table. Binds it to a cell's NAME."""
    name = line if cell is not None else ""
    if name and not name.isidentifier():
        raise UsageError(f"%%durable sql takes the name to bind, and {name!r} is none; {_USAGE}")
    text = _unquoted(line if cell is None else cell)
    if not text:
        raise UsageError(_USAGE)
    found = session.client.wait(session.client.query(text))
    shown = _frame_or_table(found)
    if found.cut_by is not None:
        print(_cut(found))  # noqa: T201 - a magic speaks to the cell.
    if name:
        session.shell.user_ns[name] = shown
    return shown


def session_here(what: str, in_a_script: str) -> Session:
    """Of the notebook that this is called in.

    Raises:
        NbdurableError: It is none; the sentence says what to write instead.
    """
    session = session_if_any()
    if session is None:
        raise NbdurableError(
            f"{what} asks the journal of a notebook, after %load_ext nbdurable; in a script"
            f" write: {in_a_script}"
        )
    return session


def session_if_any() -> Session | None:
    """Of the notebook that this is called in, once the extension is loaded there."""
    shell = get_ipython()
    magics = None if shell is None else magics_of(shell)
    return None if magics is None else magics.session


def found_here(query: str, parameters: Parameters | None) -> Found:
    """Asked of the journal of the notebook that this is called in; warns of what was cut."""
    session = session_here("durable.sql()", "await engine.client.query(…)")
    try:
        found = session.client.wait(session.client.query(query, parameters))
    except NbdurableError as error:
        session.forget_dead_engine(error)
        raise
    if found.cut_by is not None:
        warnings.warn(_cut(found), stacklevel=3)
    return found


def _frame_or_table(found: Found) -> Any:
    try:
        return found.df()
    except ImportError:
        return FoundTable(found)


def _unquoted(text: str) -> str:
    """A line may be quoted as a word of a shell is; no SELECT begins with a quotation mark."""
    text = text.strip()
    quoted = text[:1] in ("'", '"') and text[-1:] == text[:1]
    return text[1:-1] if quoted else text


def _cut(found: Found) -> str:
    return (
        f"these are the first {len(found.rows):,} rows; there are more. Narrow the query with"
        " where, or take everything out with client.export()"
    )
