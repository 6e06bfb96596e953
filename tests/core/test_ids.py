"""Ids as text: what is one is read back, what is none is refused with the reason."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.core.ids import (
    awakeable_id,
    deployment_id,
    keyed_invocation_id,
    parse_awakeable_id,
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
        "sign_1" + "0" * 33,
        "inv_1" + "0" * 34,
        "inv_1" + "0" * 32 + "-",
        "inv_1" + "ä" * 33,
        "inv_1" + "m" + "0" * 32,
        "inv_1" + "0" * 11 + "8" + "0" * 21,
    ],
)
def test_what_is_no_invocation_id_is_said(text: str):
    with pytest.raises(ValueError, match="bad invocation id"):
        parse_invocation_id(text)


def test_a_deployment_id_is_what_sql_makes_of_service_and_revision():
    """Views and addresses name the same; Restate's CLI reads 128 bits in base 62."""
    made = deployment_id("Greeter", 3)
    assert made == "dp_12IltAB4KYGB9aID82Gv86D"
    assert len({made, deployment_id("Greeter", 31), deployment_id("Greete", 3)}) == 3
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ((by_sql,),) = duckdb.sql(
        f"""
        select
            'dp_1' || list_reduce(
                range(22),
                lambda made, _: {{
                    'number': made.number // 62,
                    'text': substr('{digits}', cast(made.number % 62 as integer) + 1, 1)
                        || made.text
                }},
                {{'number': md5_number('Greeter' || '/' || 3), 'text': ''}}
            ).text
        """
    ).fetchall()
    assert by_sql == made


def test_ids_have_the_shape_that_restates_tools_read():
    """Eleven digits of 64 bits and 22 of 128; the CLI takes anything else for a service's name."""
    for seed in range(100):
        made = random_invocation_id(seed)
        assert len(made) == len("inv_1") + 33
        assert made[5] <= "l"
        assert made[16] <= "7"
        assert awakeable_id(made, seed, 17).startswith("sign_1")
        assert parse_awakeable_id(awakeable_id(made, seed, 17)).invocation_id == made
