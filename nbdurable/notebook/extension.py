"""`%load_ext nbdurable`: the magics, the journal that is there, and a tidy end.

Light: it imports neither anywidget nor ipywidgets, and duckdb only when there is a journal to open.
"""

# IPython annotates its shell in part.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import atexit
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbdurable.notebook.magics import DurableMagics


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; say what an existing journal holds. Twice does no harm."""
    if magics_of(shell) is not None:
        return
    magics = DurableMagics(shell)
    shell.register_magics(magics)
    shell.input_transformers_post.append(magics.transform)
    shell.Completer.custom_matchers.append(magics.matcher)
    shell.events.register("pre_run_cell", magics.capture.renew)
    shell.events.register("post_run_cell", magics.session.after_cell)
    # Best effort: a kernel that is killed never gets here, and loses nothing by it.
    atexit.register(magics.session.close)
    magics.capture.begin()
    magics.session.begin()


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Close the journal and take the magics away. What ran goes on when it is loaded again."""
    magics = magics_of(shell)
    if magics is None:
        return
    atexit.unregister(magics.session.close)
    magics.session.end()
    magics.capture.end()
    shell.input_transformers_post.remove(magics.transform)
    shell.Completer.custom_matchers.remove(magics.matcher)
    shell.events.unregister("pre_run_cell", magics.capture.renew)
    shell.events.unregister("post_run_cell", magics.session.after_cell)
    manager = shell.magics_manager
    del manager.registry[DurableMagics.__name__]
    for kind, names in DurableMagics.magics.items():
        for name in names:
            manager.magics[kind].pop(name, None)


def magics_of(shell: InteractiveShell) -> DurableMagics | None:
    """Those of this shell, if they are loaded.

    Their class is that of whichever load of our modules: `importlib.reload` makes another.
    """
    found: Any = shell.magics_manager.registry.get(DurableMagics.__name__)
    return found if type(found).__module__ == DurableMagics.__module__ else None
