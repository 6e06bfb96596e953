"""Run services in a test: the official SDK's harness, on an engine in this process.

```python
async with create_test_harness(app, always_replay=True) as env:
    assert await env.client.service_call(greet, "Ada") == "hello Ada"
```

Nothing is started but threads, and nothing is written: no Docker, no ports, no files.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, Optional, Self

from nbdurable.client.base import RestateClient
from nbdurable.client.sync import SyncClient
from nbdurable.errors import NbdurableError
from nbdurable.sdk.codec import JournalValueCodec
from nbdurable.sdk.definition import Definition
from nbdurable.sdk.options import EngineOptions, InvocationRetryPolicy
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

ONE_ATTEMPT = InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill")
IN_PROCESS_URL = "nbdurable://in-process"
"""There is no HTTP in front of this engine; its client is the way in."""


@dataclass
class HarnessEnvironment:
    """What a test is given."""

    ingress_url: str
    """`IN_PROCESS_URL`: there for tools that print it."""
    admin_api_url: str
    """The same."""
    client: RestateClient
    """Calls and sends; with `create_test_harness` also everything else `engine.client` can do."""


class TestHarness:
    """What `test_harness` gives, for tests without asyncio."""

    __test__ = False  # Pytest collects by name.

    def __init__(self, opened: DurableEngine) -> None:
        self._engine = SyncDurableEngine(opened)

    @property
    def client(self) -> SyncClient:
        return self._engine.client

    def start(self) -> None:
        self._engine.__enter__()

    def stop(self) -> None:
        self._engine.__exit__(None, None, None)

    def ingress_client(self) -> NoReturn:
        """Refused: there is no HTTP to be a client of."""
        raise NbdurableError(
            "this harness has no HTTP ingress; write: harness.client.service_call(greet, 'Ada')"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_harness(
    app: Iterable[Definition],
    follow_logs: bool = False,
    restate_image: str = "docker.io/restatedev/restate:latest",
    always_replay: bool = False,
    disable_retries: bool = False,
) -> TestHarness:
    """Run services in a test without asyncio; use as a `with`.

    Takes what `create_test_harness` takes, which the official SDK wants used instead.
    """
    return TestHarness(
        _engine(
            app, None, follow_logs=follow_logs, replays=always_replay, retries=not disable_retries
        )
    )


test_harness.__test__ = False  # type: ignore[attr-defined] # Pytest collects by name.


@asynccontextmanager
async def create_test_harness(
    app: Iterable[Definition],
    follow_logs: bool = False,
    restate_image: str = "docker.io/restatedev/restate:latest",
    always_replay: bool = False,
    disable_retries: bool = False,
    journal_value_codec: Optional[JournalValueCodec] = None,
) -> AsyncGenerator[HarnessEnvironment, None]:
    """Open an engine in memory with the services of an app, for one test.

    Args:
        app: From `nbdurable.app(…)`, or a list of services.
        follow_logs: Print what the engine logs of itself.
        restate_image: Accepted and ignored: there is no container.
        always_replay: Suspend at every wait, so that all that comes after replays all that came
            before. It finds code that does not do the same twice.
        disable_retries: Fail at the first error, unless a service has a policy of its own.
        journal_value_codec: The one of the app, if none is given.
    """
    opened = _engine(
        app,
        journal_value_codec,
        follow_logs=follow_logs,
        replays=always_replay,
        retries=not disable_retries,
    )
    async with opened as engine:
        yield HarnessEnvironment(IN_PROCESS_URL, IN_PROCESS_URL, engine.client)


def _engine(
    app: Iterable[Definition],
    codec: JournalValueCodec | None,
    *,
    follow_logs: bool,
    replays: bool,
    retries: bool,
) -> DurableEngine:
    if follow_logs:
        logging.basicConfig()
        logging.getLogger("nbdurable").setLevel(logging.DEBUG)
    options = EngineOptions(
        inactivity_timeout=timedelta(0) if replays else None,
        retry_policy=None if retries else ONE_ATTEMPT,
    )
    return DurableEngine(
        services=app, store=MemoryStore(), options=options, journal_value_codec=codec
    )
