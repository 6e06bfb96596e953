"""What a person is asked is recorded with the wait: a form can be drawn with no code at hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import msgspec
import pydantic
import pytest
from support.running import durable, until

from nbdurable import Service, Workflow
from nbdurable import durable as sugar
from nbdurable.client.answers import APPROVED, answer, check_answer, find_awaited, reject
from nbdurable.client.picture import NOTEBOOK
from nbdurable.core.values import Question
from nbdurable.errors import AnswerError, ContextMisuseError, TerminalError
from nbdurable.invoker.questions import CONTEXT_CHARS_MAX, question_of


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Refund:
    amount: float
    reason: Literal["late", "broken"]


class Order(msgspec.Struct):
    items: int


class Model(pydantic.BaseModel):
    amount: int = pydantic.Field(ge=1)


def schema_of(hint: Any) -> Any:
    question = question_of(hint)
    assert question is not None
    return None if question.schema is None else json.loads(question.schema)


# -- from a type to a question ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (bool, True, "yes"),
        (int, 3, 3.5),
        (str, "text", None),
        (Literal["a", "b"], "b", "c"),
        (Size, "small", "middle"),
        (Refund, {"amount": 1.5, "reason": "late"}, {"amount": "x", "reason": "late"}),
        (Order, {"items": 2}, {}),
        (Model, {"amount": 1}, {"amount": 0}),
        (list[int], [1, 2], ["a"]),
    ],
)
def test_an_answer_is_held_against_its_type(hint: Any, good: Any, bad: Any):
    """Before it is recorded: in the handler it would be a failure."""
    question = question_of(hint)
    check_answer(question, good)
    with pytest.raises(AnswerError, match="the answer"):
        check_answer(question, bad)


def test_a_refusal_says_where_and_what():
    with pytest.raises(AnswerError, match=r'the answer.amount must be number; it is "ten"'):
        check_answer(question_of(Refund), {"amount": "ten", "reason": "late"})


@pytest.mark.parametrize(
    ("hint", "form"), [(Refund, '{"amount": …, "reason": …}'), (Model, '{"amount": …}')]
)
def test_a_yes_where_a_form_is_asked_for_is_told_what_to_write(hint: Any, form: str):
    with pytest.raises(AnswerError) as refused:
        check_answer(question_of(hint), APPROVED)
    assert str(refused.value).endswith(f"must be object; it is true. Write JSON: {form}")


def test_nothing_to_say_is_no_question():
    assert question_of(None) is None
    assert question_of(Any) is None
    check_answer(None, object())


def test_a_type_without_a_schema_is_any_value():
    assert question_of(object, "Which?") == Question(title="Which?")


def test_context_is_shown_as_it_is_or_as_json_and_bounded():
    assert question_of(None, context="a text").context == "a text"
    assert json.loads(question_of(None, context=Order(items=2)).context) == {"items": 2}
    assert len(question_of(None, context="x" * 100_000).context) == CONTEXT_CHARS_MAX


# -- from a handler to a person -------------------------------------------------------------------

flow, service = Workflow("Flow"), Service("S")


@flow.main()
async def run(ctx, request: dict) -> str:
    refund = await sugar.approval("refund", Refund, title="How much?", context=request)
    return f"{refund.amount} {refund.reason}"


@service.handler()
async def ask(ctx, request: None) -> bool:
    return await sugar.approval("sure", title="Really?")


async def test_a_workflow_asks_by_a_promise_and_gets_the_type():
    async with durable(flow) as engine:
        client = engine.client
        sent = await client.workflow_send(run, "k", {"order": 7})
        view = await until(engine, sent.invocation_id, lambda view, _: bool(view.open_promises))
        entry = (await client.journal(view.id))[-1]
        assert entry.question is not None
        assert (entry.name, entry.question.title) == ("refund", "How much?")
        assert json.loads(entry.question.context) == {"order": 7}
        awaited = await find_awaited(client, "k", "refund", NOTEBOOK)
        with pytest.raises(AnswerError):
            await answer(client, awaited, {"amount": 5})
        await answer(client, awaited, {"amount": 5, "reason": "late"})
        assert await client.workflow_attach(run, "k") == "5.0 late"


async def test_others_ask_by_an_awakeable_with_a_name():
    async with durable(service) as engine:
        client = engine.client
        sent = await client.service_send(ask, None)
        view = await until(engine, sent.invocation_id, lambda view, _: bool(view.open_awakeables))
        entry = (await client.journal(view.id))[-1]
        assert (entry.kind, entry.name) == ("Awakeable", "sure")
        await reject(client, await find_awaited(client, view.id, None, NOTEBOOK), "not today")
        with pytest.raises(TerminalError, match="not today"):
            await client.attach(view.id)


async def test_the_type_of_a_promise_is_asked_for_too():
    typed = Workflow("Typed")

    @typed.main()
    async def main(ctx, request: None) -> str:
        return await ctx.promise("size", type_hint=Literal["small", "large"])

    async with durable(typed) as engine:
        sent = await engine.client.workflow_send(main, "k", None)
        await until(engine, sent.invocation_id, lambda view, _: bool(view.open_promises))
        entry = (await engine.client.journal(sent.invocation_id))[-1]
        assert json.loads(entry.question.schema) == {"enum": ["large", "small"]}


def test_nobody_asks_outside_of_a_handler():
    with pytest.raises(ContextMisuseError, match="call it in a handler"):
        sugar.approval("x")
