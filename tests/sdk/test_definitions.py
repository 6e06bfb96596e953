"""What may be written down as a service, and the sentence for what may not."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import nbdurable
from nbdurable.errors import DefinitionError, TerminalError
from nbdurable.sdk import (
    DefaultSerde,
    JsonSerde,
    MsgspecJsonSerde,
    Service,
    VirtualObject,
    Workflow,
    handler_from_callable,
    run_handler,
)
from nbdurable.sdk.definition import by_name
from nbdurable.testing import DurableEnv

if TYPE_CHECKING:
    from nbdurable.sdk import Context


class Person(msgspec.Struct):
    name: str


def run(coroutine: Any) -> Any:
    """Run a coroutine that never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waited for something")


async def output_of(handler: Any, ctx: Any, argument: bytes) -> bytes:
    """What a handler's result is written as."""
    return handler.handler_io.output_serde.serialize(await run_handler(handler, ctx, argument))


async def no_parameters(): ...


async def two_inputs(ctx, first, second): ...


async def keyword_only(ctx, *, name): ...


async def any_number(*args): ...


def yields(ctx):
    yield 1


async def yields_async(ctx):
    yield 1


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            no_parameters,
            (
                "handler 'no_parameters' of 'Greeter' takes no context; "
                "write: async def no_parameters(ctx, name)"
            ),
        ),
        (
            two_inputs,
            (
                "handler 'two_inputs' of 'Greeter' takes 2 inputs ('first', 'second'), but a "
                "handler has one; put them into a dict or a dataclass: "
                "async def two_inputs(ctx, order)"
            ),
        ),
        (
            keyword_only,
            (
                "handler 'keyword_only' of 'Greeter' takes 'name' by keyword, but handlers are "
                "called with a context and one input; write: async def keyword_only(ctx, name)"
            ),
        ),
        (
            any_number,
            (
                "handler 'any_number' of 'Greeter' takes '*args', but handlers are called with a "
                "context and one input; write: async def any_number(ctx, name)"
            ),
        ),
    ],
)
def test_a_signature_that_cannot_work_is_refused_at_once(fn: Any, message: str) -> None:
    """At definition the cell is in sight; at the first call, perhaps hours later, it is not."""
    with pytest.raises(DefinitionError) as caught:
        Service("Greeter").handler()(fn)
    assert str(caught.value) == message


@pytest.mark.parametrize("fn", [yields, yields_async])
def test_a_handler_that_yields_is_refused(fn: Any) -> None:
    """Its result would be a generator, which nobody asks for its values."""
    with pytest.raises(DefinitionError, match="yields, and a handler has one result"):
        Service("Greeter").handler()(fn)


def test_two_services_of_one_name_are_refused() -> None:
    """The last one won, and said nothing."""
    named = [Service("Greeter"), Service("Greeter")]
    with pytest.raises(DefinitionError, match="service 'Greeter' is named twice"):
        by_name(named)
    with pytest.raises(DefinitionError, match=r"is one service; write a list of it: \[Greeter\]"):
        by_name(named[0])  # type: ignore[arg-type] # The mistake itself.
    for opening in (nbdurable.open, nbdurable.open_sync, DurableEnv):
        with pytest.raises(DefinitionError, match="is named twice"):
            opening(services=named)


def test_a_decorator_without_parentheses_is_refused() -> None:
    """It would replace the handler by a decorator, and say nothing."""
    greeter = Service("Greeter")
    with pytest.raises(DefinitionError, match=r"write: @greeter\.handler\(\)$"):
        greeter.handler(two_inputs)  # type: ignore[arg-type] # The mistake itself.
    with pytest.raises(DefinitionError, match=r"write: @payment\.main\(\)$"):
        Workflow("Payment").main(two_inputs)  # type: ignore[arg-type] # The same.


def test_a_class_is_no_handler() -> None:
    """Decorating it would hide the class behind a function."""
    with pytest.raises(DefinitionError, match="cannot be a handler of 'Greeter'"):
        Service("Greeter").handler()(Person)


