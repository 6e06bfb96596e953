"""Tests of durable handlers, and the simulator that nbdurable itself is tested with.

For users: `DurableEnv` and the pytest fixture `durable_env` run handlers in virtual time. For the
curious: `python -m nbdurable.testing SEED` simulates random programs under faults, crashes and
people, and checks the invariants; the same seed is the same simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbdurable.testing.env import DurableEnv
    from nbdurable.testing.loop import VirtualLoop
    from nbdurable.testing.scheduler import DeadlockError, Scheduler
    from nbdurable.testing.store import Faults, FaultyStore

__all__ = ["DeadlockError", "DurableEnv", "Faults", "FaultyStore", "Scheduler", "VirtualLoop"]

# pytest imports this package in every project that has nbdurable installed: nothing before its use.
_ROOMS = {
    "DeadlockError": "scheduler",
    "DurableEnv": "env",
    "Faults": "store",
    "FaultyStore": "store",
    "Scheduler": "scheduler",
    "VirtualLoop": "loop",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _ROOMS:
        raise AttributeError(f"module 'nbdurable.testing' has no attribute {name!r}")
    value = getattr(import_module(f"nbdurable.testing.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value
