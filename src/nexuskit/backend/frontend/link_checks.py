"""What links may be attached to a request: so many, so large, and each of them says where it leads.

The texts are the real server's (temporalio/temporal: common/links/validator.go).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from nexuskit.backend.errors import invalid_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from temporalio.api.common.v1 import Callback, Link

    from nexuskit.backend.settings import Limits

_RUN = (("namespace", "namespace field"), ("run_id", "run ID field"))
_NEEDED: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "workflow_event": ("workflow event", (*_RUN, ("workflow_id", "workflow ID field"))),
        "workflow": ("workflow", (*_RUN, ("workflow_id", "workflow ID field"))),
        "activity": ("activity", (*_RUN, ("activity_id", "activity ID field"))),
        "nexus_operation": ("nexus operation", (*_RUN, ("operation_id", "operation ID field"))),
        "batch_job": ("batch job", (("job_id", "job ID"),)),
    }
)
"""Kind of link → how it is called, and which of its fields must be there."""


def check_links(limits: Limits, links: Iterable[Link], callbacks: Iterable[Callback] = ()) -> None:
    """Raises `StatusError` INVALID_ARGUMENT for links, of the request or of its callbacks, that cannot be attached."""
    attached = [*links, *(link for callback in callbacks for link in callback.links)]
    if len(attached) > limits.LINKS_PER_REQUEST:
        raise invalid_argument(
            f"cannot attach more than {limits.LINKS_PER_REQUEST} links per request, got {len(attached)}"
        )
    for link in attached:
        if link.ByteSize() > limits.LINK_SIZE:
            raise invalid_argument(f"link exceeds allowed size of {limits.LINK_SIZE}, got {link.ByteSize()}")
        _check(link)


def _check(link: Link) -> None:
    kind = link.WhichOneof("variant") or ""
    if kind not in _NEEDED:
        raise invalid_argument("unsupported link variant")
    name, needed = _NEEDED[kind]
    for field, shown in needed:
        if not getattr(getattr(link, kind), field):
            raise invalid_argument(f"{name} link must not have an empty {shown}")
    event = link.workflow_event.event_ref
    if kind == "workflow_event" and event.event_id and not event.event_type:
        raise invalid_argument("workflow event link ref cannot have an unspecified event type and a non-zero event ID")
