"""An unchanged handler has an unchanged digest; that is what makes re-running a cell free."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
from typing import Any

from nbdurable.sdk import Handler, Service, handler_digest

CELL = """
greeter = Service("Greeter")

@greeter.handler()
async def greet(ctx, name):
    words = {"hello", "hallo", "salut"}
    if name in {"Ada", "Bob", "Eve"}:
        return [word for word in words]
    return (lambda: name)()

@greeter.handler()
async def wave(ctx):
    return None
"""


def handlers_of(source: str, *, file: str | None = None) -> list[Handler[Any, Any]]:
    """Define a service as a cell does; without a file name its source cannot be found again."""
    if file is not None:
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = {"Service": Service, "__name__": "__main__"}
    exec(compile(source, file or "<nowhere>", "exec"), names)  # noqa: S102 - as a kernel does.
    return list(names["greeter"].handlers.values())


def test_running_a_cell_again_gives_the_same_digest() -> None:
    """Else every run would make a new revision."""
    first = handlers_of(CELL, file="<cell 1>")
    again = handlers_of(CELL, file="<cell 2>")
    assert handler_digest(again) == handler_digest(first)
    assert len(handler_digest(first)) == 32


def test_comments_and_spacing_do_not_count() -> None:
    """Tidying up a cell must not move its runs to another revision."""
    tidy = CELL.replace("    return None", "    # Nothing to say.\n\n    return  None")
    assert handler_digest(handlers_of(tidy, file="<tidy>")) == handler_digest(
        handlers_of(CELL, file="<cell>")
    )


def test_a_changed_handler_changes_the_digest() -> None:
    """Replay of old runs against new code must be a decision, not an accident."""
    changed = CELL.replace('"salut"', '"ciao"')
    for file in ("<cell>", None):
        before = handler_digest(handlers_of(CELL, file=file))
        after = handler_digest(handlers_of(changed, file=file and "<changed>"))
        assert before != after


def test_the_order_of_definition_does_not_count() -> None:
    """Handlers are found by name."""
    handlers = handlers_of(CELL, file="<cell>")
    assert handler_digest(handlers[::-1]) == handler_digest(handlers)


def test_a_handler_more_changes_the_digest() -> None:
    """A revision says what can be called."""
    handlers = handlers_of(CELL, file="<cell>")
    assert handler_digest(handlers[:1]) != handler_digest(handlers)


def test_without_source_the_digest_is_the_same_in_every_process() -> None:
    """Byte code holds sets and nested code, whose reprs change with seed and address."""
    program = (
        "from nbdurable.sdk import Service, handler_digest\n"
        f"exec({CELL!r})\n"
        "print(handler_digest(greeter.handlers.values()))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(digests) == 1
    assert digests == {handler_digest(handlers_of(CELL)) + "\n"}
