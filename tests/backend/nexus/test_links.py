"""Links: Temporal's and Nexus' way to write the same pointer."""

from __future__ import annotations

import nexusrpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType
from temporalio.api.nexus.v1 import Link as NexusLink
from temporalio.nexus._link_conversion import nexus_link_to_temporal_link, workflow_event_to_nexus_link

from nexuskit.backend.nexus import links

EVENT = Link.WorkflowEvent.EventReference
REQUEST = Link.WorkflowEvent.RequestIdReference

SCHEDULED = EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED
STARTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED

PATH = "temporal:///namespaces/ns/workflows/order/run/history"

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
events = st.builds(EVENT, event_id=st.integers(0, 2**63 - 1), event_type=st.sampled_from(EventType.values()))
requests = st.builds(REQUEST, request_id=names, event_type=st.sampled_from(EventType.values()))
WORKFLOW_EVENTS = st.one_of(
    st.builds(Link.WorkflowEvent, namespace=names, workflow_id=names, run_id=names, event_ref=events),
    st.builds(Link.WorkflowEvent, namespace=names, workflow_id=names, run_id=names, request_id_ref=requests),
)

TABLE = [
    (
        Link.WorkflowEvent(
            namespace="ns", workflow_id="order", run_id="run", event_ref=EVENT(event_id=5, event_type=SCHEDULED)
        ),
        f"{PATH}?eventID=5&eventType=NexusOperationScheduled&referenceType=EventReference",
    ),
    (
        Link.WorkflowEvent(namespace="ns", workflow_id="order", run_id="run", event_ref=EVENT(event_type=STARTED)),
        f"{PATH}?eventType=WorkflowExecutionStarted&referenceType=EventReference",
    ),
    (
        Link.WorkflowEvent(
            namespace="ns",
            workflow_id="order",
            run_id="run",
            request_id_ref=REQUEST(request_id="a b", event_type=STARTED),
        ),
        f"{PATH}?eventType=WorkflowExecutionStarted&referenceType=RequestIdReference&requestID=a+b",
    ),
    (
        Link.WorkflowEvent(
            namespace="n/s", workflow_id="a?b=c&d#e f%", run_id="ü", event_ref=EVENT(event_id=1, event_type=STARTED)
        ),
        "temporal:///namespaces/n%2Fs/workflows/a%3Fb%3Dc%26d%23e%20f%25/%C3%BC/history"
        "?eventID=1&eventType=WorkflowExecutionStarted&referenceType=EventReference",
    ),
]


@pytest.mark.parametrize(("event", "url"), TABLE)
def test_a_link_is_written_and_read(event: Link.WorkflowEvent, url: str) -> None:
    written = links.to_nexus(event)
    assert (written.url, written.type) == (url, "temporal.api.common.v1.Link.WorkflowEvent")
    assert links.from_nexus(written) == Link(workflow_event=event)


@given(WORKFLOW_EVENTS)
def test_a_link_is_the_same_after_its_way_through_nexus(event: Link.WorkflowEvent) -> None:
    assert links.from_nexus(links.to_nexus(event)) == Link(workflow_event=event)


@given(WORKFLOW_EVENTS)
def test_the_sdk_reads_what_is_written(event: Link.WorkflowEvent) -> None:
    written = links.to_nexus(event)
    read = nexus_link_to_temporal_link(nexusrpc.Link(url=written.url, type=written.type))
    assert read == Link(workflow_event=event)


@given(WORKFLOW_EVENTS)
def test_what_the_sdk_writes_is_read(event: Link.WorkflowEvent) -> None:
    written = workflow_event_to_nexus_link(event)
    assert links.from_nexus(NexusLink(url=written.url, type=written.type)) == Link(workflow_event=event)


