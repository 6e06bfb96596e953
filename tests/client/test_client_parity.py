"""The clients are the official one where the official one has something."""

from __future__ import annotations

import inspect

import pytest
import restate.client_types as official

from nbdurable.client import base
from nbdurable.client.calls import ScopedClient
from nbdurable.client.http import HttpClient
from nbdurable.client.local import LocalClient

OURS = {
    "RestateClient": (base.RestateClient, LocalClient, HttpClient),
    "RestateScopedClient": (base.RestateScopedClient, ScopedClient),
}
METHODS = [
    (kind, ours, name)
    for kind, classes in OURS.items()
    for ours in classes
    for name in sorted(vars(getattr(official, kind)))
    if not name.startswith("_")
]


def parameters(function: object) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults; annotations are held by the contexts' parity test."""
    found = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


@pytest.mark.parametrize(("kind", "ours", "name"), METHODS)
def test_a_method_takes_what_the_official_one_takes(kind: str, ours: type, name: str) -> None:
    """So that code moves from a script to a cluster by changing how it gets its client."""
    theirs = getattr(getattr(official, kind), name)
    assert parameters(getattr(ours, name)) == parameters(theirs)


@pytest.mark.parametrize("kind", OURS)
def test_a_client_of_the_users_own_implements_the_same_methods(kind: str) -> None:
    """A fake in a test is a subclass of either."""
    theirs, ours = getattr(official, kind), getattr(base, kind)
    assert ours.__abstractmethods__ == theirs.__abstractmethods__


def test_a_handle_has_what_the_official_one_has() -> None:
    theirs = official.RestateClientSendHandle("inv_1", 202)
    ours = base.RestateClientSendHandle("inv_1", 202)
    assert {name: getattr(ours, name) for name in vars(theirs)} == vars(theirs)
