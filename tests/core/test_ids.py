"""Ids as text: what is one is read back, what is none is refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.core.ids import (
    deployment_id,
    keyed_invocation_id,
    parse_deployment_id,
    parse_invocation_id,
    random_invocation_id,
)


@given(seed=st.integers(0, 2**63))
def test_every_invocation_id_is_read_back(seed: int):
    made = random_invocation_id(seed)
    assert parse_invocation_id(made) == made
    keyed = keyed_invocation_id("S", str(seed), "h", None)
    assert parse_invocation_id(keyed) == keyed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inv_1",
        "inv_garbage",
        "sign_1" + "a" * 26,
        "inv_1" + "a" * 27,
        "inv_1" + "A" * 26,
        "inv_1" + "a" * 25 + "1",
        "inv_1" + "ä" * 26,
    ],
)
def test_what_is_no_invocation_id_is_said(text: str):
    with pytest.raises(ValueError, match="bad invocation id"):
        parse_invocation_id(text)


@pytest.mark.parametrize("service", ["Greeter", "a_b", "x.y-z", "a_1"])
def test_a_deployment_id_says_service_and_revision(service: str):
    """Text that SQL can put together, so that views and addresses name the same."""
    assert deployment_id(service, 3) == f"dp_{service}_3"
    assert parse_deployment_id(deployment_id(service, 3)) == (service, 3)


@pytest.mark.parametrize(
    "text",
    ["", "dp_", "dp_nope", "dp__1", "Greeter_1", "dp_G_", "dp_G_x", "dp_G_²", "dp_G_" + "9" * 99],
)
def test_what_is_no_deployment_id_is_said(text: str):
    with pytest.raises(ValueError, match="bad deployment id"):
        parse_deployment_id(text)
