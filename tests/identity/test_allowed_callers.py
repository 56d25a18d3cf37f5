"""Who may call an endpoint, as its description says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.identity.allowed_callers import (
    ALLOWED_CALLERS_KEY,
    EVERYONE,
    AllowedCallersError,
    checked_allowed_callers,
    read_allowed_callers,
    write_allowed_callers,
)


def test_without_a_list_everyone_may_call_and_who_cannot_say_who_he_is_too() -> None:
    allowed = read_allowed_callers({"encoding": b"json/plain"})
    assert allowed == EVERYONE
    assert allowed.allows("orders")
    assert allowed.allows(None)


def test_with_a_list_only_those_on_it_may_call() -> None:
    allowed = read_allowed_callers({ALLOWED_CALLERS_KEY: b'["orders", "billing"]'})
    assert allowed.allows("orders")
    assert allowed.allows("billing")
    assert not allowed.allows("Orders")
    assert not allowed.allows("order")
    assert not allowed.allows(None)


def test_an_empty_list_lets_nobody_in() -> None:
    allowed = read_allowed_callers({ALLOWED_CALLERS_KEY: b"[]"})
    assert not allowed.allows("orders")
    assert not allowed.allows(None)
    assert not allowed.fault


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"", "these 0 bytes are no JSON"),
        (b"orders", "these 6 bytes are no JSON"),
        (b'"orders"', "not a text"),
        (b"null", "not null"),
        (b"true", "not true or false"),
        (b'{"orders": true}', "not an object"),
        (b'["orders", 1]', "it holds a number"),
        (b'["orders", ""]', "it holds an empty name"),
        (b'["orders", null]', "it holds null"),
        (b'[["orders"]]', "it holds an array"),
        (b'["*"]', "leave the metadata out to let everyone in"),
        (b'["orders", "*"]', "leave the metadata out to let everyone in"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_cannot_be_read_lets_nobody_in_and_says_why(raw: bytes, part: str) -> None:
    allowed = read_allowed_callers({ALLOWED_CALLERS_KEY: raw})
    assert not allowed.allows("orders")
    assert not allowed.allows(None)
    assert part in allowed.fault
    with pytest.raises(AllowedCallersError, match="must be a JSON array of namespace names"):
        checked_allowed_callers({ALLOWED_CALLERS_KEY: raw})


@given(st.lists(st.text(min_size=1).filter(lambda name: name != "*")))
def test_what_is_written_is_read_again(names: list[str]) -> None:
    allowed = checked_allowed_callers({ALLOWED_CALLERS_KEY: write_allowed_callers(names)})
    assert allowed.names == frozenset(names)


@given(st.binary())
def test_no_bytes_raise(raw: bytes) -> None:
    allowed = read_allowed_callers({ALLOWED_CALLERS_KEY: raw})
    assert not allowed.allows(None)
