"""The pytest plugin: the fixture `durable_env`, and `async def` tests that use it.

pytest imports this in every project that has nbdurable installed, so it imports nothing of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from nbdurable.testing.env import DurableEnv

MARKER = "durable_env(**options): options of the DurableEnv that the fixture durable_env is."


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("nbdurable").addoption(
        "--durable-always-replay",
        action="store_true",
        help="every durable_env suspends at every await, so that all handlers are replayed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def durable_env(request: pytest.FixtureRequest) -> Iterator[DurableEnv]:
    """A journal in memory, an engine and a client, in virtual time; see `DurableEnv`.

    `durable_env.serve(...)` says what can be called. A plain test runs what it awaits with
    `durable_env.run(...)`; an `async def` test awaits it, and needs no other plugin.
    """
    from nbdurable.testing.env import DurableEnv

    options = {"always_replay": request.config.getoption("--durable-always-replay", default=False)}
    marker = request.node.get_closest_marker("durable_env")
    if marker is not None:
        options.update(marker.kwargs)
    with DurableEnv(**options) as env:
        yield env


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """An `async def` test that uses the fixture runs on its loop, where waiting takes no time."""
    env = cast("DurableEnv | None", pyfuncitem.funcargs.get("durable_env"))
    if env is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}
    env.run(pyfuncitem.obj(**arguments))
    return True