@pytest.mark.parametrize("name", ["", "9lives", "_", "a/b", "a b", "grüß", "Greeter\n", None])
@pytest.mark.parametrize("definition", [Service, VirtualObject, Workflow])
def test_a_service_name_restate_would_refuse_is_refused(definition: Any, name: Any) -> None:
    """The name becomes part of URLs, here and on a cluster."""
    with pytest.raises(DefinitionError, match="cannot be the name of a service"):
        definition(name)


@pytest.mark.parametrize("name", ["g", "Greeter", "_1", "my.greeter-v2_x"])
def test_a_service_name_restate_takes_is_taken(name: str) -> None:
    """The same rule the other way round."""
    assert name == Service(name).name


@pytest.mark.parametrize("name", ["say.hello", "say-hello", "1st"])
def test_a_handler_name_restate_would_refuse_is_refused(name: str) -> None:
    """Handlers may not even have the dots and dashes that services may."""

    async def greet(ctx): ...

    with pytest.raises(DefinitionError, match="cannot be the name of a handler of 'Greeter'"):
        Service("Greeter").handler(name)(greet)


def test_two_handlers_of_one_name_are_refused() -> None:
    """The first would be lost without a word."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx): ...

    with pytest.raises(DefinitionError, match="handler 'greet' of 'Greeter' is defined twice"):

        @greeter.handler("greet")
        async def welcome(ctx): ...


def test_a_cell_may_define_its_handler_again() -> None:
    """Editing a cell and running it again is how notebooks are written."""
    greeter = Service("Greeter")
    for cell, word in [("<cell 1>", "hello"), ("<cell 1, edited>", "hallo")]:
        source = f"@greeter.handler()\nasync def greet(ctx):\n    return {word!r}\n"
        exec(compile(source, cell, "exec"), {"greeter": greeter, "__name__": "__main__"})  # noqa: S102 - as a kernel does.
    assert run(output_of(greeter.handlers["greet"], None, b"")) == b'"hallo"'


def test_a_workflow_has_one_main_handler() -> None:
    """A key stands for one run, so there is one thing to run."""
    payment = Workflow("Payment")

    @payment.main()
    async def run_payment(ctx): ...

    with pytest.raises(DefinitionError, match=r"write @payment\.handler\(\) over 'pay'"):

        @payment.main()
        async def pay(ctx): ...


def test_the_old_and_the_new_spelling_of_a_setting_do_not_mix() -> None:
    """They could contradict each other."""
    with pytest.raises(DefinitionError, match="keep state_preload"):
        VirtualObject("Cart", enable_lazy_state=True, state_preload=False)


def test_definition_errors_are_value_errors() -> None:
    """The official SDK raises those, and code may catch them."""
    with pytest.raises(ValueError, match="cannot be the name"):
        Service("")


def test_kinds_are_restates() -> None:
    """The manifest and the engine's queues are made from them."""
    service, cart, payment = Service("S"), VirtualObject("O"), Workflow("W")
    service.handler("plain")(two := _handler())
    cart.handler("exclusive")(two)
    cart.handler("shared", kind="shared")(two)
    payment.main("main")(two)
    payment.handler("signal")(two)
    kinds = {
        handler.name: (handler.service_tag.kind, handler.kind)
        for definition in (service, cart, payment)
        for handler in definition.handlers.values()
    }
    assert kinds == {
        "plain": ("service", None),
        "exclusive": ("object", "exclusive"),
        "shared": ("object", "shared"),
        "main": ("workflow", "workflow"),
        "signal": ("workflow", "shared"),
    }


def _handler() -> Any:
    async def handler(ctx, value): ...

    return handler


