"""Which run a person means, and what they may have meant where there is none."""

from __future__ import annotations

from IPython.core.error import UsageError

from nbdurable.client.meant import did_you_mean
from nbdurable.client.picture import handy_name
from nbdurable.client.views import InvocationView
from nbdurable.errors import ConflictError, InvocationNotFoundError
from nbdurable.notebook.session import Session


def run_meant(session: Session, text: str) -> InvocationView:
    """By its id, the beginning of it, its target, or its key. Raises UsageError."""
    try:
        return session.client.wait(session.client.find(text))
    except InvocationNotFoundError:
        raise no_run(session, text) from None
    except ConflictError as error:
        raise UsageError(str(error)) from None


def no_run(session: Session, text: str) -> UsageError:
    """What to say where none is called so."""
    near = did_you_mean(session.client.wait(session.client.names_near(text)))
    return UsageError(f"no run is called {text!r}; {near or '%durable ls shows them'}")


def names_of_runs(session: Session) -> list[str]:
    """What may stand for a run, newest first. Never opens a journal: a TAB must not."""
    if not session.is_open:
        return []
    views = session.client.wait(session.client.invocations())
    return list(dict.fromkeys(handy_name(view) for view in reversed(views)))
