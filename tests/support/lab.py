"""A JupyterLab of our own: its settings, its port, its folder; nothing of the developer's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
from playwright.sync_api import Browser, Page

import nbdurable

REPO = Path(nbdurable.__file__).parent.parent
CHROMIUM = "/usr/bin/chromium"
# Names a folder in which pictures are kept as artefacts; without it they go with the test's own.
SCREENSHOTS = "NBDURABLE_SCREENSHOTS"
# `notebook` drives Notebook 7 in place of JupyterLab; see CONTRIBUTING.md.
FRONT_END = os.environ.get("NBDURABLE_FRONT_END", "jupyterlab")
CHROMIUM_ARGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# As behind a JupyterHub or on Binder: nothing may take the server to be at the root.
BASE_URL = "/user/ada/"
START_S_MAX = 60
WAIT_MS_MAX = 60_000

# The commands return a promise of the cell's end, which evaluate would wait for: a cell that waits
# for a click must not be waited for.
RUN_CELL = """([id, wait]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = notebook.widgets.findIndex((cell) => cell.model.id === id);
    const ran = window.jupyterapp.commands.execute("notebook:run-cell");
    return wait ? ran.then(() => undefined) : undefined;
}"""
RUN_ALL = """() => { window.jupyterapp.commands.execute("notebook:run-all-cells"); }"""
# What is off-screen has no inner text; the model is the truth, and what is saved.
OUTPUTS = """(id) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const cell = notebook.widgets.find((cell) => cell.model.id === id);
    return cell.model.outputs.toJSON();
}"""


EDIT = """([id, source]) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const cell = notebook.widgets.find((cell) => cell.model.id === id);
    cell.model.sharedModel.setSource(source);
}"""
# What JupyterLab calls running it may only have sent; the kernel says when it begins a cell.
NOTE_BEGUN = """(id) => {
    const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
    window.begun = window.begun ?? new Set();
    window.begun.delete(id);
    const note = (_, message) => {
        if (message.header.msg_type !== "execute_input") return;
        window.begun.add(id);
        kernel.iopubMessage.disconnect(note);
    };
    kernel.iopubMessage.connect(note);
}"""
BEGUN = "(id) => window.begun.has(id)"
# With nothing asked: the command of the menu asks whether it is meant.
RESTART = """() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"""
INTERRUPT = """() => window.jupyterapp.commands.execute("notebook:interrupt-kernel")"""
SAVE = """() => window.jupyterapp.shell.currentWidget.context.save()"""
CONNECTED = (
    "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
    "?.connectionStatus === 'connected'"
)
SHUT_DOWN = """() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"""
SHUT_DOWN_ALL = """() => window.jupyterapp?.serviceManager.sessions.shutdownAll()"""
START_KERNEL = """() => window.jupyterapp.shell.currentWidget.sessionContext.startKernel()"""


class Server(NamedTuple):
    """One JupyterLab for many tests: each has a folder of its own in it."""

    url: str
    root: Path
    settings: Path

    def use_theme(self, name: str) -> None:
        """For pages that are loaded from now on."""
        folder = self.settings / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": name}))


class Lab:
    """One notebook, open in one page."""

    def __init__(self, page: Page, folder: Path, open_beside: Callable[..., Page]):
        self.page = page
        self.folder = folder
        self._open_beside = open_beside

    def beside(self, notebook: nbformat.NotebookNode, name: str) -> Lab:
        """Another notebook of the same project, in a page and with a kernel of its own."""
        return Lab(self._open_beside(notebook, name), self.folder, self._open_beside)

    def run(self, *cell_ids: str) -> None:
        for cell_id in cell_ids:
            self.page.evaluate(RUN_CELL, [cell_id, True])

    def run_all(self) -> None:
        """As the menu does it; not waited for."""
        self.page.evaluate(RUN_ALL)

    def start(self, cell_id: str) -> None:
        """Run a cell without waiting for its end, nor for its beginning."""
        self.page.evaluate(NOTE_BEGUN, cell_id)
        self.page.evaluate(RUN_CELL, [cell_id, False])

    def edit(self, cell_id: str, source: str) -> None:
        self.page.evaluate(EDIT, [cell_id, source])

    def wait_until_begun(self, cell_id: str) -> None:
        """Of a cell that was started."""
        self.page.wait_for_function(BEGUN, arg=cell_id)

    def interrupt(self) -> None:
        self.page.evaluate(INTERRUPT)

    def restart_kernel(self) -> None:
        self.page.evaluate(RESTART)
        self.page.wait_for_function(CONNECTED)

    def shut_down_kernel(self) -> None:
        self.page.evaluate(SHUT_DOWN)

    def start_kernel(self) -> None:
        self.page.evaluate(START_KERNEL)

    def save(self) -> None:
        self.page.evaluate(SAVE)

    def reload(self) -> None:
        """Save, as a person does before, and load the page anew."""
        self.save()
        self.page.reload()
        self.page.wait_for_function(CONNECTED)

    def outputs(self, cell_id: str) -> list[dict]:
        return self.page.evaluate(OUTPUTS, cell_id)

    def text(self, cell_id: str) -> str:
        """All that a cell has put out, as text."""
        parts = []
        for output in self.outputs(cell_id):
            found = output.get("text") or output.get("data", {}).get("text/plain", "")
            found = found or "\n".join(output.get("traceback", []))
            parts.append("".join(found))
        return "\n".join(parts)

    def wait_for_text(self, cell_id: str, *texts: str) -> None:
        """Until all of them are in what it has put out at one time."""
        self.wait_until(
            lambda: all(text in self.text(cell_id) for text in texts),
            lambda: f"{texts!r} are not in: {self.text(cell_id)}",
        )

    def wait_until(
        self, is_so: Callable[[], bool], why_not: Callable[[], str] = lambda: "it never was"
    ) -> None:
        deadline = time.monotonic() + WAIT_MS_MAX / 1000
        while not is_so():
            assert time.monotonic() < deadline, why_not()
            self.page.wait_for_timeout(50)

    def shot(self, name: str) -> Path:
        path = Path(os.environ.get(SCREENSHOTS, self.folder)) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        print(f"screenshot: {path}")
        return path


def open_lab(
    server: Server, browser: Browser, notebook: nbformat.NotebookNode, folder: Path
) -> Lab:
    """The notebook, in a new folder of the server and a page of its own."""
    inside = folder.relative_to(server.root).as_posix()
    folder.mkdir(parents=True)

    def open_page(shown: nbformat.NotebookNode, name: str) -> Page:
        nbformat.write(shown, folder / f"{name}.ipynb")
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(WAIT_MS_MAX)
        page.goto(f"{server.url}{_path(inside, name)}")
        page.wait_for_function(CONNECTED)
        return page

    return Lab(open_page(notebook, "notebook"), folder, open_page)


def _path(inside: str, name: str) -> str:
    """Of a notebook, in the front end that is driven."""
    if FRONT_END == "notebook":
        return f"notebooks/{inside}/{name}.ipynb"
    # A workspace of its own: two pages with the same one would take turns.
    workspace = f"{inside.replace('/', '-')}-{name}"
    return f"lab/workspaces/{workspace}/tree/{inside}/{name}.ipynb"


def start_server(own: Path) -> tuple[subprocess.Popen, Server]:
    """A JupyterLab below a base URL. `own` is a new folder: what it serves is in it, too."""
    root, settings, runtime = own / "work", own / "settings", own / "runtime"
    root.mkdir()
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    silenced = settings / "@jupyterlab" / "apputils-extension"
    silenced.mkdir(parents=True)
    (silenced / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    paths = [str(REPO), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    env.pop("NBDURABLE_HOME", None)
    log = (own / "server.log").open("w")
    command = [
        *(sys.executable, "-m", FRONT_END, "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.base_url={BASE_URL}",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
        "--LabApp.news_url=",
        f"--ServerApp.root_dir={root}",
    ]
    with log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + START_S_MAX
    note = runtime / f"jpserver-{server.pid}.json"
    while True:
        assert server.poll() is None, (own / "server.log").read_text()
        assert time.monotonic() < deadline, (own / "server.log").read_text()
        try:
            return server, Server(json.loads(note.read_text())["url"], root, settings)
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.1)  # Nothing tells when another process has written a file.


def stop_server(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
