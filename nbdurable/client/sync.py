"""The client of code without asyncio of an engine that is open here, or joined."""

from __future__ import annotations

from nbdurable.client.engine import EngineClient
from nbdurable.client.waited import SyncRestateClient, same, waited


class SyncClient(SyncRestateClient):
    """Has the methods of an engine's client; each waits and returns the value itself.

    ```python
    with nbdurable.open_sync(services=[greeter]) as engine:
        print(engine.client.service_call(greet, "Ada"))
    ```
    """

    def __init__(self, client: EngineClient) -> None:
        super().__init__(client, client)

    attach = waited(EngineClient.attach)
    output = waited(EngineClient.output)
    workflow_attach = waited(EngineClient.workflow_attach)
    workflow_output = waited(EngineClient.workflow_output)
    cancel = waited(EngineClient.cancel)
    kill = waited(EngineClient.kill)
    pause = waited(EngineClient.pause)
    resume = waited(EngineClient.resume)
    accept_mismatch = waited(EngineClient.accept_mismatch)
    restart_as_new = waited(EngineClient.restart_as_new)
    purge = waited(EngineClient.purge)
    purge_journal = waited(EngineClient.purge_journal)
    clean_up = waited(EngineClient.clean_up)
    resolve_awakeable = waited(EngineClient.resolve_awakeable)
    reject_awakeable = waited(EngineClient.reject_awakeable)
    resolve_promise = waited(EngineClient.resolve_promise)
    reject_promise = waited(EngineClient.reject_promise)
    resolve_signal = waited(EngineClient.resolve_signal)
    reject_signal = waited(EngineClient.reject_signal)
    now_ms = same(EngineClient.now_ms)
    invocations = waited(EngineClient.invocations)
    newest_invocations = waited(EngineClient.newest_invocations)
    invocation = waited(EngineClient.invocation)
    journal = waited(EngineClient.journal)
    entry_text = waited(EngineClient.entry_text)
    keyed_steps = waited(EngineClient.keyed_steps)
    calls_of = waited(EngineClient.calls_of)
    last_error = waited(EngineClient.last_error)
    last_trace = waited(EngineClient.last_trace)
    services = waited(EngineClient.services)
    query = waited(EngineClient.query)
    export = waited(EngineClient.export)
    find = waited(EngineClient.find)
    names_near = waited(EngineClient.names_near)
    watch = same(EngineClient.watch)
    watch_changes = same(EngineClient.watch_changes)
    watch_newest = same(EngineClient.watch_newest)
    read_value = waited(EngineClient.read_value)
    register = waited(EngineClient.register)
    wait = same(EngineClient.wait)
    operator = same(EngineClient.operator)
