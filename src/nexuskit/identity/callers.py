"""Who a caller is, as far as it is proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED_CLUSTER = "nexuskit-embedded"
"""The name by which the embedded backend tells that it is no Temporal cluster."""
SOURCE_NAMESPACE = "temporal-source-namespace"
"""The header in which the embedded backend, and it alone, tells a handler the caller's namespace."""


@dataclass(frozen=True)
class CallerInfo:
    """A proven caller.

    Attributes:
        namespace: the namespace that the call comes from.
        proof: who vouches for it.
    """

    namespace: str
    proof: Literal["server"]


def caller_of(cluster_name: str, headers: Mapping[str, str]) -> CallerInfo | None:
    """Who made a call; None where nothing proves it.

    Args:
        cluster_name: what the server that the handler's worker polls calls itself. A real server hands on the header
            as the caller wrote it, so there it proves nothing.
        headers: the call's, with names in lower case.
    """
    namespace = headers.get(SOURCE_NAMESPACE, "")
    if cluster_name != EMBEDDED_CLUSTER or not namespace:
        return None
    return CallerInfo(namespace, "server")
