"""Instance URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.identity.uris import endpoint_id, instance_uri

KNOWN = {
    "00000000-0000-0000-0000-000000000000": "temporal:0000000000000000000000",
    "00000000-0000-0000-0000-00000000003e": "temporal:0000000000000000000010",
    "ffffffff-ffff-ffff-ffff-ffffffffffff": "temporal:7n42DGM5Tflk9n8mt7Fhc7",
}


@pytest.mark.parametrize("id", KNOWN)
def test_known_uris(id: str) -> None:
    assert instance_uri(id) == KNOWN[id]
    assert endpoint_id(KNOWN[id]) == id


@given(st.uuids().map(str))
def test_every_endpoint_has_one_uri(id: str) -> None:
    uri = instance_uri(id)
    assert uri.startswith("temporal:")
    assert endpoint_id(uri) == id


@given(st.text(max_size=30) | st.from_regex(r"temporal:[0-9A-Za-z]{20,24}", fullmatch=True))
def test_every_uri_is_one_endpoints(uri: str) -> None:
    id = endpoint_id(uri)
    assert id is None or instance_uri(id) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "payments",
        "temporal:",
        "0000000000000000000010",
        "temporal:10",
        "temporal:00000000000000000000010",
        "temporal:7n42DGM5Tflk9n8mt7Fhc8",
        "temporal:zzzzzzzzzzzzzzzzzzzzzz",
        "temporal:000000000000000000001-",
        "temporal:00000000000000000001é0",
        "Temporal:0000000000000000000010",
    ],
)
def test_what_is_no_instance_uri(text: str) -> None:
    assert endpoint_id(text) is None


def test_what_is_no_uuid_has_none() -> None:
    with pytest.raises(ValueError, match="UUID"):
        instance_uri("payments")
