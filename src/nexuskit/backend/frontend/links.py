"""Links that come with a request: pointers to where it came from, kept on the event that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from nexuskit.backend.errors import invalid_argument

if TYPE_CHECKING:
    from temporalio.api.common.v1 import Link

    from nexuskit.backend.settings import Limits

_REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "workflow_event": ("namespace", "workflow_id", "run_id"),
        "nexus_operation": ("namespace", "operation_id", "run_id"),
        "activity": ("namespace", "activity_id", "run_id"),
        "batch_job": ("job_id",),
    }
)
"""Kind of link → the fields without which it leads nowhere (temporalio/temporal: common/links)."""


def check_links(links: Sequence[Link], limits: Limits) -> None:
    """The links of one request are few, small, of a known kind, and lead somewhere.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if len(links) > limits.LINKS_PER_REQUEST:
        raise invalid_argument(
            f"cannot attach more than {limits.LINKS_PER_REQUEST} links per request, got {len(links)}"
        )
    for link in links:
        if link.ByteSize() > limits.LINK_SIZE:
            raise invalid_argument(f"link exceeds allowed size of {limits.LINK_SIZE}, got {link.ByteSize()}")
        kind = link.WhichOneof("variant") or ""
        if kind not in _REQUIRED:
            raise invalid_argument(f"unsupported link variant {kind!r}; supported are {', '.join(_REQUIRED)}")
        for field in _REQUIRED[kind]:
            if not getattr(getattr(link, kind), field):
                name = field.replace("_", " ").replace(" id", " ID")
                raise invalid_argument(f"{kind.replace('_', ' ')} link must not have an empty {name} field")
        reference = link.workflow_event.event_ref
        if reference.event_id and not reference.event_type:
            raise invalid_argument(
                "workflow event link ref cannot have an unspecified event type and a non-zero event ID"
            )
