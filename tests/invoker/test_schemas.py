"""What is said of a handler's input and output to those who call it from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from nbdurable import BytesSerde, Context, PickleSerde, Service
from nbdurable.core.manifest import HandlerManifest
from nbdurable.invoker.manifest import manifest_of


class Order(pydantic.BaseModel):
    name: str


class Row(msgspec.Struct):
    n: int


@dataclass
class Point:
    x: int


class Unspeakable(pydantic.BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    raw: object

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
        raise RuntimeError("no word for it")


def manifest(annotation: Any, **options: Any) -> HandlerManifest:
    service = Service("S")

    async def h(ctx: Context, value):
        return value

    h.__annotations__ = {"value": annotation, "return": annotation}
    service.handler(**options)(h)
    return manifest_of(service, digest="d").handlers[0]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool | None, {"type": "boolean"}),
        (dict[str, int], {"type": "object"}),
        (list, {"type": "array", "items": True}),
        (
            list[list[int]],
            {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        ),
        (Any, True),
        (Annotated[Any, ["unhashable"]], True),
        (Unspeakable, True),
    ],
    ids=str,
)
def test_plain_types_have_the_schemas_that_the_official_sdk_gives_them(
    annotation: Any, schema: Any
):
    made = manifest(annotation)
    assert made.input_schema is not None
    assert made.output_schema is not None
    assert json.loads(made.input_schema) == json.loads(made.output_schema) == schema


@pytest.mark.parametrize("model", [Order, Row, Point])
def test_models_are_described_by_themselves(model: type):
    text = manifest(model).input_schema
    assert text is not None
    assert model.__name__ in text


def test_nothing_is_said_of_what_is_not_there():
    service = Service("S", description="serves", metadata={"a": "b"})

    @service.handler(metadata={"c": "d"})
    async def h(ctx: Context) -> None:
        """Do nothing."""

    made = manifest_of(service)
    (one,) = made.handlers
    assert (one.input_schema, one.output_schema) == (None, None)
    assert (one.has_input, one.has_output) == (False, False)
    assert (one.description, one.metadata) == ("Do nothing.", {"c": "d"})
    assert (made.description, made.metadata) == ("serves", {"a": "b"})


@pytest.mark.parametrize(
    ("options", "accept", "reads_json"),
    [
        ({}, "application/json", True),
        ({"accept": "*/*", "input_serde": BytesSerde()}, "*/*", False),
        ({"input_serde": PickleSerde()}, "application/json", False),
    ],
)
def test_whether_input_is_json_is_for_its_serde_to_say(
    options: dict[str, Any], accept: str, *, reads_json: bool
):
    """Content types are what the author says they are; only the serde reads the bytes."""
    made = manifest(str, **options)
    assert (made.accept, made.reads_json) == (accept, reads_json)
