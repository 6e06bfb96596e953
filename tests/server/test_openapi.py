"""A service as OpenAPI: a document that stands on its own."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pydantic
import pytest
from support.served import Served

from nbdurable import Context, Service
from nbdurable.invoker.manifest import manifest_of
from nbdurable.server.openapi import openapi_of


class Item(pydantic.BaseModel):
    name: str


class Order(pydantic.BaseModel):
    items: list[Item]
    first: Item | None = None


class Row(msgspec.Struct):
    n: int


@pytest.fixture
def document() -> dict[str, Any]:
    shop = Service("Shop", description="Sells.")

    @shop.handler()
    async def buy(ctx: Context, order: Order) -> Row:
        """Buy something."""
        return Row(len(order.items))

    @shop.handler()
    async def close(ctx: Context) -> None: ...

    @shop.handler(ingress_private=True)
    async def restock(ctx: Context) -> None: ...

    return openapi_of(manifest_of(shop), 3, "http://localhost:8080")


def references(part: Any) -> set[str]:
    match part:
        case {"$ref": str(reference), **rest}:
            return {reference} | references(rest)
        case dict():
            return {found for value in part.values() for found in references(value)}
        case list():
            return {found for value in part for found in references(value)}
        case _:
            return set()


def resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    """Schemas of models refer to parts of their own, which had to be moved."""
    found = references(document)
    assert found
    for reference in found:
        assert resolve(document, reference) is not None
    assert "#/components/schemas/buyRequest.Item" in found


def test_handlers_are_called_and_sent_to(document: dict[str, Any]):
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Shop", "version": "3", "description": "Sells."}
    assert set(document["paths"]) == {
        f"/restate/{verb}/Shop/{handler}"
        for verb in ("call", "send")
        for handler in ("buy", "close")
    }
    call = document["paths"]["/restate/call/Shop/buy"]["post"]
    assert call["description"] == "Buy something."
    content = call["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/buyRequest"}
    close = document["paths"]["/restate/call/Shop/close"]["post"]
    assert "requestBody" not in close
    assert "content" not in close["responses"]["200"]


def test_operations_have_names_of_their_own(document: dict[str, Any]):
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["Greeter", "Counter", "PaymentWorkflow"])
def test_what_is_served_is_complete(served: Served, name: str):
    document = served.admin("GET", f"/v4/services/{name}/openapi").json
    assert document["servers"][0]["url"] == served.serving.ingress_url
    for reference in references(document):
        assert resolve(document, reference) is not None
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {
                resolve(document, p["$ref"])["name"]
                for p in operation["parameters"]
                if resolve(document, p["$ref"])["in"] == "path"
            }
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_a_workflow_is_looked_up_by_its_key(served: Served):
    document = served.admin("GET", "/services/PaymentWorkflow/openapi").json
    assert "/restate/workflow/PaymentWorkflow/{key}/output" in document["paths"]
    run = document["paths"]["/restate/call/PaymentWorkflow/{key}/run"]["post"]
    # Its key is all it needs to run once.
    assert run["parameters"] == [{"$ref": "#/components/parameters/key"}]


def test_the_documented_call_is_the_one_that_is_served(served: Served):
    document = served.admin("GET", "/services/Counter/openapi").json
    (path,) = [path for path in document["paths"] if path.endswith("/get") and "call" in path]
    assert served.ingress("POST", path.replace("{key}", "documented")).body == b"0"
