"""The client is the official one where the official one has something."""

from __future__ import annotations

import inspect

import pytest
from restate.client_types import RestateClient

from nbdurable.client.local import LocalClient

OFFICIAL = {name for name in vars(RestateClient) if not name.startswith("_")}


def parameters(function: object) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults; annotations are held by the contexts' parity test."""
    found = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_a_method_takes_what_the_official_one_takes(name: str) -> None:
    """So that code moves from a script to a cluster by changing how it gets its client."""
    assert parameters(getattr(LocalClient, name)) == parameters(getattr(RestateClient, name))
