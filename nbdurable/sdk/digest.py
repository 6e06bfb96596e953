"""Tell whether handlers' code has changed, so that an unchanged cell makes no new revision.

What counts is the code as Python reads it: comments, blank lines and indentation do not, and the
code of functions a handler calls does not either (replay checks what the handler does, entry by
entry). The syntax tree's text differs between Python's minor versions, so a digest is compared only
with one made by the same.
"""

from __future__ import annotations

import inspect
import textwrap
import types
from collections.abc import Iterable
from typing import Any

from nbdurable.sdk.handler import Handler

DIGEST_BYTES = 16


def handler_digest(handlers: Iterable[Handler[Any, Any]]) -> str:
    """Return 32 hex digits, the same whatever order the handlers were defined in."""
    # Imported late: with OpenSSL behind it, hashlib is a third of this package's import time.
    import hashlib

    texts = sorted(
        repr((handler.service_tag.name, handler.name, handler.kind, _code_text(handler.fn)))
        for handler in handlers
    )
    return hashlib.blake2b(
        "\n".join(texts).encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES
    ).hexdigest()


def _code_text(fn: Any) -> str:
    import ast

    function = inspect.unwrap(fn)
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        # Made by exec, or indented around a text that is not: byte code is the next best.
        return _byte_code_text(getattr(function, "__code__", None))


def _byte_code_text(code: types.CodeType | None) -> str:
    if code is None:
        return ""
    constants = [_constant_text(constant) for constant in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, constants))


def _constant_text(constant: object) -> str:
    if isinstance(constant, types.CodeType):
        # The repr of a code object holds its address, which changes with every process.
        return _byte_code_text(constant)
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(repr, constant))})"
    return repr(constant)
