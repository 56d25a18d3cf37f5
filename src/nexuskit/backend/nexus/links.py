"""Links between the two sides of a call: Temporal's `Link` and the URL by which Nexus carries it.

    temporal:///namespaces/NS/workflows/ID/RUN/history?referenceType=EventReference&eventID=5&eventType=NexusOperationScheduled
    temporal:///namespaces/NS/activities/ID/RUN/details
    temporal:///namespaces/NS/nexus-operations/ID/RUN/details

As the SDKs write and read it (temporalio/temporal: common/nexus/link_converter.go).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType
from temporalio.api.nexus.v1 import Link as NexusLink

if TYPE_CHECKING:
    from collections.abc import Iterable

WORKFLOW_EVENT = Link.WorkflowEvent.DESCRIPTOR.full_name
ACTIVITY = Link.Activity.DESCRIPTOR.full_name
OPERATION = Link.NexusOperation.DESCRIPTOR.full_name
_ACTIVITY_PATH = re.compile(r"/namespaces/([^/]+)/activities/([^/]+)/([^/]+)/details")
_OPERATION_PATH = re.compile(r"/namespaces/([^/]+)/nexus-operations/([^/]+)/([^/]+)/details")
_PATH = re.compile(r"/namespaces/([^/]+)/workflows/([^/]+)/([^/]+)/history")


def to_nexus(link: Link.WorkflowEvent) -> NexusLink:
    """A link to an event of a workflow, as Nexus carries it."""
    parts = (quote(part, safe="") for part in (link.namespace, link.workflow_id, link.run_id))
    path = "/namespaces/{}/workflows/{}/{}/history".format(*parts)
    query: dict[str, str | int]
    if link.HasField("request_id_ref"):
        query = {
            "referenceType": "RequestIdReference",
            "requestID": link.request_id_ref.request_id,
            "eventType": _pascal(link.request_id_ref.event_type),
        }
    else:
        query = {"referenceType": "EventReference", "eventType": _pascal(link.event_ref.event_type)}
        if link.event_ref.event_id:
            query["eventID"] = link.event_ref.event_id
    return NexusLink(url=f"temporal://{path}?{urlencode(sorted(query.items()))}", type=WORKFLOW_EVENT)


def activity_to_nexus(link: Link.Activity) -> NexusLink:
    """A link to an activity that stands alone, as Nexus carries it."""
    parts = (quote(part, safe="") for part in (link.namespace, link.activity_id, link.run_id))
    return NexusLink(url="temporal:///namespaces/{}/activities/{}/{}/details".format(*parts), type=ACTIVITY)


def operation_to_nexus(link: Link.NexusOperation) -> NexusLink:
    """A link to a Nexus operation that stands alone, as Nexus carries it."""
    parts = (quote(part, safe="") for part in (link.namespace, link.operation_id, link.run_id))
    return NexusLink(url="temporal:///namespaces/{}/nexus-operations/{}/{}/details".format(*parts), type=OPERATION)


def from_nexus(link: NexusLink) -> Link | None:
    """What Nexus carried, as a link to an event of a workflow, an activity or a Nexus operation; None for others."""
    if link.type == ACTIVITY:
        ids = _ids(link.url, _ACTIVITY_PATH)
        return Link(activity=Link.Activity(namespace=ids[0], activity_id=ids[1], run_id=ids[2])) if ids else None
    if link.type == OPERATION:
        ids = _ids(link.url, _OPERATION_PATH)
        if ids is None:
            return None
        return Link(nexus_operation=Link.NexusOperation(namespace=ids[0], operation_id=ids[1], run_id=ids[2]))
    if link.type != WORKFLOW_EVENT:
        return None
    try:
        url = urlsplit(link.url)
        path = _PATH.fullmatch(url.path)
        if url.scheme != "temporal" or path is None:
            return None
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        event_type = _event_type(query.get("eventType", ""))
        event = Link.WorkflowEvent(namespace=unquote(path[1]), workflow_id=unquote(path[2]), run_id=unquote(path[3]))
        if query.get("referenceType") == "RequestIdReference":
            event.request_id_ref.request_id = query.get("requestID", "")
            event.request_id_ref.event_type = event_type
        else:
            event.event_ref.event_id = int(query.get("eventID", "0"))
            event.event_ref.event_type = event_type
    except ValueError:
        return None
    return Link(workflow_event=event)


def _ids(text: str, wanted: re.Pattern[str]) -> tuple[str, str, str] | None:
    """The namespace, id and run id that a link without events names."""
    try:
        url = urlsplit(text)
    except ValueError:
        return None
    path = wanted.fullmatch(url.path)
    if url.scheme != "temporal" or path is None:
        return None
    return unquote(path[1]), unquote(path[2]), unquote(path[3])


def all_to_nexus(links: Iterable[Link]) -> list[NexusLink]:
    """Those that Nexus has a form for."""
    made: list[NexusLink] = []
    for link in links:
        if link.HasField("workflow_event"):
            made.append(to_nexus(link.workflow_event))
        elif link.HasField("activity"):
            made.append(activity_to_nexus(link.activity))
        elif link.HasField("nexus_operation") or link.HasField("nexus_operation"):
            made.append(operation_to_nexus(link.nexus_operation))
    return made


def all_from_nexus(links: Iterable[NexusLink]) -> list[Link]:
    """Those that can be read; a link is a pointer for people, and a bad one is no reason to fail a call."""
    return [link for link in map(from_nexus, links) if link is not None]


def _pascal(event_type: EventType.ValueType) -> str:
    name = EventType.Name(event_type).removeprefix("EVENT_TYPE_")
    return "".join(word.capitalize() for word in name.split("_"))


def _event_type(text: str) -> EventType.ValueType:
    if text.startswith("EVENT_TYPE_"):
        return EventType.Value(text)
    return EventType.Value("EVENT_TYPE_" + re.sub(r"(?<!^)(?=[A-Z])", "_", text).upper())
