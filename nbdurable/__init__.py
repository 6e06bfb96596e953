"""Durable execution in notebooks: it survives the kernel, not just the tab.

Write handlers with `Service`, `VirtualObject` and `Workflow`; run them with `open()` in a script,
or in cells after `%load_ext nbdurable`. Names, parameters and defaults are those of Restate's
Python SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbdurable.errors import (
    ConflictError,
    DefinitionError,
    EngineClosedError,
    HttpError,
    InvocationNotFoundError,
    InvocationNotReadyError,
    JournalDamagedError,
    JournalGoneError,
    JournalHeldError,
    JournalMismatchError,
    JournalVersionError,
    NbdurableError,
    RetryableError,
    SdkInternalBaseException,
    SerializationError,
    StoreError,
    TerminalError,
    is_internal_exception,
)

if TYPE_CHECKING:
    from nbdurable.app import DurableEngine, open
    from nbdurable.sdk import (
        BytesSerde,
        Context,
        DefaultSerde,
        DurablePromise,
        EngineOptions,
        InvocationRetryPolicy,
        JsonSerde,
        MsgspecJsonSerde,
        ObjectContext,
        ObjectSharedContext,
        PydanticJsonSerde,
        RestateDurableCallFuture,
        RestateDurableFuture,
        RestateDurableSleepFuture,
        RunOptions,
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
        wait_completed,
    )

__version__ = "0.1.0"

__all__ = [
    "BytesSerde",
    "ConflictError",
    "Context",
    "DefaultSerde",
    "DefinitionError",
    "DurableEngine",
    "DurablePromise",
    "EngineClosedError",
    "EngineOptions",
    "HttpError",
    "InvocationNotFoundError",
    "InvocationNotReadyError",
    "InvocationRetryPolicy",
    "JournalDamagedError",
    "JournalGoneError",
    "JournalHeldError",
    "JournalMismatchError",
    "JournalVersionError",
    "JsonSerde",
    "MsgspecJsonSerde",
    "NbdurableError",
    "ObjectContext",
    "ObjectSharedContext",
    "PydanticJsonSerde",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RetryableError",
    "RunOptions",
    "SdkInternalBaseException",
    "SendHandle",
    "Serde",
    "SerializationError",
    "Service",
    "StoreError",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "as_completed",
    "current_context",
    "gather",
    "is_internal_exception",
    "open",
    "select",
    "wait_completed",
]

# Written out, so that `import nbdurable` costs no asyncio, no duckdb and no IPython: each of these
# is imported from its room at first use.
_ROOMS = {
    "DurableEngine": "nbdurable.app",
    "open": "nbdurable.app",
    "load_ipython_extension": "nbdurable.notebook.extension",
    "unload_ipython_extension": "nbdurable.notebook.extension",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    room = _ROOMS.get(name)
    if room is None:
        room = "nbdurable.sdk"
        if name.startswith("__") or name not in import_module(room).__all__:
            raise AttributeError(f"module 'nbdurable' has no attribute {name!r}")
    value = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
