"""What users write with. Pure: standard library, msgspec and `nbdurable.errors`, nothing else.

service, object, workflow    the three kinds of definition, over definition and handler
context, state, request      what a handler is given
future, combinators, promise what ctx calls return, and how to wait for several
blocking                     how to wait where there is no `await`
options, steps               retries; functions whose calls are steps
serde, arrow, pickling       values to bytes (over canonical_json)
codec                        bytes to other bytes
extensions                   what libraries attach to an attempt
flow_control                 what scopes and limit keys may look like
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
from nbdurable.sdk.arrow import ArrowSerde
from nbdurable.sdk.blocking import wait
from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider
from nbdurable.sdk.combinators import as_completed, gather, select, wait_completed
from nbdurable.sdk.context import (
    AttemptFinishedEvent,
    Context,
    KeyValueStore,
    ObjectContext,
    ObjectSharedContext,
    Request,
    ScopedContext,
    WorkflowContext,
    WorkflowSharedContext,
    current_context,
)
from nbdurable.sdk.digest import handler_digest
from nbdurable.sdk.extensions import (
    clear_extension_data,
    contextvar,
    get_extension_data,
    set_extension_data,
)
from nbdurable.sdk.future import (
    DurableFuture,
    DurablePromise,
    FutureContext,
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
    run_handler,
)
from nbdurable.sdk.object import VirtualObject
from nbdurable.sdk.options import EngineOptions, InvocationRetryPolicy, RunOptions
from nbdurable.sdk.pickling import PickleSerde
from nbdurable.sdk.promise import RestatePromise
from nbdurable.sdk.serde import (
    BytesSerde,
    DefaultSerde,
    JsonSerde,
    MsgspecJsonSerde,
    PydanticJsonSerde,
    Serde,
)
from nbdurable.sdk.service import Service
from nbdurable.sdk.steps import StepOptions, step
from nbdurable.sdk.workflow import Workflow

__all__ = [
    "ArrowSerde",
    "AttemptFinishedEvent",
    "BytesSerde",
    "Context",
    "DefaultSerde",
    "DurableFuture",
    "DurablePromise",
    "EngineOptions",
    "FutureContext",
    "Handler",
    "HandlerIO",
    "HttpError",
    "InvocationRetryPolicy",
    "JournalValueCodec",
    "JournalValueCodecProvider",
    "JsonSerde",
    "KeyValueStore",
    "MsgspecJsonSerde",
    "ObjectContext",
    "ObjectSharedContext",
    "PickleSerde",
    "PydanticJsonSerde",
    "Request",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RestatePromise",
    "RetryableError",
    "RunOptions",
    "ScopedContext",
    "SdkInternalBaseException",
    "SendHandle",
    "Serde",
    "Service",
    "ServiceTag",
    "StepOptions",
    "TerminalError",
    "TypeHint",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "as_completed",
    "clear_extension_data",
    "contextvar",
    "current_context",
    "gather",
    "get_extension_data",
    "handler_digest",
    "handler_from_callable",
    "is_internal_exception",
    "run_handler",
    "select",
    "set_extension_data",
    "step",
    "wait",
    "wait_completed",
]
