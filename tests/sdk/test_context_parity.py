"""User code written for the official SDK changes only its import line.

What is promised is compared here with `restate-sdk` itself: names, parameters, kinds, defaults and
annotations. The one list of what is not offered names a tunnel to a cluster.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from typing import Any

import pytest

import nbdurable
from nbdurable import exceptions as our_exceptions
from nbdurable import extensions as our_extensions
from nbdurable import logging as our_logging
from nbdurable import sdk

restate: Any = importlib.import_module("restate")
for _module in (
    "client_types",
    "context",
    "entry_codec",
    "exceptions",
    "extensions",
    "logging",
    "serde",
    "server_context",
):
    importlib.import_module(f"restate.{_module}")

BEYOND: dict[str, set[str]] = {
    "Serde": {"canonical"},
    "BytesSerde": {"canonical"},
    "JsonSerde": {"canonical"},
    "DefaultSerde": {"canonical"},
    "PydanticJsonSerde": {"canonical"},
    "MsgspecJsonSerde": {"canonical"},
    "TerminalError": {"code"},
    "RetryableError": {"code"},
    "HttpError": {"code"},
    "SdkInternalBaseException": {"code"},
    "RestateDurableFuture": {"or_timeout", "result"},
    "RestateDurableCallFuture": {"or_timeout", "result"},
    "RestateDurableSleepFuture": {"or_timeout", "result"},
}
"""Members ours have and the official classes lack: using one ties code to nbdurable."""

RESTATE_CLOUD = {"with_connection", "ConnectError"}
"""Names of a tunnel to a remote cluster. `connect` is here too: to an engine that is served."""


def _public_names(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")} - set(dir(BaseException))


CLASSES: dict[str, tuple[type, type]] = {
    name: (getattr(module, name), getattr(sdk, name))
    for module, names in {
        restate.context: (
            "Context ObjectContext ObjectSharedContext WorkflowContext WorkflowSharedContext "
            "ScopedContext "
            "KeyValueStore DurablePromise RestateDurableFuture RestateDurableCallFuture "
            "RestateDurableSleepFuture SendHandle Request AttemptFinishedEvent RunOptions"
        ),
        restate: "Service VirtualObject Workflow InvocationRetryPolicy HttpError",
        restate.entry_codec: "JournalValueCodec",
        restate.serde: (
            "Serde BytesSerde JsonSerde DefaultSerde PydanticJsonSerde MsgspecJsonSerde"
        ),
        restate.exceptions: "TerminalError RetryableError SdkInternalBaseException",
    }.items()
    for name in names.split()
}
FUNCTIONS = [
    "gather",
    "select",
    "as_completed",
    "wait_completed",
    "is_internal_exception",
    "app",
    "create_client",
    "getLogger",
]
# Options of definitions that Restate lacks. By name only, so that they are in nobody's way.
OPTIONS_BEYOND = {"state_retention"}
DEFINITIONS = ["Service", "VirtualObject", "Workflow"]
CONTEXTS = [name for name in CLASSES if name.endswith("Context")]


SHARED_MEMBERS = [
    (name, member)
    for name, (theirs, ours) in CLASSES.items()
    for member in sorted(_public_names(theirs) & _public_names(ours) | {"__init__"})
]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_lacks_exactly_what_is_listed(name: str) -> None:
    """A method that is missing in silence is found by a user, in a cell, at night."""
    theirs, ours = (_public_names(cls) for cls in CLASSES[name])
    assert theirs - ours == set()
    assert BEYOND.get(name, set()) == ours - theirs


@pytest.mark.parametrize(("name", "member"), SHARED_MEMBERS)
def test_a_member_has_the_official_signature(name: str, member: str) -> None:
    """Positional calls, keyword calls and type checkers must all see the same thing."""
    theirs, ours = (inspect.getattr_static(cls, member) for cls in CLASSES[name])
    assert isinstance(theirs, property) == isinstance(ours, property)
    if not callable(theirs):
        return
    _assert_same_callable(theirs, ours)


@pytest.mark.parametrize("member", ["run", "run_typed"])
def test_an_overload_has_the_official_signature(member: str) -> None:
    """Overloads are what an editor shows, and what a type checker believes."""
    theirs = typing.get_overloads(getattr(restate.Context, member))
    ours = typing.get_overloads(getattr(sdk.Context, member))
    assert len(theirs) == len(ours)
    for their_overload, our_overload in zip(theirs, ours, strict=True):
        _assert_same_callable(their_overload, our_overload)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_official_signature(name: str) -> None:
    """Combinators are imported by name, so the name and the call are the whole contract."""
    _assert_same_callable(getattr(restate, name), getattr(nbdurable, name))


def test_current_context_has_the_official_signature() -> None:
    """Libraries that log or trace find the running context through it."""
    _assert_same_callable(restate.extensions.current_context, sdk.current_context)


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_has_the_official_ancestry(name: str) -> None:
    """A function annotated `ctx: Context` must accept the context of an object or a workflow."""
    theirs, ours = CLASSES[name]
    assert [cls.__name__ for cls in theirs.__mro__] == [cls.__name__ for cls in ours.__mro__]


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_leaves_the_official_methods_abstract(name: str) -> None:
    """A fake context in a user's test implements the same methods for either library."""
    theirs, ours = CLASSES[name]
    assert set(theirs.__abstractmethods__) == set(ours.__abstractmethods__)  # type: ignore[attr-defined] # Set by ABCMeta.


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_has_the_official_attributes(name: str) -> None:
    """Tools that read a definition (manifests, docs) read its attributes."""
    theirs, ours = CLASSES[name]
    assert set(vars(theirs("Greeter"))) == set(vars(ours("Greeter"))) - OPTIONS_BEYOND


