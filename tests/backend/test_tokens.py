"""Tokens: what was written is read again, and what was not is refused."""

from __future__ import annotations

import base64
import contextlib
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend import tokens
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.tokens import ActivityTaskToken, CallbackToken, HistoryPage, NamePage, WorkflowTaskToken

KEY = b"k" * 32
KINDS: list[type[msgspec.Struct]] = [WorkflowTaskToken, ActivityTaskToken, HistoryPage, NamePage, CallbackToken]

numbers = st.integers(0, 2**63 - 1)
names = st.text(max_size=20)
task_fields = (numbers, names, names, numbers, numbers, numbers)
TOKENS: dict[type[msgspec.Struct], st.SearchStrategy[msgspec.Struct]] = {
    WorkflowTaskToken: st.builds(WorkflowTaskToken, *task_fields),
    ActivityTaskToken: st.builds(ActivityTaskToken, *task_fields),
    HistoryPage: st.builds(HistoryPage, numbers, names, names, numbers, numbers, numbers),
    NamePage: st.builds(NamePage, names),
    CallbackToken: st.builds(CallbackToken, numbers, names, names, numbers, names),
}
ANY = st.one_of(*TOKENS.values())
A_TOKEN = CallbackToken(1, "ns", "run", 5, "request")


def refusal(kind: type[msgspec.Struct], raw: bytes) -> str:
    with pytest.raises(StatusError) as refused:
        tokens.read(kind, raw, "task token")
    assert refused.value.code == Code.INVALID_ARGUMENT
    assert "task token" in refused.value.message
    return refused.value.message


@given(ANY)
def test_a_token_is_the_same_after_its_way_through_a_client(token: msgspec.Struct) -> None:
    assert tokens.read(type(token), tokens.write(token), "token") == token


@given(ANY, st.sampled_from(KINDS))
def test_a_token_of_one_kind_is_not_taken_for_one_of_another(token: msgspec.Struct, kind: type[msgspec.Struct]) -> None:
    if kind is not type(token):
        refusal(kind, tokens.write(token))


def test_no_token_is_refused_as_one_that_is_not_set() -> None:
    assert refusal(WorkflowTaskToken, b"") == "task token is not set on request."


@given(st.sampled_from(KINDS), st.binary(min_size=1, max_size=200))
def test_garbage_is_refused(kind: type[msgspec.Struct], raw: bytes) -> None:
    refusal(kind, raw)


@given(ANY, st.data())
def test_a_token_that_was_changed_is_refused_or_is_still_one_of_its_kind(
    token: msgspec.Struct, data: st.DataObject
) -> None:
    raw = bytearray(tokens.write(token))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StatusError):
        assert type(tokens.read(type(token), bytes(raw), "token")) is type(token)


@given(ANY, st.integers(0, 200))
def test_a_token_that_was_cut_is_refused(token: msgspec.Struct, length: int) -> None:
    raw = tokens.write(token)
    refusal(type(token), raw[: length % len(raw)])


@pytest.mark.parametrize("number", [-1, 2**63, 2**64 - 1], ids=["negative", "64 bits", "more than the store holds"])
@pytest.mark.parametrize("field", ["execution", "key", "attempt", "started_time"])
def test_a_number_that_nothing_has_is_refused(field: str, number: int) -> None:
    token = msgspec.structs.replace(WorkflowTaskToken(1, "ns", "run", 5, 1, 9), **{field: number})
    refusal(WorkflowTaskToken, tokens.write(token))


def test_a_token_with_something_endlessly_deep_behind_it_is_refused() -> None:
    raw = tokens.write(A_TOKEN)
    assert raw[0] == 0x96  # an array of six
    refusal(CallbackToken, b"\x97" + raw[1:] + b"\x91" * 100_000)


# --- callback tokens, which are signed


@given(TOKENS[CallbackToken], st.binary(min_size=1, max_size=64))
def test_a_callback_token_is_the_same_after_its_way_through_a_handler(token: CallbackToken, key: bytes) -> None:
    text = tokens.sign(token, key)
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()  # as it is, in a header or a URL
    assert tokens.verify(text, key) == token


def unverified(text: str, key: bytes = KEY) -> None:
    with pytest.raises(StatusError, match="callback token") as refused:
        tokens.verify(text, key)
    assert refused.value.code == Code.INVALID_ARGUMENT


@given(TOKENS[CallbackToken], st.binary(min_size=1, max_size=64))
def test_a_callback_token_of_another_key_is_refused(token: CallbackToken, key: bytes) -> None:
    if key != KEY:
        unverified(tokens.sign(token, key))


@given(TOKENS[CallbackToken], st.integers(0, 10_000), st.integers(1, 255))
def test_a_callback_token_of_which_a_single_byte_was_changed_is_refused(
    token: CallbackToken, place: int, change: int
) -> None:
    text = tokens.sign(token, KEY)
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[place % len(raw)] ^= change
    unverified(base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(TOKENS[CallbackToken])
def test_a_callback_token_has_one_text(token: CallbackToken) -> None:
    """Whoever remembers which were used up, or must not be, goes by the text."""
    text = tokens.sign(token, KEY)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    others = [text[:-1] + last for last in alphabet if last != text[-1]]
    for other in (*others, text + "=", text + "==", text + "\n", text[:5] + "." + text[5:]):
        unverified(other)


@given(
    st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
)
def test_garbage_is_no_callback_token(text: str) -> None:
    unverified(text)


@pytest.mark.parametrize("text", ["", "=", "a", "é" * 50, "\ud800", "\0", " " * 44, "A" * 43])
def test_text_of_any_kind_is_no_callback_token(text: str) -> None:
    unverified(text)


def test_a_signed_token_of_another_kind_is_no_callback_token() -> None:
    page = NamePage("a name")
    unverified(tokens.sign(page, KEY))
