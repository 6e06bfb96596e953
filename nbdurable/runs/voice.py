"""Say of a run why it cannot be run: as its own handler, which fails with that.

So the journal has it as it has every failure, whoever asks for the run is told, and a run that is
only paused can be resumed.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from nbdurable.core.builtin import NOTEBOOK_SERVICE
from nbdurable.core.ids import InvocationId
from nbdurable.core.proposals import CloseLink, LoadCode
from nbdurable.engine.loop import Engine
from nbdurable.engine.ports import Clock
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.wire_source import WireSource
from nbdurable.runs.request import HANDLER, ONE_ATTEMPT, manifest_of_notebooks
from nbdurable.sdk.context import WorkflowContext
from nbdurable.sdk.workflow import Workflow

# An attempt that only raises takes a commit or two.
_LOOK_S: Final = 0.01
_PATIENCE_S: Final = 10.0


def say(
    engine: Engine,
    clock: Clock,
    wires: WireSource,
    run: tuple[InvocationId, str],
    error: Exception,
) -> None:
    """Give a run that waits for its process one attempt, here, in which this is raised.

    Over a link of its own: over that of this process the code of notebooks may be another.
    """
    invocation_id, key = run
    flow = saying(error)
    manifest = manifest_of_notebooks(flow)
    link = LocalLink(f"runs-{os.getpid()}", clock, engine.post, wires)
    link.start()
    try:
        engine.add_link(link).result()
        link.offer(flow, manifest.digest)
        engine.propose(LoadCode(link=link.name, manifest=manifest, keys=(key,))).result()
        until = time.monotonic() + _PATIENCE_S
        while engine.ask(lambda: _is_at_it(engine, invocation_id)).result():
            if time.monotonic() > until:
                break
            time.sleep(_LOOK_S)
        engine.propose(CloseLink(link=link.name)).result()
    finally:
        link.close()


def saying(error: Exception | None) -> Workflow:
    """The workflow of notebooks where it runs none of them."""
    flow = Workflow(NOTEBOOK_SERVICE, invocation_retry_policy=ONE_ATTEMPT)

    @flow.main(HANDLER)
    async def run(_ctx: WorkflowContext, _request: dict[str, Any]) -> dict[str, Any]:
        assert error is not None, "registered for no key, so that nothing is run here"
        raise error

    return flow


def _is_at_it(engine: Engine, invocation_id: InvocationId) -> bool:
    inv = engine.machine.state.invocations.get(invocation_id)
    return inv is not None and inv.status in ("ready", "running")
