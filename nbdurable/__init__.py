"""Durable execution in notebooks: it survives the kernel, not just the tab.

Write handlers with `Service`, `VirtualObject` and `Workflow`; run them with `open()` in a script,
or in cells after `%load_ext nbdurable`. Names, parameters and defaults are those of Restate's
Python SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbdurable.errors import (
    ConflictError,
    ContextMisuseError,
    DefinitionError,
    DiskFullError,
    EngineClosedError,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    JournalDamagedError,
    JournalGoneError,
    JournalHeldError,
    JournalMismatchError,
    JournalVersionError,
    LinkLostError,
    NbdurableError,
    QueryError,
    RetryableError,
    SdkInternalBaseException,
    SerializationError,
    StoreError,
    TerminalError,
    is_internal_exception,
)

if TYPE_CHECKING:
    from nbdurable.client.base import RestateClient, RestateClientSendHandle
    from nbdurable.client.connected import ConnectedClient, SyncConnectedClient, connect
    from nbdurable.client.http import create_client
    from nbdurable.client.sync import SyncClient
    from nbdurable.deploy.endpoint import app
    from nbdurable.harness import HarnessEnvironment, create_test_harness, test_harness
    from nbdurable.logging import JsonLogFormatter, RestateLoggingFilter, getLogger
    from nbdurable.sdk import (
        ArrowSerde,
        BytesSerde,
        Context,
        DefaultSerde,
        DurablePromise,
        EngineOptions,
        InvocationRetryPolicy,
        JournalValueCodec,
        JournalValueCodecProvider,
        JsonSerde,
        MsgspecJsonSerde,
        ObjectContext,
        ObjectSharedContext,
        PickleSerde,
        PydanticJsonSerde,
        RestateDurableCallFuture,
        RestateDurableFuture,
        RestateDurableSleepFuture,
        RestatePromise,
        RunOptions,
        ScopedContext,
        SendHandle,
        Serde,
        Service,
        VirtualObject,
        Workflow,
        WorkflowContext,
        WorkflowSharedContext,
        as_completed,
        current_context,
        gather,
        select,
        wait,
        wait_completed,
    )
    from nbdurable.server.options import ServeOptions
    from nbdurable.server.serving import Serving, serve
    from nbdurable.sharing.engine import SharedEngine, open_sync
    from nbdurable.sharing.engine import open as open
    from nbdurable.wiring import DurableEngine, SyncDurableEngine, metrics

__version__ = "0.1.0"

# Without `open` and `logging`: `from nbdurable import *` must not take Python's own away.
__all__ = [
    "ArrowSerde",
    "BytesSerde",
    "ConflictError",
    "ConnectedClient",
    "Context",
    "ContextMisuseError",
    "DefaultSerde",
    "DefinitionError",
    "DiskFullError",
    "DurableEngine",
    "DurablePromise",
    "EngineClosedError",
    "EngineOptions",
    "HarnessEnvironment",
    "HttpError",
    "InvocationNotFoundError",
    "InvocationNotReadyError",
    "InvocationRetryPolicy",
    "JournalDamagedError",
    "JournalGoneError",
    "JournalHeldError",
    "JournalMismatchError",
    "JournalValueCodec",
    "JournalValueCodecProvider",
    "JournalVersionError",
    "JsonLogFormatter",
    "JsonSerde",
    "LinkLostError",
    "MsgspecJsonSerde",
    "NbdurableError",
    "ObjectContext",
    "ObjectSharedContext",
    "PickleSerde",
    "PydanticJsonSerde",
    "QueryError",
    "RestateClient",
    "RestateClientSendHandle",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RestateLoggingFilter",
    "RestatePromise",
    "RetryableError",
    "RunOptions",
    "ScopedContext",
    "SdkInternalBaseException",
    "SendHandle",
    "Serde",
    "SerializationError",
    "ServeOptions",
    "Service",
    "Serving",
    "SharedEngine",
    "StoreError",
    "SyncClient",
    "SyncConnectedClient",
    "SyncDurableEngine",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "app",
    "as_completed",
    "connect",
    "create_client",
    "create_test_harness",
    "current_context",
    "durable",
    "gather",
    "getLogger",
    "is_internal_exception",
    "metrics",
    "open_sync",
    "select",
    "serve",
    "test_harness",
    "wait",
    "wait_completed",
]

# Written out, so that `import nbdurable` costs no asyncio, no duckdb and no IPython: each of these
# is imported from its room at first use.
_ROOMS = {
    "DurableEngine": "nbdurable.wiring",
    "HarnessEnvironment": "nbdurable.harness",
    "RestateClient": "nbdurable.client.base",
    "RestateClientSendHandle": "nbdurable.client.base",
    "JsonLogFormatter": "nbdurable.logging",
    "RestateLoggingFilter": "nbdurable.logging",
    "ServeOptions": "nbdurable.server.options",
    "Serving": "nbdurable.server.serving",
    "SharedEngine": "nbdurable.sharing.engine",
    "SyncClient": "nbdurable.client.sync",
    "SyncDurableEngine": "nbdurable.wiring",
    "app": "nbdurable.deploy.endpoint",
    "ConnectedClient": "nbdurable.client.connected",
    "SyncConnectedClient": "nbdurable.client.connected",
    "connect": "nbdurable.client.connected",
    "create_client": "nbdurable.client.http",
    "create_test_harness": "nbdurable.harness",
    "getLogger": "nbdurable.logging",
    "metrics": "nbdurable.wiring",
    "open": "nbdurable.sharing.engine",
    "open_sync": "nbdurable.sharing.engine",
    "serve": "nbdurable.server.serving",
    "test_harness": "nbdurable.harness",
    "load_ipython_extension": "nbdurable.notebook.extension",
    "unload_ipython_extension": "nbdurable.notebook.extension",
}

# Modules that are offered by name, as the official SDK offers them.
_MODULES = ("durable", "exceptions", "extensions", "logging")


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"nbdurable.{name}")
    room = _ROOMS.get(name)
    if room is None:
        room = "nbdurable.sdk"
        if name.startswith("__") or name not in import_module(room).__all__:
            raise AttributeError(f"module 'nbdurable' has no attribute {name!r}")
    value = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS, *_MODULES})
