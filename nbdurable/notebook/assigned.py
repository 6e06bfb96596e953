"""Which names a cell sets, as Python would: in its own scope, and not in functions within it."""

from __future__ import annotations

import ast
from collections.abc import Iterable


def assigned(statements: Iterable[ast.stmt]) -> frozenset[str]:
    """Variables, imports, functions and classes; not what it declares `global`."""
    found = _Assigned()
    for statement in statements:
        found.visit(statement)
    return frozenset(found.names - found.not_own)


class _Assigned(ast.NodeVisitor):
    """Mutable: grows while it visits."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.not_own: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self.names.add(node.id)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.names.add(node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.names.add(node.name)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.add(node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """A scope of its own."""

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._visit_comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._visit_comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._visit_comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._visit_comprehension(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(one.asname or one.name.partition(".")[0] for one in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        # Python refuses `*` in a function itself.
        self.names.update(one.asname or one.name for one in node.names if one.name != "*")

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._capture(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._capture(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._capture(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.not_own.update(node.names)

    def _visit_comprehension(self, node: ast.AST) -> None:
        """Only `:=` reaches out of one."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.names.add(inner.target.id)

    def _capture(self, name: str | None) -> None:
        if name is not None:
            self.names.add(name)
