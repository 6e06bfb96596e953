"""The room stays pure and quick to enter."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from nbdurable import errors, sdk


def test_importing_the_sdk_loads_no_engine_and_no_notebook() -> None:
    """User code that only defines handlers must run anywhere, a cluster's workers included."""
    program = "import sys, nbdurable.sdk; print(*sorted(m.split('.')[0] for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {"asyncio", "duckdb", "IPython", "pydantic", "restate", "threading", "_hashlib"}
    assert heavy & set(loaded) == set()


def test_every_public_name_exists() -> None:
    """`from nbdurable.sdk import *` is how some notebooks begin."""
    assert [name for name in sdk.__all__ if not hasattr(sdk, name)] == []


def test_control_flow_is_not_caught_by_except_exception() -> None:
    """A handler that logs and swallows every Exception must still be able to suspend."""
    for kind in (errors.AttemptClosed, errors.SuspendedException):
        assert not issubclass(kind, Exception)
        assert errors.is_internal_exception(kind())
    assert not errors.is_internal_exception(errors.TerminalError("no"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.JournalMismatchError, 570),
        (errors.EngineClosedError, 598),
        (errors.AttemptClosed, 598),
        (errors.SuspendedException, 599),
        (errors.InvocationNotFoundError, 404),
        (errors.InvocationNotReadyError, 470),
        (errors.ConflictError, 409),
    ],
)
def test_codes_are_restates(error: type, code: int) -> None:
    """People search for the number."""
    assert vars(error)["code"] == code


@pytest.mark.parametrize(
    "error",
    [
        errors.TerminalError("declined", 402, {"reason": "funds"}),
        errors.HttpError(404, "not found", "{}"),
        errors.RetryableError("busy", 503),
    ],
)
def test_errors_survive_a_trip_between_processes(error: Exception) -> None:
    """Steps run in pools, and links carry failures."""
    copy = pickle.loads(pickle.dumps(error))
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
