"""Values to bytes and back, and the sentence for values that do not fit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
import pickle
import subprocess
import sys
import typing
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.errors import SerializationError
from nbdurable.sdk import (
    BytesSerde,
    DefaultSerde,
    JsonSerde,
    MsgspecJsonSerde,
    PydanticJsonSerde,
    Serde,
)


class Row(msgspec.Struct):
    id: int
    tags: set[str] = set()
    at: dt.datetime | None = None


@dataclasses.dataclass
class Table:
    rows: list[Row]
    model: object = None


class Order(typing.TypedDict):
    id: int


class Classifier:
    """Stands for whatever a library returns."""


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any) -> Any:
    """The same value, with every dict filled the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("serde", [JsonSerde[Any](), DefaultSerde[Any]()])
@given(value=JSON_VALUES)
def test_equal_json_values_give_equal_bytes(serde: Serde[Any], value: Any) -> None:
    """Replay compares digests of bytes: another order of keys must not look like another call."""
    assert serde.serialize(reordered(value)) == serde.serialize(value)


@pytest.mark.parametrize("serde", [JsonSerde[Any](), DefaultSerde[Any]()])
@given(value=JSON_VALUES)
def test_json_values_come_back_equal(serde: Serde[Any], value: Any) -> None:
    """A handler goes on with what was read back, live as in replay."""
    assert serde.deserialize(serde.serialize(value)) == value


def test_json_is_compact_sorted_and_utf8() -> None:
    """The journal is read by people in SQL; escapes and spaces would only be in the way."""
    assert JsonSerde[Any]().serialize({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


@pytest.mark.parametrize(
    "serde", [JsonSerde(), DefaultSerde(), BytesSerde(), MsgspecJsonSerde(Row)]
)
def test_none_is_the_empty_payload(serde: Serde[Any]) -> None:
    """Restate has no other way to say nothing, and `b""` is not JSON."""
    assert serde.serialize(None) == b""
    assert serde.deserialize(b"") == (b"" if isinstance(serde, BytesSerde) else None)


def test_nan_and_infinity_come_back() -> None:
    """Numbers from pandas hold them, and Python's JSON has always taken them."""
    nan, infinity = DefaultSerde[Any]().deserialize(DefaultSerde().serialize([math.nan, math.inf]))
    assert math.isnan(nan)
    assert infinity == math.inf


def test_a_file_name_that_is_no_unicode_comes_back() -> None:
    """`os.listdir` gives such names, and the payload must be UTF-8 all the same."""
    name = os.fsdecode(b"r\xe9sum\xe9")
    written = DefaultSerde[str]().serialize(name)
    assert written.decode("utf-8").isascii()
    assert DefaultSerde[str]().deserialize(written) == name


def test_tuples_are_written_as_lists() -> None:
    """JSON has one sequence."""
    assert DefaultSerde[Any]().serialize((1, (2,))) == b"[1,[2]]"


def test_number_keys_become_strings_as_in_json() -> None:
    """What Python's JSON does in silence we do too, or code would behave otherwise elsewhere."""
    assert DefaultSerde[Any]().serialize({2: "b", 1: "a"}) == b'{"1":"a","2":"b"}'


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Row, Row(1, {"x", "y"}, dt.datetime(2026, 11, 22, tzinfo=dt.UTC))),
        (list[Row], [Row(1), Row(2)]),
        (dict[str, Row], {"a": Row(1)}),
        (Row | None, Row(3)),
        (Table, Table([Row(1)], model={"k": 1})),
        (Order, {"id": 1, "note": "kept"}),
        (int, "not an int, and not our business"),
        (None, {"id": 1}),
    ],
)
def test_the_default_serde_restores_what_the_hint_names(hint: Any, value: Any) -> None:
    """Live and replayed, a step returns the type its annotation promises."""
    serde = DefaultSerde[Any]().with_maybe_type(hint)
    assert serde.deserialize(serde.serialize(value)) == value


def test_models_are_written_without_a_hint() -> None:
    """State and awakeables are often written with no type at hand."""
    written = DefaultSerde[Any]().serialize({"table": Table([Row(1, {"b", "a"})])})
    row = {"at": None, "id": 1, "tags": ["a", "b"]}
    assert json.loads(written) == {"table": {"model": None, "rows": [row]}}


