"""What a function cell says: its handlers, its helpers, its digest. Pure: text in, a tree out.

Top-level functions whose first parameter is `ctx` are handlers, everything else is the cell's own.
The whole of a run cell is one handler. A refusal is one line that says what to write.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from nbdurable.errors import DefinitionError
from nbdurable.notebook.assigned import assigned

CellKind = Literal["service", "object", "workflow", "run"]

CONTEXT: Final = "ctx"
MAIN: Final = "run"
SHARED: Final = "shared"
DIGEST_BYTES: Final = 16
# What the function of a run cell is given besides its ctx: the notebook's names.
GIVEN: Final = "__notebook__"

_FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINED_ANEW: Final = (*_FUNCTION, ast.Import, ast.ImportFrom)
_EXAMPLES: Final = {
    "service": "async def greet(ctx, name)",
    "object": "async def add(ctx, amount)",
    "workflow": "async def run(ctx, request)",
}


@dataclass(frozen=True, slots=True)
class FunctionCell:
    """`tree` is what to compile: the cell without its `@shared` marks, or as a function.

    `sets` are the variables of a run cell, `functions` what it defines with `def` and `import`.
    """

    kind: CellKind
    name: str
    tree: ast.Module
    handlers: tuple[str, ...]
    shared: frozenset[str]
    digest: str
    sets: frozenset[str] = frozenset()
    functions: ast.Module = field(default_factory=lambda: ast.Module([], []))


def read_cell(kind: CellKind, name: str, tree: ast.Module) -> FunctionCell:
    """Find the handlers and refuse what cannot be served. Takes the tree over.

    Raises:
        DefinitionError: One line that says what to write.
    """
    if kind == "run":
        return _read_run(name, tree)
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


def as_run(tree: ast.Module) -> ast.Module:
    """The statements as the body of `async def run(ctx, __notebook__)`. Takes the tree over.

    It returns the value of a last expression, and its variables by name. A name that it sets has
    the notebook's value until then, as in any other cell: `total = total + 1`.
    """
    body, result = list(tree.body), ast.parse("None", mode="eval").body
    if body and isinstance(last := body[-1], ast.Expr):
        body.pop()
        result = last.value
    own = assigned(tree.body) - {CONTEXT}
    known = "".join(f"if {name!r} in {GIVEN}: {name} = {GIVEN}[{name!r}]\n" for name in sorted(own))
    frame = ast.parse(f"async def {MAIN}({CONTEXT}, {GIVEN}):\n return None, locals()\n")
    function = frame.body[0]
    assert isinstance(function, ast.AsyncFunctionDef)
    returned = function.body[0]
    assert isinstance(returned, ast.Return)
    assert isinstance(returned.value, ast.Tuple)
    ast.increment_lineno(returned, (tree.body[-1].lineno if tree.body else 1) - returned.lineno)
    returned.value.elts[0] = result
    function.body = [*ast.parse(known).body, *body, returned]
    return frame


def _read_run(name: str, tree: ast.Module) -> FunctionCell:
    if not tree.body:
        raise DefinitionError("the cell is empty; write what it does, e.g. await ctx.run_typed(…)")
    digest, sets = _digest("run", name, tree), assigned(tree.body) - {CONTEXT}
    variables = assigned(one for one in tree.body if not isinstance(one, _DEFINED_ANEW))
    functions = [
        one
        for one in tree.body
        if isinstance(one, _DEFINED_ANEW) and not assigned([one]) & variables
    ]
    return FunctionCell(
        kind="run",
        name=name,
        tree=as_run(tree),
        handlers=(MAIN,),
        shared=frozenset(),
        digest=digest,
        sets=sets - assigned(functions),
        functions=ast.Module([*functions], []),
    )


def _handlers(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for statement in tree.body:
        if isinstance(statement, _FUNCTION):
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
