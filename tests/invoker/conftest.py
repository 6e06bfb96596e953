"""Every link there is: what handlers can count on is tested over each, and in replay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from support.joined import JoinedEngine
from support.running import durable, replaying

from nbdurable.wiring import DurableEngine

LINKS = {
    "attached": JoinedEngine,
    "attached, always replaying": partial(JoinedEngine, always_replay=True),
    "local": durable,
    "local, always replaying": replaying,
}


@pytest.fixture(params=sorted(LINKS))
def opened(request: pytest.FixtureRequest) -> Callable[..., DurableEngine]:
    return LINKS[request.param]
