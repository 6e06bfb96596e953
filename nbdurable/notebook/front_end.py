"""Whether somebody is there who draws widgets.

Whoever executes a notebook from its first to its last cell keeps what was put out; and nbconvert
draws a widget that was kept with scripts from the network, in place of the picture beside it.
"""

from __future__ import annotations

import os

from IPython.core.interactiveshell import InteractiveShell

from nbdurable.kernels import run_here


def draws_widgets(shell: InteractiveShell) -> bool:
    """Nobody says that he cannot: nbclient, papermill and our own runs are told by what they lack.

    A kernel that a program has started by jupyter_client knows its parent, and no page. A Jupyter
    server names the notebook of each kernel that it starts, VS Code tells it to the kernel, and
    pages send the id of the cell.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None or run_here():
        return False
    is_of_page = os.environ.get("JPY_SESSION_NAME") or "__vsc_ipynb_file__" in shell.user_ns
    sends_cells = "cellId" in kernel.get_parent("shell").get("metadata", {})
    return bool(is_of_page or sends_cells or "JPY_PARENT_PID" not in os.environ)
