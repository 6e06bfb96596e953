"""From the options of the public edge to serdes, milliseconds and policies."""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from nbdurable.core.records import cannot_hold
from nbdurable.core.values import RUN_RETRY_DEFAULT, RetryPolicy
from nbdurable.errors import ArgumentError
from nbdurable.sdk.options import RunOptions
from nbdurable.sdk.serde import DefaultSerde, Serde


def retry_policy_of(options: RunOptions[Any]) -> RetryPolicy | None:
    """None when no retry field is set: then the invocation's policy applies."""
    max_duration = options.max_duration
    if max_duration is None:
        max_duration = options.max_retry_duration
    asked = (
        options.max_attempts,
        max_duration,
        options.initial_retry_interval,
        options.max_retry_interval,
        options.retry_interval_factor,
    )
    if all(field is None for field in asked):
        return None
    default = RUN_RETRY_DEFAULT
    initial, longest = options.initial_retry_interval, options.max_retry_interval
    policy = RetryPolicy(
        initial_interval_ms=default.initial_interval_ms if initial is None else ms_of(initial),
        factor=default.factor
        if options.retry_interval_factor is None
        else options.retry_interval_factor,
        max_interval_ms=default.max_interval_ms if longest is None else ms_of(longest),
        max_attempts=options.max_attempts,
        max_duration_ms=None if max_duration is None else ms_of(max_duration),
    )
    unwritable = cannot_hold(policy)
    if unwritable is not None:
        raise ArgumentError(f"the step's retry options do not fit: {unwritable}")
    return policy


def run_serde(options: RunOptions[Any], action: Callable[..., Any]) -> Serde[Any]:
    if not isinstance(options.serde, DefaultSerde) or options.serde.type_hint is not None:
        return options.serde
    hint = options.type_hint or _returned(action)
    return options.serde if hint is None else options.serde.with_maybe_type(hint)


def _returned(action: Callable[..., Any]) -> type[Any] | None:
    """The action's return annotation, when it names a type that is there."""
    inner = action.func if isinstance(action, partial) else action
    hint = getattr(inner, "__annotations__", {}).get("return")
    if isinstance(hint, str):
        try:
            hint = typing.get_type_hints(inner).get("return")
        except Exception:  # noqa: BLE001 - border: an annotation is an arbitrary expression.
            return None
    return typing.cast("type[Any] | None", hint)


def typed(serde: Serde[Any], type_hint: type[Any] | None) -> Serde[Any]:
    if type_hint is not None and isinstance(serde, DefaultSerde):
        return serde.with_maybe_type(type_hint)
    return serde


def ms_of(delta: timedelta) -> int:
    """A public duration inside: whole milliseconds, never negative.

    Rounded up, so that nothing that waits wakes early; by integers, which hold every timedelta.
    """
    if not isinstance(delta, timedelta):
        raise ArgumentError(
            f"a duration is a timedelta, not {delta!r}; write: timedelta(seconds={delta!r})"
        )
    return max(0, -(delta // timedelta(milliseconds=-1)))
