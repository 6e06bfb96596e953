"""How many attempts may run at once: of the engine, of a service, of a scope and its limit keys.

A limit counts attempts that run, not invocations that wait: who sleeps, or waits for another, has
given its slot back (see `IDLE_MS_MAX`). Whoever finds no slot is `ready` and gets one in the order
in which it became so.

Source: restate-semantics.md, 1.2 (`scope`) and 1.7.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nbdurable.core.values import Target

# Under a limit an attempt that only waits is suspended after this long instead of its own
# inactivity timeout: it holds a slot that those it waits for may need.
IDLE_MS_MAX = 100

_ENGINE = "*"


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`engine` is for all attempts; `services` by name; `scopes` by `scope` or `scope/limit-key`.

    A limit key `a/b` counts against `scope`, `scope/a` and `scope/a/b`.
    """

    engine: int | None = None
    services: dict[str, int] = {}
    scopes: dict[str, int] = {}

    def __bool__(self) -> bool:
        return self.engine is not None or bool(self.services) or bool(self.scopes)

    def of(self, counter: str) -> int | None:
        if counter == _ENGINE:
            return self.engine
        kind, _, name = counter.partition(":")
        return (self.services if kind == "service" else self.scopes).get(name)


NO_LIMITS = Limits()


def counters(target: Target, limit_key: str | None) -> Iterator[str]:
    """What an attempt on this target counts against."""
    yield _ENGINE
    yield f"service:{target.service}"
    if target.scope is None:
        return
    path = target.scope
    yield f"scope:{path}"
    for level in (limit_key or "").split("/"):
        if level:
            path = f"{path}/{level}"
            yield f"scope:{path}"
