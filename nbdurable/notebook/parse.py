"""What a function cell says: its handlers, its helpers, its digest. Pure: text in, a tree out.

Top-level functions whose first parameter is `ctx` are handlers, everything else is the cell's own.
A refusal is one line that says what to write.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

from nbdurable.errors import DefinitionError

CellKind = Literal["service", "object", "workflow"]

CONTEXT: Final = "ctx"
MAIN: Final = "run"
SHARED: Final = "shared"
DIGEST_BYTES: Final = 16

_EXAMPLES: Final = {
    "service": "async def greet(ctx, name)",
    "object": "async def add(ctx, amount)",
    "workflow": "async def run(ctx, request)",
}


@dataclass(frozen=True, slots=True)
class FunctionCell:
    """`tree` is what to compile: the cell without its `@shared` marks."""

    kind: CellKind
    name: str
    tree: ast.Module
    handlers: tuple[str, ...]
    shared: frozenset[str]
    digest: str


def read_cell(kind: CellKind, name: str, tree: ast.Module) -> FunctionCell:
    """Find the handlers and refuse what cannot be served. Takes the tree over.

    Raises:
        DefinitionError: One line that says what to write.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise DefinitionError(
            f"the cell binds its name, and {name!r} is no Python name; write: "
            f"%%durable_{kind} {_suggested(name)}"
        )
    # Before anything is taken out of the tree: `@shared` is a difference.
    digest = _digest(kind, name, tree)
    handlers = list(_handlers(tree))
    if not handlers:
        raise DefinitionError(f"no handler in this cell; write: {_EXAMPLES[kind]}")
    names = [handler.name for handler in handlers]
    for handler in handlers:
        if names.count(handler.name) > 1:
            raise DefinitionError(f"handler {handler.name!r} is defined twice; rename one")
    if kind == "workflow" and MAIN not in names:
        raise DefinitionError(
            f"workflow {name} has no main handler; write: {_EXAMPLES['workflow']}"
        )
    shared = frozenset(handler.name for handler in handlers if _take_shared_mark(handler))
    _check_shared(kind, shared)
    return FunctionCell(kind, name, tree, tuple(names), shared, digest)


def _handlers(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = [*statement.args.posonlyargs, *statement.args.args]
            if parameters and parameters[0].arg == CONTEXT:
                yield statement


def _take_shared_mark(handler: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """The mark is for us: taken out of the tree, it needs no name in the user's namespace."""
    kept = [
        decorator
        for decorator in handler.decorator_list
        if not (isinstance(decorator, ast.Name) and decorator.id == SHARED)
    ]
    was_marked = len(kept) < len(handler.decorator_list)
    handler.decorator_list = kept
    return was_marked


def _check_shared(kind: CellKind, shared: frozenset[str]) -> None:
    if kind == "service" and shared:
        raise DefinitionError("a service has no keys and so no shared handlers; remove @shared")
    if kind == "workflow" and MAIN in shared:
        raise DefinitionError("run is the one handler of a workflow that is not shared")


def _digest(kind: CellKind, name: str, tree: ast.Module) -> str:
    """Comments, blank lines and spaces are not in the tree. `--pin` is about runs, not about code.

    A tree's text differs between Python's minor versions: then a cell is a new revision.
    """
    text = repr((kind, name, ast.dump(tree)))
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES).hexdigest()


def _suggested(name: str) -> str:
    words = "".join(char if char.isalnum() else " " for char in name).split()
    joined = "".join(word[:1].upper() + word[1:] for word in words)
    return joined if joined.isidentifier() and not keyword.iskeyword(joined) else "Payment"
