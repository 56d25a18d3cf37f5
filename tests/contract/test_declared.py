"""Declared errors: exceptions with typed fields that travel."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from nexuskit.contract import DeclaredError, InvalidValueError, TypeFaultError


class Limit(BaseModel):
    cents: int


class CardDeclined(DeclaredError):
    """The card was refused.

    More is said here.
    """

    reason: str
    limit: Limit = Limit(cents=5)
    wait: timedelta | None = None


class Busy(DeclaredError, name="busy", retryable=True):
    pass


class Stolen(CardDeclined):
    """The card is stolen."""

    since: int


def test_it_is_an_application_error_with_its_fields() -> None:
    error = CardDeclined(reason="expired", wait=timedelta(seconds=3))
    assert isinstance(error, ApplicationError)
    assert (error.reason, error.limit, error.wait) == ("expired", Limit(cents=5), timedelta(seconds=3))
    assert (error.message, error.type, error.non_retryable) == ("The card was refused.", "CardDeclined", True)
    assert error.details == ({"reason": "expired", "limit": {"cents": 5}, "wait": "PT3S"},)
    assert error.category is ApplicationErrorCategory.BENIGN


def test_the_class_says_name_and_retries() -> None:
    assert (Busy().type, Busy().non_retryable, Busy().message) == ("busy", False, "busy")


def test_a_child_has_the_fields_of_its_parent_and_its_own_words() -> None:
    error = Stolen(reason="r", since=3)
    assert (error.reason, error.since, error.message, error.type) == ("r", 3, "The card is stolen.", "Stolen")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "reason: Field required"),
        ({"reason": 3}, "reason: Input should be a valid string"),
        ({"reason": "r", "reasn": "x"}, "reasn: CardDeclined has no such field"),
        ({"reason": "r", "limit": {"cents": "many"}}, "limit.cents: Input should be a valid integer"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        CardDeclined(**fields)
    assert str(caught.value).startswith(said)


def test_it_comes_back_from_what_any_sdk_sends() -> None:
    error = CardDeclined(reason="expired", limit=Limit(cents=7), wait=timedelta(minutes=1))
    failure = Failure()
    DefaultFailureConverter().to_failure(error, DefaultPayloadConverter(), failure)
    arrived = DefaultFailureConverter().from_failure(failure, DefaultPayloadConverter())
    assert isinstance(arrived, ApplicationError)
    read = CardDeclined.from_details(arrived.details[0])
    assert (read.reason, read.limit, read.wait) == (error.reason, error.limit, error.wait)


def test_fields_of_a_newer_version_are_left_out_and_missing_ones_are_refused() -> None:
    assert CardDeclined.from_details({"reason": "r", "issuer": "x"}).details[0].keys() == {"reason", "limit", "wait"}
    with pytest.raises(InvalidValueError, match="reason: Field required"):
        CardDeclined.from_details({"issuer": "x"})


def test_it_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(CardDeclined(reason="expired")))
    assert (type(again), again.reason, again.details) == (
        CardDeclined,
        "expired",
        CardDeclined(reason="expired").details,
    )


def test_a_field_cannot_be_called_as_an_error_is() -> None:
    with pytest.raises(TypeError, match="fields called details, message"):

        class Wrong(DeclaredError):  # pyright: ignore[reportUnusedClass]
            message: str  # type: ignore[assignment]
            details: str  # type: ignore[assignment]


def test_a_field_that_cannot_travel_is_told() -> None:
    class Thing:
        pass

    class Wrong(DeclaredError):
        thing: Thing

    with pytest.raises(TypeFaultError, match=r"cannot travel|cannot be found"):
        Wrong.fields()
