"""The second door of a live journal: clicks that its kernel does not hear, by the Jupyter server.

A kernel that computes hears no click, and one that is gone never will. The page then asks the
server it came from, which does what a terminal would: `nbdurable approve …` finds the owner of the
journal or, where no process has it open, opens it itself. Jupyter's own login, XSRF check and base
URL hold for it as for all of the server.

Who may use the server may open a terminal in it, so nothing here goes beyond that; still only
journals in the server's own folder are touched, or the one that `NBDURABLE_HOME` names.

Enabled by being installed: `jupyter server extension list` shows it.
"""

# Tornado and jupyter_server annotate their handlers in part.
# mypy: disable-error-code="misc, no-untyped-call, untyped-decorator"
from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from nbdurable.client.answers import COMMENT_VARIABLE, at
from nbdurable.wiring import journal_path, this_person

ROUTE: Final = "nbdurable/do"

_RUN: Final = re.compile(r"inv_\w+")
_STATUS_OF_EXIT: Final = {0: 200, 2: 400, 4: 404, 75: 503}
_OTHERWISE: Final = 409
_TOO_LATE: Final = 504
# Longer than a takeover, and than any owner that is well takes.
_DONE_S_MAX: Final = 60.0
# Each is a Python of half a second; a click more waits for its turn.
_AT_ONCE_MAX: Final = 4
# Names and folders; what may be long is typed.
_ARGUMENT_CHARS_MAX: Final = 4_000


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "nbdurable.jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:  # noqa: ANN401 - Jupyter's application.
    app = server.web_app
    route = url_path_join(app.settings["base_url"], ROUTE)
    own = {"root": Path(server.root_dir), "running": asyncio.Semaphore(_AT_ONCE_MAX)}
    app.add_handlers(".*$", [(route, Deeds, own)])


class Deeds(APIHandler):
    """`POST {base_url}nbdurable/do`: one deed to one run.

    Takes the message of a click, with the run's id and its journal's folder; answers with the
    sentence that a terminal would show, and 400, 404, 409 or 503 where it would exit with an error.
    """

    auth_resource = "nbdurable"

    def initialize(self, root: Path, running: asyncio.Semaphore) -> None:
        self._root = root
        self._running = running

    @web.authenticated
    async def post(self) -> None:
        message = self.get_json_body()
        told = command(message if isinstance(message, dict) else {}, self._root, self._who())
        if told is None:
            raise web.HTTPError(
                400, "this is no deed to a run of a journal in this server's folder"
            )
        async with self._running:
            status, said = await _done(told)
        self.set_status(status)
        self.finish(json.dumps({"said": said}))

    def _who(self) -> str:
        """Whom the server lets in, as a journal names them. A token or none makes up a name."""
        user = self.current_user
        name = getattr(user, "username", "")
        is_known = name and not str(getattr(user, "name", "")).startswith("Anonymous")
        return at(name if is_known else this_person(), "Jupyter")


class Command(NamedTuple):
    """What a terminal would be told. Other people of the machine see `words`, and not the rest."""

    words: list[str]
    typed: str = ""
    comment: str = ""


def command(message: dict[str, Any], root: Path, who: str) -> Command | None:
    """None for what no click of ours says. `who` has clicked."""
    run, journal, ask = message.get("run"), message.get("journal"), message.get("id", "")
    if not (isinstance(run, str) and _RUN.fullmatch(run)):
        return None
    if not (isinstance(journal, str) and _is_argument(journal) and is_ours(Path(journal), root)):
        return None
    if not (isinstance(ask, str) and _is_argument(ask)):
        return None
    comment = message.get("comment", "")
    if not (isinstance(comment, str) and _is_variable(comment)):
        return None
    of = ["--journal", journal, "--", run]
    said = [f"--by={who}", *of, ask]
    match message:
        case {"type": "answer", "id": str(), "value": value}:
            return Command(["approve", "--value", "-", *said], json.dumps(value), comment)
        case {"type": "reject", "id": str(), "message": ""}:
            return Command(["reject", *said])
        case {"type": "reject", "id": str(), "message": str(reason)}:
            return Command(["reject", "--message", "-", *said], reason)
        case {"type": "deed", "name": "restart", "from_entry": int(entry)}:
            return Command(["restart", f"--from-entry={entry}", *of])
        case {"type": "deed", "name": "pause" | "resume" | "restart" as name}:
            return Command([name, *of])
        case {"type": "deed", "name": "cancel" | "kill" as name}:
            # It was asked for in the page.
            return Command([name, "--yes", *of])
        case _:
            return None


async def _done(told: Command) -> tuple[int, str]:
    """The status and the sentence of what was done."""
    doing = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nbdurable", *told.words),
        env={**os.environ, COMMENT_VARIABLE: told.comment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    typed = told.typed.encode(errors="replace")
    try:
        out, problem = await asyncio.wait_for(doing.communicate(typed), _DONE_S_MAX)
    except TimeoutError:
        doing.kill()
        await doing.wait()
        return _TOO_LATE, f"not done within {_DONE_S_MAX:g} s; whoever has the journal is busy"
    status = _STATUS_OF_EXIT.get(doing.returncode or 0, _OTHERWISE)
    said = (problem if doing.returncode else out).decode(errors="replace").strip()
    return status, said.removeprefix("Error: ")


def _is_argument(text: str) -> bool:
    """Whether the system can hand it to a program."""
    return len(text) <= _ARGUMENT_CHARS_MAX and "\0" not in text and text.isprintable()


def _is_variable(text: str) -> bool:
    """The same of a variable of its environment, which nobody else may read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return len(text) <= _ARGUMENT_CHARS_MAX and "\0" not in text


def is_ours(journal: Path, root: Path) -> bool:
    """Whether it is a journal in the server's folder, or the one that everybody here shares."""
    if not journal.is_absolute() or not (journal / "format.json").is_file():
        return False
    real = journal.resolve()
    return real.is_relative_to(root.resolve()) or real == journal_path().resolve()
