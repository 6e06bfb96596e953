"""Invocations named in the body of a request, instead of in its path.

Source: restate-semantics.md, 2 (`POST /restate/attach|output|lookup`).
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from nbdurable.core.ids import InvocationId, keyed_invocation_id
from nbdurable.server.answers import problem
from nbdurable.server.paths import Services, invocation_id_of, run_id


class _Named(msgspec.Struct, tag_field="target", kw_only=True):
    pass


class _Workflow(_Named, tag="workflow", rename="camel"):
    workflow_name: str
    workflow_key: str
    scope: str | None = None


class _Idempotent(_Named, tag="idempotentInvocation", rename="camel"):
    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str | None = None


class _Invocation(_Named, tag="invocation", rename="camel"):
    invocation_id: str


_decode = msgspec.json.Decoder(_Workflow | _Idempotent | _Invocation).decode


def target_of(body: bytes, services: Services) -> InvocationId:
    """The id that a target has, whether there is such an invocation or not.

    Raises:
        Problem: 400, it names none. Restate answers 500, with a backtrace.
    """
    try:
        named = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise problem(400, f"cannot read body: {error}") from None
    match named:
        case _Workflow(workflow_name=name, workflow_key=key, scope=scope):
            return run_id(name, key, scope, services)
        case _Idempotent():
            return keyed_invocation_id(
                named.service, named.key, named.handler, named.idempotency_key, named.scope
            )
        case _Invocation(invocation_id=text):
            return invocation_id_of(text)
        case _:
            assert_never(named)
