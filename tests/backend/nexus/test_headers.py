"""What of a caller's headers its handler gets."""

from __future__ import annotations

import pytest

from nexuskit.backend.nexus.headers import handed_on


def test_headers_are_handed_on_in_lower_case() -> None:
    assert handed_on({"X-Trace": "7", "operation-timeout": "5ms"}) == {"x-trace": "7", "operation-timeout": "5ms"}


@pytest.mark.parametrize(
    "name",
    [
        "Nexus-Link",
        "nexus-request-id",
        "NEXUS-CALLBACK-TOKEN",
        "Nexus-Callback-Anything",
        "nexus-operation-token",
        "Temporal-Source-Namespace",
        "Request-Timeout",
        "Temporal-Nexus-Failure-Support",
        "X-Forwarded-For",
        "xdc-redirection-api",
        "xdc-redirection-source-cell",
        "Temporal-Principal-Name",
        "temporal-principal-type",
        "caller-name",
        "Caller-Type",
        "call-initiation",
        "Accept-Encoding",
        "Content-Type",
    ],
)
def test_what_only_a_server_can_say_is_not(name: str) -> None:
    assert handed_on({name: "forged", "x": "1"}) == {"x": "1"}
