"""WorkflowAPI of the suite."""

from __future__ import annotations

import pytest

from conformance.conftest import Started
from conformance.driver import eventually, fresh
from nbdurable import ConflictError, InvocationNotReadyError

FLOW = "BlockAndWaitWorkflow"


async def test_a_workflow_is_submitted_watched_resolved_and_attached_to(started: Started):
    """WorkflowAPI.setAndResolve: once per key, whoever submits it again."""
    key = fresh()
    async with started() as runtime:
        client = runtime.client
        sent = await client.generic_send(FLOW, "run", b'"Francesco"', key)
        assert sent.existing is False
        await eventually(lambda: runtime.call(f"{FLOW}/{key}/getState"), "Francesco")
        with pytest.raises(InvocationNotReadyError):
            await client.workflow_output(FLOW, key)
        await runtime.call(f"{FLOW}/{key}/unblock", "Till")
        assert await client.workflow_attach(FLOW, key) == "Till"
        assert await client.workflow_output(FLOW, key) == "Till"
        again = await client.generic_send(FLOW, "run", b'"Francesco"', key)
        assert (again.existing, again.invocation_id) == (True, sent.invocation_id)
        assert await client.workflow_output(FLOW, key) == "Till"


async def test_a_workflow_that_is_called_again_is_a_conflict(started: Started):
    """Source: restate-semantics.md, section 2: "workflow resubmission", a call."""
    key = fresh()
    async with started() as runtime:
        await runtime.client.generic_send(FLOW, "run", b'"first"', key)
        with pytest.raises(ConflictError, match="already invoked"):
            await runtime.run(f"{FLOW}/{key}/run", "second")
