"""Tables and arrays come back as what they were, of the library they were of."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.errors import SerializationError
from nbdurable.sdk import ArrowSerde

SERDE = ArrowSerde()


def back(value: Any) -> Any:
    return SERDE.deserialize(SERDE.serialize(value))


def test_pandas_frames_keep_index_types_and_names() -> None:
    """A report that read its index as a column would be wrong, not broken."""
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["group", "n"])
    frame = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "part": [0.5, np.nan, 2.5],
            "text": ["ä", None, "c"],
            "when": pd.to_datetime(["2026-11-22"] * 3).tz_localize("Europe/Berlin"),
            "kind": pd.Categorical(["x", "y", "x"]),
            "flag": [True, False, True],
        },
        index=index,
    )
    pd.testing.assert_frame_equal(back(frame), frame)
    pd.testing.assert_frame_equal(back(pd.DataFrame()), pd.DataFrame())


def test_polars_frames_come_back() -> None:
    frame = pl.DataFrame(
        {"n": [1, None, 3], "s": ["a", "b", None], "l": [[1], [], [2, 3]]},
        schema_overrides={"n": pl.Int8},
    )
    read = back(frame)
    assert isinstance(read, pl.DataFrame)
    assert read.equals(frame)
    assert read.schema == frame.schema


def test_arrow_tables_keep_their_own_metadata() -> None:
    table = pa.table({"n": [1, 2]}).replace_schema_metadata({"made": "by hand"})
    read = back(table)
    assert read.equals(table, check_metadata=True)
    (batch,) = table.to_batches()
    assert back(batch).equals(pa.Table.from_batches([batch]))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(2, 3, 4),
        np.array(3.5),
        np.zeros((0, 3), dtype="float32"),
        np.array([[True, False]]),
        np.array(["2026-11-22", "NaT"], dtype="datetime64[s]"),
        np.array(["a", "längst"]),
        np.asfortranarray(np.arange(6, dtype="uint8").reshape(2, 3)),
        np.array([1.0, np.nan, np.inf], dtype="float16"),
    ],
    ids=str,
)
def test_arrays_keep_shape_and_type(array: np.ndarray) -> None:
    read = back(array)
    assert (read.shape, read.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(read, array)
    # A frozen array would surprise whoever goes on with it.
    assert read.flags.writeable


@given(st.lists(st.floats() | st.none(), max_size=5))
def test_whatever_floats_there_are_come_back(values: list[float | None]) -> None:
    """NaN and missing are two things."""
    table = pa.table({"x": pa.array(values, pa.float64())})
    assert str(back(table).column("x").to_pylist()) == str(values)


def test_none_is_the_empty_payload() -> None:
    assert SERDE.serialize(None) == b""
    assert SERDE.deserialize(b"") is None


def test_replay_does_not_compare_its_bytes() -> None:
    """A table in two chunks equals one in a single chunk, and has other bytes."""
    assert not SERDE.canonical


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": 1}, "result is of type dict, which is no table"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame, which is no table"),
        (pd.DataFrame({"a": [1, "x"]}), "result cannot be written as Arrow"),
        (np.array([1j]), "result cannot be written as Arrow"),
    ],
)
def test_what_does_not_fit_is_said(value: Any, says: str) -> None:
    with pytest.raises(SerializationError) as raised:
        SERDE.serialize(value)
    assert says in str(raised.value)
    assert "Return a pandas or polars DataFrame" in str(raised.value)


def test_other_bytes_are_said_to_be_no_arrow() -> None:
    with pytest.raises(SerializationError, match="payload cannot be read as Arrow"):
        SERDE.deserialize(b'{"a":1}')


def test_naming_it_loads_no_library() -> None:
    """Who does not use it need not have it."""
    program = (
        "import sys; from nbdurable import ArrowSerde, PickleSerde; ArrowSerde(); PickleSerde(); "
        "print({'pyarrow', 'pandas', 'numpy', 'polars', 'cloudpickle'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert printed == "set()\n"
