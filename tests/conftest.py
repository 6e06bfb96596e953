"""Settings of the whole suite."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.npm import installed

from nbdurable.testing import plugin

# A shared machine is slow at times, which is not a failure; a blob repeats what was found.
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON, max_examples=60)
settings.register_profile("ci", _COMMON, max_examples=60, derandomize=True)
settings.register_profile("long", _COMMON, max_examples=2_000)
settings.register_profile(
    "sim",
    _COMMON,
    max_examples=500,
    stateful_step_count=int(os.environ.get("HYPOTHESIS_STEPS", "50")),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# Long for any test, short for a person who waits for one that hangs.
ASYNC_TEST_S_MAX = 30.0
SLOW_TEST_S_MAX = 200.0


def pytest_configure(config: pytest.Config) -> None:
    """Our plugin, also where the package is on the path and not installed."""
    if not config.pluginmanager.has_plugin("nbdurable"):
        config.pluginmanager.register(plugin, "nbdurable")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """An `async def` test runs on a loop of its own, in real time unless it has a `durable_env`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or "durable_env" in pyfuncitem.funcargs:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def bounded() -> None:
        is_slow = pyfuncitem.get_closest_marker("slow") is not None
        async with asyncio.timeout(SLOW_TEST_S_MAX if is_slow else ASYNC_TEST_S_MAX):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


@pytest.fixture(scope="session")
def restate_program() -> Iterator[Callable[[str], Path]]:
    """Restate's own `restate` and `restate-server`: installed once, and removed again."""
    with tempfile.TemporaryDirectory(prefix="restate-") as folder:
        yield functools.cache(lambda name: installed(name, Path(folder)))
