"""Tokens of callbacks."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.protocol import CallbackSigner, InvalidTokenError

NOW = datetime(2025, 1, 31, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
OLD, NEW = b"o" * 32, b"n" * 32


def test_a_token_names_its_call_until_it_ends() -> None:
    signer = CallbackSigner([NEW])
    token = signer.sign("call.1", LATER)
    assert signer.verify(token, NOW) == "call.1"
    assert token.isascii()
    with pytest.raises(InvalidTokenError, match="ended"):
        signer.verify(token, LATER)


def test_a_key_can_be_replaced_while_calls_wait() -> None:
    token = CallbackSigner([OLD]).sign("call", LATER)
    assert CallbackSigner([NEW, OLD]).verify(token, NOW) == "call"
    with pytest.raises(InvalidTokenError, match="none of ours"):
        CallbackSigner([NEW]).verify(token, NOW)


def test_no_part_of_a_token_can_be_changed() -> None:
    signer = CallbackSigner([NEW])
    token = signer.sign("call", LATER)
    claim, signature = token.split(".")
    longer = base64.urlsafe_b64encode(f"{int(LATER.timestamp()) + 9}.call".encode()).decode().rstrip("=")
    for forged in [
        "",
        ".",
        claim,
        claim + ".",
        f".{signature}",
        f"{longer}.{signature}",
        f"{claim}.{signature[1:]}",
        f"{claim}x.{signature}",
        "x" * 5000,
        token + "." + "y" * 2000,
    ]:
        with pytest.raises(InvalidTokenError):
            signer.verify(forged, NOW)


@given(st.text(max_size=60))
def test_any_other_text_is_none_of_ours(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        CallbackSigner([NEW]).verify(text, NOW)


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"short"]])
def test_a_short_key_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        CallbackSigner(keys)


def test_a_token_is_valid_for_as_long_as_was_asked_and_in_one_writing_only() -> None:
    signer = CallbackSigner([b"k" * 32])
    expires = datetime(2025, 1, 31, 8, 0, 0, 500_000, tzinfo=UTC)
    token = signer.sign("call", expires)
    assert signer.verify(token, expires - timedelta(milliseconds=1)) == "call"
    with pytest.raises(InvalidTokenError, match="ended"):
        signer.verify(token, expires + timedelta(seconds=1))
    for written in (token + "=", token + "!!!!", token + "A", token.replace(".", "=.", 1)):
        with pytest.raises(InvalidTokenError, match="none of ours"):
            signer.verify(written, expires - timedelta(seconds=1))
