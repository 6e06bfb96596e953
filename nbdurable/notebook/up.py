"""`%durable up`: where the journal of this notebook is served over HTTP, and by whom.

A kernel that owns its journal serves it anyway, on free ports, for the other processes of the
project; here a person is told where, or says where. `--detach` hands the journal to a process that
outlives the kernel, which joins it.
"""

# IPython annotates its parser in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from nbdurable.errors import NbdurableError
from nbdurable.notebook.greeting import shown
from nbdurable.notebook.options import mended
from nbdurable.notebook.session import Session
from nbdurable.notebook.widgets.views_html import Columns

# Recovery of a large journal takes some seconds, and so does Python's start on a busy machine.
_SERVED_S_MAX: Final = 30.0
_LOOK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True, repr=False)
class Told(Columns):
    """What a person reads, and for code two addresses: `served = %durable up; served.admin`."""

    ingress: str
    admin: str


def up(session: Session, words: list[str]) -> Told:
    parser = _parser()
    try:
        args = parser.parse_args(words)
    except UsageError as error:
        raise UsageError(mended(str(error), "%durable up", parser)) from None
    wants = args.ingress, args.admin, args.no_token
    if args.detach and any(wants):
        raise UsageError("%durable up --detach takes nothing else; its ports are free ones")
    if args.detach:
        _detach(session)
    elif any(wants):
        _serve(session, *wants)
    return _told(session)


def _parser() -> MagicArgumentParser:
    parser = MagicArgumentParser(prog="%durable up", add_help=False)
    parser.add_argument("--ingress", metavar="HOST:PORT")
    parser.add_argument("--admin", metavar="HOST:PORT")
    parser.add_argument("--no-token", action="store_true")
    parser.add_argument("--detach", action="store_true")
    return parser


def _serve(session: Session, ingress: str | None, admin: str | None, no_token: bool) -> None:  # noqa: FBT001 - read from words.
    from nbdurable.server.options import ServeOptions
    from nbdurable.settings.model import Address, read_settings

    _ = session.client
    if not session.is_owner:
        raise UsageError(f"{_who(session)} serves the journal, and where is for it to say")
    settings = read_settings({})
    try:
        calls = Address.parse(ingress or settings.ingress)
        operations = Address.parse(admin or settings.admin)
    except ValueError as error:
        raise UsageError(str(error)) from None
    session.serve(
        ServeOptions(
            host=calls.host,
            ingress_port=calls.port,
            admin_host=operations.host,
            admin_port=operations.port,
            has_token=not no_token,
        )
    )


def _detach(session: Session) -> None:
    """Nobody's run is cut off for it: a kernel that has code keeps the journal."""
    from nbdurable.sharing.starting import start_owner

    if session.is_open and not session.is_owner:
        return
    if session.has_code:
        raise UsageError(
            "this kernel has the journal, and code of its runs; restart it, and begin with"
            " %load_ext nbdurable and %durable up --detach"
        )
    path = session.path.absolute()
    session.close()
    try:
        start_owner(path)
    except NbdurableError as error:
        raise UsageError(str(error)) from None


def _told(session: Session) -> Told:
    from nbdurable.server.address import served_at

    names = [one.name for one in session.client.wait(session.client.services())]
    deadline = time.monotonic() + _SERVED_S_MAX
    while (served := served_at(session.path)) is None:
        # A kernel begins to listen a moment after it has opened the journal.
        if time.monotonic() > deadline:
            raise NbdurableError("whoever owns the journal does not serve it")
        time.sleep(_LOOK_AGAIN_S)
    by = f"{_who(session)}, which this kernel has joined"
    if session.is_owner:
        by = "this kernel, and ends with it; %durable up --detach, in a fresh kernel, does not"
    header = ""
    if served.token_file is not None:
        # Its text would be saved with the notebook.
        header = f' -H "authorization: Bearer $(cat {shown(served.token_file)})"'
    lines = [
        f"by       {by}",
        f"ingress  {served.ingress}",
        f"admin    {served.admin}",
        f"serves   {', '.join(names) or 'nothing yet: run a cell that defines something'}",
        f"ask      curl {served.admin}/services{header}",
    ]
    if not header:
        lines.append("no token: everybody on this machine may call it")
    return Told("\n".join(lines), served.ingress, served.admin)


def _who(session: Session) -> str:
    from nbdurable.server.address import served_at

    served = served_at(session.path)
    return "another process" if served is None else served.who