def test_the_package_lacks_exactly_what_is_listed() -> None:
    """`from restate import X` must become `from nbdurable import X`, or be on a list."""
    offered = set(sdk.__all__) | set(getattr(nbdurable, "__all__", ()))
    absent = set(restate.__all__) - offered
    assert absent == RESTATE_CLOUD | {"logging"}
    # There, but not starred: `import *` must not take Python's own away.
    assert nbdurable.logging is our_logging


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (restate.exceptions, our_exceptions),
        (restate.extensions, our_extensions),
        (restate.logging, our_logging),
    ],
)
def test_a_module_lacks_nothing(theirs: types.ModuleType, ours: types.ModuleType) -> None:
    """Some names are imported from their module, as the official documentation does."""
    names = getattr(theirs, "__all__", None) or {
        name for name, value in vars(theirs).items() if _defined_in(value, theirs)
    }
    assert {name for name in names if not hasattr(ours, name)} == set()


@pytest.mark.parametrize(
    "name", ["set_extension_data", "get_extension_data", "clear_extension_data"]
)
def test_extension_data_has_the_official_functions(name: str) -> None:
    """Integrations import them from where the official SDK defines them."""
    _assert_same_callable(getattr(restate.server_context, name), getattr(our_extensions, name))


def _defined_in(value: object, module: types.ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def _assert_same_callable(theirs: Any, ours: Any) -> None:
    assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(ours)
    assert inspect.isasyncgenfunction(theirs) == inspect.isasyncgenfunction(ours)
    their_signature = inspect.signature(theirs, eval_str=True)
    our_signature = inspect.signature(ours, eval_str=True)
    our_signature = our_signature.replace(
        parameters=[
            parameter
            for parameter in our_signature.parameters.values()
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name not in OPTIONS_BEYOND
        ]
    )
    assert _shape(their_signature) == _shape(our_signature)
    # Where the official SDK says nothing about a type, ours may say something.
    said = [
        annotation is not inspect.Signature.empty for annotation in _annotations(their_signature)
    ]
    assert _annotation_texts(their_signature, said) == _annotation_texts(our_signature, said)


def _shape(signature: inspect.Signature) -> list[tuple[str, str, str]]:
    return [
        (parameter.name, parameter.kind.description, _default_text(parameter.default))
        for parameter in signature.parameters.values()
    ]


def _default_text(default: object) -> str:
    plain = default is None or isinstance(default, (bool, int, float, str))
    return repr(default) if plain else type(default).__name__


def _annotations(signature: inspect.Signature) -> list[Any]:
    return [p.annotation for p in signature.parameters.values()] + [signature.return_annotation]


def _annotation_texts(signature: inspect.Signature, said: list[bool]) -> list[str]:
    variables: dict[object, str] = {}
    return [
        _annotation_text(annotation, variables)
        for annotation, wanted in zip(_annotations(signature), said, strict=True)
        if wanted
    ]


def _annotation_text(annotation: Any, variables: dict[object, str]) -> str:
    """Without module prefixes, `X | None` for `Optional[X]`, variables numbered as they appear."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, list):
        return f"[{', '.join(_annotation_text(a, variables) for a in annotation)}]"
    if isinstance(annotation, (typing.TypeVar, typing.ParamSpec)):
        return variables.setdefault(annotation, f"~{len(variables)}")
    if isinstance(annotation, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
        origin = _annotation_text(annotation.__origin__, variables)
        return f"{origin}.{type(annotation).__name__}"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"Literal{sorted(arguments)}"
    texts = [_annotation_text(argument, variables) for argument in arguments]
    if origin in (typing.Union, types.UnionType):
        return " | ".join(sorted(texts))
    name = getattr(origin or annotation, "__name__", None) or str(annotation)
    return f"{name}[{', '.join(texts)}]" if texts else name
