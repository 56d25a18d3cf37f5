"""Classes of handlers: what they have to have, and that they stay what the team wrote."""

from __future__ import annotations

from typing import Any, cast

import pytest
from nexusrpc import Operation
from nexusrpc.handler import (
    CancelOperationContext,
    Handler,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    operation_handler,
    service_handler,
    sync_operation,
)

import nexuskit
from nexuskit.handlers import HandlerDefinitionError


@nexuskit.service
class Greetings:
    """Greets."""

    hello: Operation[str, str]
    bye: Operation[str, str] = nexuskit.operation(name="bye/now")


def test_all_faults_of_a_class_are_told_at_once() -> None:
    with pytest.raises(HandlerDefinitionError) as caught:

        @nexuskit.service_handler(Greetings)
        class Wrong:  # pyright: ignore[reportUnusedClass]
            @nexuskit.sync_operation
            async def hello(self, ctx: StartOperationContext, input: int) -> int:
                return input

            @nexuskit.sync_operation
            async def hullo(self, ctx: StartOperationContext, input: str) -> str:
                return input

    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 4
    assert "Greetings.hello: its input is <class 'str'>, and the handler's is <class 'int'>" in faults
    assert "Greetings.hello: its output is" in faults
    assert "Greetings.bye/now: nothing in Wrong is called 'bye'" in faults
    assert "Wrong.hullo: Greetings has no operation of that attribute; it has hello, bye" in faults


def test_an_undecorated_method_and_a_builder_of_another_operation_are_told() -> None:
    with pytest.raises(HandlerDefinitionError) as caught:

        @nexuskit.service_handler(Greetings)
        class Wrong:  # pyright: ignore[reportUnusedClass]
            hello = nexuskit.run_workflow(Greetings.bye, "Greet", id="one")

            async def bye(self, ctx: StartOperationContext, input: str) -> str:
                return input

    assert caught.value.faults == (
        "Greetings.hello: the builder there is for 'bye/now'. Give it Greetings.hello",
        "Greetings.bye/now: Wrong.bye is neither a builder nor decorated. Put @nexuskit.sync_operation above it",
    )


class Tokens(OperationHandler[str, str]):
    """Answers with a token."""

    async def start(self, ctx: StartOperationContext, input: str) -> StartOperationResultAsync:
        return StartOperationResultAsync(input)

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        return None


@nexuskit.service_handler(Greetings)
class Polite:
    """Greets politely."""

    def __init__(self, title: str) -> None:
        self.title = title

    @nexuskit.sync_operation
    async def hello(self, ctx: StartOperationContext, input: str) -> str:
        """Says hello."""
        return f"hello, {self.title} {input}"

    @operation_handler
    def bye(self) -> OperationHandler[str, str]:
        """Says bye, some time."""
        return Tokens()


async def test_a_method_is_still_a_method() -> None:
    ctx = cast("StartOperationContext", None)
    assert await Polite("Dr").hello(ctx, "Who") == "hello, Dr Who"
    assert isinstance(Polite("Dr").bye(), Tokens)


def test_a_handler_answers_to_the_public_name_and_to_the_one_that_travels() -> None:
    (service,) = Handler([Polite("Dr")]).service_handlers.values()
    assert set(service.operation_handlers) == {"hello", "bye/now", "bye%2Fnow"}


def test_a_handler_made_of_nexusrpc_alone_stands_beside() -> None:
    @service_handler
    class Plain:
        @sync_operation
        async def echo(self, ctx: StartOperationContext, input: str) -> str:
            return input

    handlers: list[Any] = [Polite("Dr"), Plain()]
    assert set(Handler(handlers).service_handlers) == {"Greetings", "Plain"}
