"""What users write with. Pure: standard library, msgspec and `nbdurable.errors`, nothing else.

service, object, workflow    the three kinds of definition, over definition and handler
context, state, request      what a handler is given
future, combinators          what ctx calls return, and how to wait for several
options, serde               retries; values to bytes (over canonical_json)
digest                       has the code changed?
"""

from __future__ import annotations

from nbdurable.errors import (
    HttpError,
    RetryableError,
    SdkInternalBaseException,
    TerminalError,
    is_internal_exception,
)
from nbdurable.sdk.combinators import as_completed, gather, select, wait_completed
from nbdurable.sdk.context import (
    AttemptFinishedEvent,
    Context,
    KeyValueStore,
    ObjectContext,
    ObjectSharedContext,
    Request,
    WorkflowContext,
    WorkflowSharedContext,
    current_context,
)
from nbdurable.sdk.digest import handler_digest
from nbdurable.sdk.future import (
    DurableFuture,
    DurablePromise,
    FutureContext,
    FutureLeaf,
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    SendHandle,
)
from nbdurable.sdk.handler import (
    Handler,
    HandlerIO,
    ServiceTag,
    TypeHint,
    handler_from_callable,
    invoke_handler,
)
from nbdurable.sdk.object import VirtualObject
from nbdurable.sdk.options import EngineOptions, InvocationRetryPolicy, RunOptions
from nbdurable.sdk.serde import (
    BytesSerde,
    DefaultSerde,
    JsonSerde,
    MsgspecJsonSerde,
    PydanticJsonSerde,
    Serde,
)
from nbdurable.sdk.service import Service
from nbdurable.sdk.workflow import Workflow

__all__ = [
    "AttemptFinishedEvent",
    "BytesSerde",
    "Context",
    "DefaultSerde",
    "DurableFuture",
    "DurablePromise",
    "EngineOptions",
    "FutureContext",
    "FutureLeaf",
    "Handler",
    "HandlerIO",
    "HttpError",
    "InvocationRetryPolicy",
    "JsonSerde",
    "KeyValueStore",
    "MsgspecJsonSerde",
    "ObjectContext",
    "ObjectSharedContext",
    "PydanticJsonSerde",
    "Request",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RetryableError",
    "RunOptions",
    "SdkInternalBaseException",
    "SendHandle",
    "Serde",
    "Service",
    "ServiceTag",
    "TerminalError",
    "TypeHint",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "as_completed",
    "current_context",
    "gather",
    "handler_digest",
    "handler_from_callable",
    "invoke_handler",
    "is_internal_exception",
    "select",
    "wait_completed",
]