@pytest.mark.parametrize("event_type", ["NexusOperationScheduled", "EVENT_TYPE_NEXUS_OPERATION_SCHEDULED"])
def test_an_event_type_is_read_in_either_spelling(event_type: str) -> None:
    read = links.from_nexus(NexusLink(url=f"{PATH}?eventType={event_type}", type=links.WORKFLOW_EVENT))
    assert read is not None
    assert read.workflow_event.event_ref.event_type == SCHEDULED


@pytest.mark.parametrize(
    "url",
    [
        "",
        "temporal://",
        PATH,
        f"{PATH}?eventType=Nonsense",
        f"{PATH}?eventType=EVENT_TYPE_NONSENSE",
        f"{PATH}?eventType=WorkflowExecutionStarted&eventID=five",
        f"{PATH}?eventType=WorkflowExecutionStarted&eventID={2**63}",
        f"{PATH}?eventType=WorkflowExecutionStarted&eventID={'9' * 5_000}",
        f"http{PATH.removeprefix('temporal')}?eventType=WorkflowExecutionStarted",
        f"{PATH}/more?eventType=WorkflowExecutionStarted",
        "temporal:///namespaces//workflows/order/run/history?eventType=WorkflowExecutionStarted",
        "temporal://[/namespaces/ns/workflows/order/run/history?eventType=WorkflowExecutionStarted",
    ],
)
def test_a_url_that_is_no_link_to_an_event_is_left_out(url: str) -> None:
    assert links.from_nexus(NexusLink(url=url, type=links.WORKFLOW_EVENT)) is None


def test_a_link_of_another_kind_is_left_out() -> None:
    assert links.from_nexus(NexusLink(url=TABLE[0][1], type="somebody.else.Link")) is None


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_garbage_is_left_out(text: str) -> None:
    for url in (text, f"temporal://{text}", f"{PATH}?{text}", f"{PATH}?eventType={text}", f"{PATH}?eventID={text}"):
        read = links.from_nexus(NexusLink(url=url, type=links.WORKFLOW_EVENT))
        assert read is None or read.HasField("workflow_event")


def test_of_several_those_that_can_be_read_are_kept_in_order() -> None:
    written = [links.to_nexus(event) for event, _ in TABLE]
    garbage = NexusLink(url="garbage", type=links.WORKFLOW_EVENT)
    read = links.all_from_nexus([garbage, written[1], garbage, written[0]])
    assert read == [Link(workflow_event=TABLE[1][0]), Link(workflow_event=TABLE[0][0])]


def test_links_of_each_kind_are_written_and_others_left_out() -> None:
    event, _ = TABLE[0]
    activity = Link.Activity(namespace="pay ments", activity_id="charge/5", run_id="run")
    operation = Link.NexusOperation(namespace="ns", operation_id="op", run_id="run")
    given = [Link(workflow_event=event), Link(), Link(activity=activity), Link(nexus_operation=operation)]
    first, second, third = links.all_to_nexus(given)
    assert first == links.to_nexus(event)
    assert second.type == "temporal.api.common.v1.Link.Activity"
    assert second.url == "temporal:///namespaces/pay%20ments/activities/charge%2F5/run/details"
    assert third.url == "temporal:///namespaces/ns/nexus-operations/op/run/details"
    assert links.all_from_nexus([first, second, third]) == [given[0], *given[2:]]


def test_a_link_to_an_activity_is_read() -> None:
    url = "temporal:///namespaces/pay%20ments/activities/charge%2F5/run/details"
    read = links.from_nexus(NexusLink(url=url, type=links.ACTIVITY))
    assert read == Link(activity=Link.Activity(namespace="pay ments", activity_id="charge/5", run_id="run"))


@pytest.mark.parametrize("url", ["", "temporal:///namespaces/a/workflows/b/c/history", "http://[", "https:///x"])
def test_a_url_that_is_no_link_to_an_activity_is_left_out(url: str) -> None:
    assert links.from_nexus(NexusLink(url=url, type=links.ACTIVITY)) is None
