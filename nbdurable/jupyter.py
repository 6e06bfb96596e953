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
import re
import sys
from pathlib import Path
from typing import Any, Final

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from nbdurable.wiring import journal_path

ROUTE: Final = "nbdurable/do"

_RUN: Final = re.compile(r"inv_\w+")
_STATUS_OF_EXIT: Final = {0: 200, 2: 400, 4: 404, 75: 503}
_OTHERWISE: Final = 409


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "nbdurable.jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:  # noqa: ANN401 - Jupyter's application.
    app = server.web_app
    route = url_path_join(app.settings["base_url"], ROUTE)
    app.add_handlers(".*$", [(route, Deeds, {"root": Path(server.root_dir)})])


class Deeds(APIHandler):
    """`POST {base_url}nbdurable/do`: one deed to one run.

    Takes the message of a click, with the run's id and its journal's folder; answers with the
    sentence that a terminal would show, and 400, 404, 409 or 503 where it would exit with an error.
    """

    auth_resource = "nbdurable"

    def initialize(self, root: Path) -> None:
        self._root = root

    @web.authenticated
    async def post(self) -> None:
        message = self.get_json_body()
        words = command(message if isinstance(message, dict) else {}, self._root)
        if words is None:
            raise web.HTTPError(
                400, "this is no deed to a run of a journal in this server's folder"
            )
        doing = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nbdurable", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, problem = await doing.communicate()
        status = _STATUS_OF_EXIT.get(doing.returncode or 0, _OTHERWISE)
        said = (problem if doing.returncode else out).decode(errors="replace").strip()
        self.set_status(status)
        self.finish(json.dumps({"said": said.removeprefix("Error: ")}))


def command(message: dict[str, Any], root: Path) -> list[str] | None:
    """What a terminal would be told; None for what no click of ours says."""
    run, journal = message.get("run"), message.get("journal")
    if not (isinstance(run, str) and _RUN.fullmatch(run) and isinstance(journal, str)):
        return None
    if not is_ours(Path(journal), root):
        return None
    of = ["--journal", journal, "--", run]
    match message:
        case {"type": "answer", "id": str(ask), "value": value}:
            return ["approve", "--value", json.dumps(value), *of, ask]
        case {"type": "reject", "id": str(ask), "message": str(reason)}:
            # As one word, so that a reason may begin as an option does.
            told = [f"--message={reason}"] if reason else []
            return ["reject", *told, *of, ask]
        case {"type": "deed", "name": "pause" | "resume" as name}:
            return [name, *of]
        case {"type": "deed", "name": "cancel" | "kill" as name}:
            # It was asked for in the page.
            return [name, "--yes", *of]
        case _:
            return None


def is_ours(journal: Path, root: Path) -> bool:
    """Whether it is a journal in the server's folder, or the one that everybody here shares."""
    if not journal.is_absolute() or not (journal / "format.json").is_file():
        return False
    real = journal.resolve()
    return real.is_relative_to(root.resolve()) or real == journal_path().resolve()
