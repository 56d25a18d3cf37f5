"""Headers of calls: what a caller sets is handed on to the handler, but for what only a server can say."""

from __future__ import annotations

from collections.abc import Mapping

from nexuskit.backend.history.nexus_commands import RESERVED_HEADERS
from nexuskit.backend.times import MILLISECOND
from nexuskit.identity.callers import SOURCE_NAMESPACE

_OURS = RESERVED_HEADERS | frozenset(
    {
        SOURCE_NAMESPACE,
        "accept-encoding",
        "nexus-link",
        "nexus-operation-token",
        "nexus-request-id",
        "temporal-nexus-failure-support",
        "x-forwarded-for",
    }
)
"""What the handler's side takes for the server's word, or HTTP for its own (`frontend.nexusRequestHeadersBlacklist`,
and, unlike there, links, request ids and tokens: a handler can trust those that it gets). Among them are those that a
workflow may not set: by HTTP they are no more the caller's to say.
"""
_OUR_PREFIXES = ("content-", "nexus-callback-")


def handed_on(given: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers as its handler gets them: names in lower case, without those that are the server's."""
    lower = {name.lower(): value for name, value in given.items()}
    return {name: value for name, value in lower.items() if name not in _OURS and not name.startswith(_OUR_PREFIXES)}


def milliseconds(span: int) -> str:
    """A span (ns) as Nexus headers write it (specification, "Operation-Timeout"): whole milliseconds, rounded down."""
    return f"{max(span, 0) // MILLISECOND}ms"
