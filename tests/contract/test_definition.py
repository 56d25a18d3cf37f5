"""Contracts: what a class says, and what is wrong with one, all at once."""

from __future__ import annotations

from datetime import timedelta

import nexusrpc
import pytest
from nexusrpc import Operation
from pydantic import BaseModel, Field

from nexuskit.contract import (
    ContractError,
    DeclaredError,
    operation,
    operation_contract,
    service,
    service_contract,
)


class Payment(BaseModel):
    id: str
    cents: int = Field(gt=0)


class Receipt(BaseModel):
    id: str


class CardDeclined(DeclaredError):
    """The card was refused."""

    reason: str


class OtherCard(DeclaredError, name="CardDeclined"):
    """Travels under a name that is taken."""


class Unheard:
    """No value of it can travel."""


class Lost(DeclaredError):
    """Has a field that cannot travel."""

    what: Unheard


@service(version="1.2")
class PaymentService:
    """Takes payments.

    In all currencies.
    """

    process: Operation[Payment, Receipt] = operation(
        errors=[CardDeclined], deadline=timedelta(minutes=5), kind="async", tags=["money"]
    )
    """Charges a card."""

    status: Operation[str, str] = operation(name="process/status", doc="Where it stands.")
    quote: Operation[Payment, dict[str, int]]


def test_a_contract_says_what_the_class_says() -> None:
    contract = service_contract(PaymentService)
    assert (contract.name, contract.version) == ("PaymentService", "1.2")
    assert contract.doc == "Takes payments.\n\nIn all currencies."
    assert list(contract.operations) == ["process", "process/status", "quote"]
    process = contract.operations["process"]
    assert (process.input_type, process.output_type) == (Payment, Receipt)
    assert (process.errors, process.deadline, process.kind, process.tags) == (
        (CardDeclined,),
        timedelta(minutes=5),
        "async",
        ("money",),
    )
    assert process.doc == "Charges a card."
    assert str(process) == "PaymentService.process"
    assert contract.operations["process/status"].attribute == "status"
    assert contract.operations["process/status"].doc == "Where it stands."
    assert contract.operations["quote"].deadline is None


def test_the_class_is_a_service_of_nexusrpc() -> None:
    definition = nexusrpc.get_service_definition(PaymentService)
    assert definition is not None
    assert set(definition.operation_definitions) == {"process", "process/status", "quote"}
    assert isinstance(PaymentService.process, Operation)
    assert PaymentService.quote.name == "quote"


def test_a_plain_service_is_a_contract() -> None:
    @nexusrpc.service(name="plain")
    class Plain:
        """Says little."""

        echo: Operation[str, str]
        """Says it again."""

    contract = service_contract(Plain)
    assert (contract.name, contract.version) == ("plain", "")
    assert contract.operations["echo"].doc == "Says it again."


def test_a_service_may_add_to_another() -> None:
    @service
    class More(PaymentService):
        refund: Operation[Payment, Receipt]
        """Gives it back."""

    contract = service_contract(More)
    assert contract.operations["process"].errors == (CardDeclined,)
    assert contract.operations["process"].service == "More"
    assert contract.operations["refund"].doc == "Gives it back."
    assert set(contract.operations) == {"process", "process/status", "quote", "refund"}


def test_an_operation_is_found_by_name_and_by_attribute() -> None:
    contract = service_contract(PaymentService)
    assert operation_contract(contract, "process/status").attribute == "status"
    assert operation_contract(contract, PaymentService.process).name == "process"
    with pytest.raises(LookupError, match="PaymentService has no operation 'refund'; it has process, process/status"):
        operation_contract(contract, "refund")


def test_what_is_wrong_with_the_form_is_said_at_once() -> None:
    with pytest.raises(ContractError) as caught:

        @service
        class Wrong:  # pyright: ignore[reportUnusedClass]
            bare: Operation  # pyright: ignore[reportMissingTypeArgument]
            first: Operation[int, int] = operation(name="second")
            second: Operation[int, int]
            untyped = operation()

    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["Wrong.bare", "Wrong.second", "Wrong.untyped"]
    assert "Write `bare: Operation[Input, Output]`" in str(caught.value)
    assert "is called 'second', as Wrong.first is" in str(caught.value)


def test_what_is_wrong_with_the_meaning_is_said_at_once() -> None:
    with pytest.raises(ContractError) as caught:

        @service(name=" payments")
        class Wrong:  # pyright: ignore[reportUnusedClass]
            process: Operation[int, Unheard] = operation(
                errors=[ValueError, CardDeclined, OtherCard, Lost],  # type: ignore[list-item]
                deadline=timedelta(0),
                kind="later",  # type: ignore[arg-type]
            )

    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 7
    for said in (
        "without spaces at its ends",
        "its output: ",
        "Unheard cannot travel",
        "made of nexuskit.DeclaredError, found <class 'ValueError'>",
        "OtherCard travels as 'CardDeclined', as CardDeclined does",
        "the fields of Lost cannot travel",
        "its deadline: expected was more than nothing",
        "its kind: expected was 'sync', 'async' or nothing, found 'later'",
    ):
        assert said in faults


def test_an_annotation_that_names_nothing_is_told() -> None:
    with pytest.raises(ContractError, match="annotation cannot be read: name 'Nowhere' is not defined"):

        @service
        class Wrong:  # pyright: ignore[reportUnusedClass]
            process: Operation[Nowhere, int]  # type: ignore[name-defined]  # noqa: F821


def test_a_service_without_operations_and_a_class_that_is_none() -> None:
    with pytest.raises(ContractError, match="has no operation"):

        @service
        class Empty:  # pyright: ignore[reportUnusedClass]
            pass

    with pytest.raises(ContractError, match=r"put @nexuskit\.service"):
        service_contract(Payment)