def test_a_set_in_a_model_gives_the_same_bytes_in_every_process() -> None:
    """Sets of strings iterate in another order after a restart; replay must not notice."""
    program = """
import msgspec
from nbdurable.sdk import DefaultSerde
Row = msgspec.defstruct("Row", [("tags", set[str])])
print(DefaultSerde().serialize(Row(set("abcdefgh"))))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(outputs) == 1


class Person(pydantic.BaseModel):
    name: str
    tags: set[str] = set()
    born: dt.date | None = None


def test_pydantic_models_are_written_and_restored() -> None:
    """Pydantic is nobody's dependency here, and everybody's model."""
    ada = Person(name="Ada", tags={"y", "x"}, born=dt.date(1815, 12, 10))
    written = PydanticJsonSerde(Person).serialize(ada)
    assert written == b'{"born":"1815-12-10","name":"Ada","tags":["x","y"]}'
    assert PydanticJsonSerde(Person).deserialize(written) == ada
    assert DefaultSerde(list[Person]).deserialize(b"[" + written + b"]") == [ada]
    assert DefaultSerde(Person | None).deserialize(written) == ada
    with pytest.raises(SerializationError, match=r"^result\[0\] is of type .*Person, which"):
        JsonSerde[Any]().serialize([ada])
    with pytest.raises(SerializationError, match="cannot be read as Person"):
        PydanticJsonSerde(Person).deserialize(b'{"tags":3}')


def test_a_typed_dict_is_a_dict() -> None:
    """It is one at run time: the hint says nothing that JSON does not."""
    serde = DefaultSerde(Order)
    assert serde.deserialize(serde.serialize({"id": 1})) == {"id": 1}


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "start"),
    [
        ({"rows": [1, 2, 3, Table([], Classifier())]}, 'result["rows"][3].model is of type '),
        ([Row(1), {"at": dt.date(2026, 11, 22)}], 'result[1]["at"] is of type datetime.date'),
        (Table([], {"at": dt.date(2026, 11, 22), "x": Classifier()}), 'result.model["x"] is'),
        (UUID(int=0), "result is of type uuid.UUID, which JSON cannot hold. Return something"),
        ({"a": {1, 2}}, 'result["a"] is of type set'),
        ({"a": b"x"}, 'result["a"] is of type bytes'),
        ({"a": {1: 0, "b": 0}}, 'result["a"] mixes keys of type int and str'),
        ([{(1, 2): 0}], "result[0] has the key (1, 2) of type tuple"),
        (LOOP, "result[0] contains itself"),
        (DEEP, "result contains itself, or is nested too deeply"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_error_names_the_part_that_does_not_fit(value: Any, start: str) -> None:
    """A data frame deep in a result is found by its path, not by bisection."""
    with pytest.raises(SerializationError) as caught:
        DefaultSerde[Any]().serialize(value)
    assert str(caught.value)[: len(start)] == start


def test_the_error_says_the_way_out() -> None:
    """Who has met this error has one question: what now?"""
    with pytest.raises(SerializationError, match=r"or pass RunOptions\(serde=\.\.\.\)\.$"):
        DefaultSerde[Any]().serialize(Classifier())


def test_the_error_can_be_told_its_step_and_still_travels() -> None:
    """The serde does not know whose value it is; the invoker does, and may live elsewhere."""
    with pytest.raises(SerializationError) as caught:
        DefaultSerde[Any]().serialize([Classifier()])
    caught.value.step = "fit"
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy).startswith("step 'fit': result[0] is of type ")
    assert str(copy) == str(caught.value)


def test_json_in_the_narrow_sense_refuses_models() -> None:
    """`JsonSerde` says what it means; the default serde is the lenient one."""
    with pytest.raises(SerializationError, match=r"^result is of type .*Row, which JSON"):
        JsonSerde[Any]().serialize(Row(1))


def test_bytes_serde_refuses_text() -> None:
    """An encoding nobody chose would be in the journal for ever."""
    with pytest.raises(SerializationError, match="is of type str, and BytesSerde takes bytes only"):
        BytesSerde().serialize("text")  # type: ignore[arg-type] # The mistake itself.


@pytest.mark.parametrize(
    ("hint", "payload", "start"),
    [
        (Row, b'{"id":"one"}', "payload cannot be read as Row: Expected `int`, got `str`"),
        (None, b"{", "payload cannot be read as JSON: "),
    ],
)
def test_bytes_that_do_not_fit_are_said_to(hint: Any, payload: bytes, start: str) -> None:
    """A changed model meets an old payload: say both."""
    with pytest.raises(SerializationError) as caught:
        DefaultSerde[Any](hint).deserialize(payload)
    assert str(caught.value).startswith(start)


def test_a_serde_is_not_canonical_unless_it_says_so() -> None:
    """Comparing the bytes of pickles would report mismatches that are none."""

    class Own(Serde[Any]):
        def deserialize(self, buf: bytes) -> Any:
            return pickle.loads(buf)

        def serialize(self, obj: Any) -> bytes:
            return pickle.dumps(obj)

    serdes = [Own(), BytesSerde(), JsonSerde(), DefaultSerde(), MsgspecJsonSerde(Row)]
    assert [serde.canonical for serde in serdes] == [False, True, True, True, True]
