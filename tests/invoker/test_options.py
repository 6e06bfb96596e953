"""Options of engines and handlers, and the sentence for what cannot be meant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nbdurable import (
    DefinitionError,
    EngineOptions,
    InvocationRetryPolicy,
    Service,
    VirtualObject,
    Workflow,
)
from nbdurable.core.settings import DEFAULT_SETTINGS
from nbdurable.invoker.manifest import manifest_of
from nbdurable.invoker.options import cleanup_interval_ms, settings_of
from nbdurable.invoker.payloads import ms_of
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine

NEGATIVE = timedelta(seconds=-1)


def test_options_that_say_nothing_are_the_defaults():
    assert settings_of(EngineOptions()) == DEFAULT_SETTINGS
    assert cleanup_interval_ms(EngineOptions()) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": "3"}, "concurrency is '3'; write a whole number"),
        ({"concurrency": True}, "concurrency is True; write a whole number"),
        ({"concurrency": 0}, "nothing would ever run"),
        ({"service_concurrency": 5}, "service_concurrency is 5; write a limit for each name"),
        ({"service_concurrency": {"S": 0}}, "the concurrency of 'S' is 0"),
        ({"scope_concurrency": {"t": 1.5}}, "the concurrency of 't' is 1.5"),
        ({"retry_policy": 5}, "write e.g. InvocationRetryPolicy(max_attempts=3)"),
        ({"inactivity_timeout": 5}, "inactivity_timeout is 5; write: timedelta(seconds=5)"),
        ({"abort_timeout": NEGATIVE}, "nothing takes less than no time"),
        ({"journal_retention": NEGATIVE}, "journal_retention is -1 day"),
        ({"workflow_retention": NEGATIVE}, "workflow_retention is -1 day"),
        ({"idempotency_retention": "1d"}, "idempotency_retention is '1d'"),
        ({"cleanup_interval": timedelta(0)}, "nothing but cleaning up would be done"),
        ({"cleanup_interval": NEGATIVE}, "cleanup_interval is -1 day"),
    ],
)
def test_an_option_that_cannot_be_meant_is_said_with_its_name(options: dict[str, Any], says: str):
    """When the engine is opened, and not hours later by whoever counts with it."""
    with pytest.raises(DefinitionError) as raised:
        DurableEngine(store=MemoryStore(), options=EngineOptions(**options))
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"exponentiation_factor": 0.5}, "exponentiation_factor of invocation_retry_policy is 0.5"),
        ({"exponentiation_factor": float("nan")}, "write a number from 1 up"),
        ({"max_attempts": 0}, "max_attempts of invocation_retry_policy is 0"),
        ({"max_interval": 5}, "max_interval of invocation_retry_policy is 5"),
        ({"on_max_attempts": "stop"}, "write 'pause' or 'kill'"),
    ],
)
def test_so_is_a_retry_policy_of_a_handler(policy: dict[str, Any], says: str):
    service = Service("S", invocation_retry_policy=InvocationRetryPolicy(**policy))
    service.handler("greet")(lambda ctx: None)
    with pytest.raises(DefinitionError) as raised:
        manifest_of(service)
    assert says in str(raised.value)


def test_so_is_how_long_state_is_kept():
    box = VirtualObject("Box", state_retention=NEGATIVE)
    box.handler("look")(lambda ctx: None)
    with pytest.raises(DefinitionError, match="state_retention of 'Box' is -1 day"):
        manifest_of(box)
    with pytest.raises(DefinitionError, match="workflow_retention"):
        Workflow("Flow", state_retention=timedelta(days=1))


def test_so_is_a_duration_of_a_handler():
    service = Service("S", journal_retention=NEGATIVE)
    service.handler("greet")(lambda ctx: None)
    with pytest.raises(DefinitionError, match="journal_retention of 'greet' is -1 day"):
        manifest_of(service)


@pytest.mark.parametrize(
    ("delta", "ms"),
    [
        (timedelta(milliseconds=1001), 1001),
        (timedelta(seconds=1.001), 1001),
        (timedelta(microseconds=1), 1),
        (timedelta(microseconds=1000), 1),
        (timedelta(days=365_000, microseconds=1), 365_000 * 86_400_000 + 1),
        (timedelta.max, 86_400_000_000_000_000),
        (timedelta.min, 0),
        (NEGATIVE, 0),
    ],
)
def test_a_duration_is_rounded_up_and_never_negative(delta: timedelta, ms: int):
    """Of a float 2.001 s were 2,000 ms, and who waited for it woke too early."""
    assert ms_of(delta) == ms