def test_a_handler_is_found_by_its_function() -> None:
    """`ctx.service_call(greet, "Ada")` names the function, not the service."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx, name):
        """Say hello."""

    handler = handler_from_callable(greet)
    assert handler is greeter.handlers["greet"]
    assert (handler.service_tag.name, handler.name) == ("Greeter", "greet")
    assert (handler.arity, handler.is_async, handler.description) == (2, True, "Say hello.")
    assert greet.__name__ == "greet"


@pytest.mark.parametrize("value", [two_inputs, "greet", None, len])
def test_what_was_not_decorated_is_no_handler(value: Any) -> None:
    """Passing a name or a plain function is the usual slip; the text says what to pass."""
    with pytest.raises(DefinitionError, match=r"decorate it with @my_service\.handler\(\)"):
        handler_from_callable(value)


def test_def_handlers_are_marked() -> None:
    """They are accepted as written; whoever runs them decides what it can run."""
    greeter = Service("Greeter")

    @greeter.handler()
    def greet(ctx, name): ...

    assert not handler_from_callable(greet).is_async


def test_types_defined_inside_a_function_are_found() -> None:
    """Cells and tests define types locally, and annotations are text."""

    @dataclasses.dataclass
    class Order:
        items: list[str]

    shop = Service("Shop")

    @shop.handler()
    async def buy(ctx: Context, order: Order) -> Person | None:
        assert isinstance(order, Order)
        return Person(order.items[0])

    handler = handler_from_callable(buy)
    assert handler.handler_io.input_type is not None
    assert handler.handler_io.input_type.annotation is Order
    assert isinstance(handler.handler_io.output_serde, MsgspecJsonSerde)
    assert run(output_of(handler, None, b'{"items":["tea"]}')) == b'{"name":"tea"}'


def test_an_annotation_that_is_found_nowhere_is_no_annotation() -> None:
    """A name imported for type checkers only must not stop a cell."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx: Context, name: Unknown) -> str:  # type: ignore[name-defined] # noqa: F821
        return f"hello {name}"

    assert run(output_of(handler_from_callable(greet), None, b'"Ada"')) == b'"hello Ada"'


def test_a_serde_chosen_by_the_user_outranks_the_annotation() -> None:
    """Whoever names a serde has a reason."""
    greeter, chosen = Service("Greeter"), JsonSerde[Any]()

    @greeter.handler(input_serde=chosen, output_serde=DefaultSerde(dict))
    async def greet(ctx: Context, person: Person) -> Person: ...

    handler_io = handler_from_callable(greet).handler_io
    assert handler_io.input_serde is chosen
    assert handler_io.output_serde.type_hint is dict


def test_an_annotation_never_changes_the_default_serde() -> None:
    """All handlers share it."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx: Context, people: list[Person]) -> None: ...

    default = inspect.signature(Service.handler).parameters["input_serde"].default
    assert default.type_hint is None
    assert handler_from_callable(greet).handler_io.input_serde.type_hint == list[Person]


def test_a_model_brings_its_schema() -> None:
    """Forms and OpenAPI are made from it, when somebody asks."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx: Context, person: Person) -> str: ...

    handler_io = handler_from_callable(greet).handler_io
    assert handler_io.input_type is not None
    assert handler_io.input_type.generate_json_schema is not None
    assert "Person" in handler_io.input_type.generate_json_schema()["$defs"]
    assert handler_io.output_type is not None
    assert handler_io.output_type.generate_json_schema is None


def test_an_input_that_cannot_be_read_fails_for_good() -> None:
    """No retry makes a request parse."""
    greeter = Service("Greeter")

    @greeter.handler()
    async def greet(ctx: Context, person: Person) -> str: ...

    with pytest.raises(TerminalError, match=r"^Unable to parse an input argument") as caught:
        run(output_of(handler_from_callable(greet), None, b"{"))
    assert caught.value.status_code == 500


def test_context_managers_of_service_and_handler_are_joined() -> None:
    """The service's come first, so the handler's may rely on them."""
    outer: Any = object()
    inner: Any = object()
    greeter = Service("Greeter", invocation_context_managers=[outer])
    greeter.handler("both", invocation_context_managers=[inner])(_handler())
    greeter.handler("one")(_handler())
    assert greeter.handlers["both"].context_managers == [outer, inner]
    assert greeter.handlers["one"].context_managers == [outer]


def test_one_function_can_serve_two_services() -> None:
    """Decorators stack; the outermost is the one the name stands for."""
    polite, rude = Service("Polite"), Service("Rude")

    @polite.handler()
    @rude.handler()
    async def greet(ctx): ...

    assert handler_from_callable(greet) is polite.handlers["greet"]
    assert rude.handlers["greet"].service_tag.name == "Rude"
    assert polite.handlers["greet"].is_async
