"""An IPython shell in a folder of its own, and real kernels to be killed."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop
from traitlets.config import Config

import nbdurable

REPO = Path(nbdurable.__file__).parent.parent


class Shell:
    """Runs cells, and keeps what the last one printed."""

    def __init__(self, ip: InteractiveShell):
        self.ip = ip
        self.out = ""
        self.error: BaseException | None = None

    def run(self, source: str):
        """The cell's value. `out` is all it printed, errors included."""
        with capture_output(display=False) as printed:
            ran = self.ip.run_cell(source, store_history=True)
        self.out = printed.stdout + printed.stderr
        self.error = ran.error_in_exec or ran.error_before_exec
        return ran.result

    def refused(self, source: str) -> str:
        """The one line below a cell that was refused."""
        self.run(source)
        assert self.error is not None, self.out
        lines = self.out.strip().splitlines()
        assert len(lines) == 1, self.out
        return lines[0]


@pytest.fixture
def bare_shell(tmp_path, monkeypatch):
    """Without the extension."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    InteractiveShell.clear_instance()
    # The history's database and its thread would outlive the test.
    config = Config(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    shell = Shell(InteractiveShell.instance(config=config))
    yield shell
    shell.run("%unload_ext nbdurable")
    InteractiveShell.clear_instance()
    # IPython keeps its loop for life, and warnings are errors here.
    get_asyncio_loop().close()


@pytest.fixture
def shell(bare_shell):
    bare_shell.run("%load_ext nbdurable")
    assert bare_shell.out == ""
    return bare_shell


FIND_JOURNALS = """
import ipywidgets
from nbdurable.notebook.widgets.journal import JournalWidget
known = ipywidgets.widgets.widget._instances.values()
print(*[widget.comm.comm_id for widget in known if isinstance(widget, JournalWidget)])
"""


# Before it waits there is nothing to detach, and only the kernel itself knows when it does.
INTERRUPTS = """
def interrupt_when_it_waits():
    import asyncio, os, signal, sys, threading, time
    main, loop = threading.main_thread().ident, asyncio.get_running_loop()

    def waits():
        frame, called = sys._current_frames()[main], []
        while frame is not None:
            called.append(frame.f_code.co_qualname)
            frame = frame.f_back
        tasks = {task.get_coro().__qualname__ for task in asyncio.all_tasks(loop)}
        in_result = "Handle.result" in called and called[0] == "Condition.wait"
        in_await = "Handle._outcome" in tasks and called[0] == "EpollSelector.select"
        return in_result or in_await

    def interrupt():
        while not waits():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
"""


class Kernel:
    """A real kernel in a process of its own."""

    def __init__(self, folder: Path):
        paths = [str(REPO), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            "IPYTHONDIR": str(folder / "ipython"),
            # As a Jupyter server says whose kernel it is, which draws widgets.
            "JPY_SESSION_NAME": str(folder / "notebook.ipynb"),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        env.pop("NBDURABLE_HOME", None)
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder), env=env)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.run(INTERRUPTS)

    def run(self, source: str, begun: Callable[[], None] = lambda: None) -> str:
        """All that the cell put out, as text. `begun` is called when it puts out something."""
        parts: list[str] = []
        once = iter([begun])

        def hear(message) -> None:
            content = message["content"]
            if message["header"]["msg_type"] in {"stream", "display_data"}:
                next(once, lambda: None)()
            match message["header"]["msg_type"]:
                case "stream":
                    parts.append(content["text"])
                case "execute_result" | "display_data" | "update_display_data":
                    parts.append(content["data"]["text/plain"])
                case "error":
                    parts.extend(content["traceback"])

        self.client.execute_interactive(
            source, timeout=60, output_hook=hear, allow_stdin=False, stop_on_error=False
        )
        return "\n".join(parts)

    def journal_comm(self) -> str:
        """The comm of the one journal that is shown."""
        comm_id = self.run(FIND_JOURNALS).strip()
        assert len(comm_id) == 32, comm_id
        return comm_id

    def click(self, comm_id: str, content: object) -> None:
        """As a page does; not waited for."""
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self.client.shell_channel.send(message)

    def run_interrupted(self, source: str) -> str:
        """The same, of a cell that is interrupted as soon as it waits for a run."""
        self.run("interrupt_when_it_waits()")
        return self.run(source)

    def completions(self, code: str, cursor: int | None = None) -> list[str]:
        """What a front end shows after TAB there, or at the end."""
        at = len(code) if cursor is None else cursor
        reply = self.client.complete(code, at, reply=True, timeout=60)
        return reply["content"]["matches"]

    def help_of(self, name: str) -> str:
        """What it shows after `?`, without colours."""
        reply = self.client.inspect(name, len(name), reply=True, timeout=60)
        return re.sub(r"\x1b\[[0-9;]*m", "", reply["content"]["data"]["text/plain"])

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        os.kill(self.manager.provisioner.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def start_kernel(tmp_path):
    """Start kernels in one folder; those still alive end with the test."""
    kernels: list[Kernel] = []

    def start() -> Kernel:
        kernels.append(Kernel(tmp_path))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.close()
    # The client keeps its loop for life, and warnings are errors here.
    ensure_event_loop().close()
