"""What scopes and limit keys may look like.

A scope sets targets of the same name apart: their keys, state, promises and idempotency keys. A
limit key, of one or two levels (`tenant`, `tenant/user`), is counted against the limits of its
scope and changes nothing else.

Source: restate-semantics.md, 1.2 (`scope`).
"""

from __future__ import annotations

import re
from typing import Optional

_LEVEL = r"[a-zA-Z0-9_.-]{1,36}"
_SCOPE = re.compile(_LEVEL)
_LIMIT_KEY = re.compile(rf"{_LEVEL}(/{_LEVEL})?")


def problem_with(scope: object, limit_key: object) -> Optional[str]:
    """Say what is wrong with them, or None if nothing is."""
    if scope is not None and not (isinstance(scope, str) and _SCOPE.fullmatch(scope)):
        return f"{scope!r} cannot be a scope: a scope has 1 to 36 letters, digits, '_', '.' and '-'"
    if limit_key is None:
        return None
    if scope is None:
        return (
            f"the limit key {limit_key!r} has no scope to count in; write:"
            " ctx.scope('…').service_call(…, limit_key=…)"
        )
    if not (isinstance(limit_key, str) and _LIMIT_KEY.fullmatch(limit_key)):
        return (
            f"{limit_key!r} cannot be a limit key: it has one or two levels, as 'tenant/user', each"
            " of 1 to 36 letters, digits, '_', '.' and '-'"
        )
    return None
