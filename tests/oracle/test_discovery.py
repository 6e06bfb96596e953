"""What Restate would be told of a definition is what our engine is told.

Both are made from the same source, once with each package, and compared option by option.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import restate

import nbdurable
from nbdurable.invoker.manifest import manifest_of
from oracle.official import discover

KINDS = {"service": "SERVICE", "virtual_object": "VIRTUAL_OBJECT", "workflow": "WORKFLOW"}


def definitions(sdk: Any) -> list[Any]:
    policy = sdk.InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=7),
        exponentiation_factor=3.0,
        max_interval=timedelta(seconds=9),
        max_attempts=4,
        on_max_attempts="kill",
    )
    service = sdk.Service("Greeter", invocation_retry_policy=policy)
    counter = sdk.VirtualObject(
        "Counter",
        inactivity_timeout=timedelta(seconds=3),
        journal_retention=timedelta(hours=1),
        idempotency_retention=timedelta(hours=2),
    )
    flow = sdk.Workflow("Flow", ingress_private=True, abort_timeout=timedelta(minutes=2))

    @service.handler()
    async def greet(ctx, name: str) -> str:
        return name

    @service.handler("nothing", inactivity_timeout=timedelta(0), ingress_private=True)
    async def does_nothing(ctx) -> None:
        return None

    @counter.handler(idempotency_retention=timedelta(hours=3))
    async def add(ctx, by: int) -> int:
        return by

    @counter.handler(kind="shared")
    async def get(ctx) -> int:
        return 0

    @flow.main(workflow_retention=timedelta(days=2))
    async def run(ctx, order: dict) -> None:
        return None

    @flow.handler(ingress_private=False)
    async def approve(ctx) -> None:
        return None

    return [service, counter, flow]


def told(manifest: Any) -> dict[str, Any]:
    """A manifest of ours in the words of the discovery protocol; what is left open is None."""

    def retry(handler: Any, field: str) -> Any:
        return None if handler.retry is None else getattr(handler.retry, field)

    return {
        "name": manifest.name,
        "ty": KINDS[manifest.type],
        "handlers": {
            handler.name: {
                "ty": None if handler.type is None else handler.type.upper(),
                "hasInput": handler.has_input,
                "ingressPrivate": handler.ingress_private,
                "inactivityTimeout": handler.inactivity_timeout_ms,
                "abortTimeout": handler.abort_timeout_ms,
                "journalRetention": handler.journal_retention_ms,
                "idempotencyRetention": handler.idempotency_retention_ms,
                "workflowCompletionRetention": handler.workflow_retention_ms,
                "retryPolicyInitialInterval": retry(handler, "initial_interval_ms"),
                "retryPolicyExponentiationFactor": retry(handler, "factor"),
                "retryPolicyMaxInterval": retry(handler, "max_interval_ms"),
                "retryPolicyMaxAttempts": retry(handler, "max_attempts"),
                "retryPolicyOnMaxAttempts": retry(handler, "on_max_attempts"),
            }
            for handler in manifest.handlers
        },
    }


def discovered(service: dict[str, Any]) -> dict[str, Any]:
    """What the official SDK says, each handler with what its service says for all of them."""

    def options(handler: dict[str, Any]) -> dict[str, Any]:
        said = {
            name: handler[name] if handler.get(name) is not None else service.get(name)
            for name in told_options
        }
        on_max_attempts = said["retryPolicyOnMaxAttempts"]
        return said | {
            "ty": handler.get("ty"),
            "hasInput": bool(handler["input"].get("contentType")),
            "ingressPrivate": bool(said["ingressPrivate"]),
            "retryPolicyOnMaxAttempts": on_max_attempts and on_max_attempts.lower(),
        }

    told_options = set(told(manifest_of(definitions(nbdurable)[0]))["handlers"]["greet"])
    return {
        "name": service["name"],
        "ty": service["ty"],
        "handlers": {handler["name"]: options(handler) for handler in service["handlers"]},
    }


async def test_a_definition_says_the_same_to_both():
    theirs = await discover(restate.app(definitions(restate)))
    ours = [told(manifest_of(definition)) for definition in definitions(nbdurable)]
    assert ours == [discovered(service) for service in theirs["services"]]


async def test_the_oracle_speaks_the_versions_it_is_asked_in():
    """The generated comparisons use 6 and 7; the SDK must still offer both."""
    manifest = await discover(restate.app(definitions(restate)))
    assert manifest["minProtocolVersion"] <= 6
    assert manifest["maxProtocolVersion"] >= 7
