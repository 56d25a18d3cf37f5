"""Links are followed from namespace to namespace; what cannot be read is one line of the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

from temporalio.api.common.v1 import Link
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import Endpoint, EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import ListNexusEndpointsRequest, ListNexusEndpointsResponse
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from nexuskit.trace import MAX_DEPTH, Handler, NexusCall, Node, Unreadable, Workflow, trace
from tests.trace.histories import History, link_to


class Server:
    """Histories by namespace and workflow id, and an endpoint registry: as much of a server as a trace needs."""

    def __init__(self, histories: dict[tuple[str, str], History]) -> None:
        self.histories = histories
        self.endpoints: list[Endpoint] = []
        self.registry_open = True
        self.descriptions: dict[str, DescribeWorkflowExecutionResponse] = {}
        self.asked: Counter[str] = Counter()

    async def connect(self, namespace: str) -> Client:
        self.asked[namespace] += 1
        if not any(known == namespace for known, _ in self.histories):
            raise RuntimeError(f"no connection to {namespace}")
        client = SimpleNamespace(
            get_workflow_handle=lambda id, run_id=None: FakeHandle(self, namespace, id, run_id),
            operator_service=SimpleNamespace(list_nexus_endpoints=self.list_nexus_endpoints),
        )
        return cast("Client", client)

    async def list_nexus_endpoints(
        self, request: ListNexusEndpointsRequest, **options: Any
    ) -> ListNexusEndpointsResponse:
        self.asked[f"endpoint {request.name}"] += 1
        if not self.registry_open:
            raise RPCError("operators only", RPCStatusCode.PERMISSION_DENIED, b"")
        return ListNexusEndpointsResponse(endpoints=[each for each in self.endpoints if each.spec.name == request.name])


class FakeHandle:
    """The two calls of a workflow handle that a trace makes."""

    def __init__(self, server: Server, namespace: str, id: str, run_id: str | None) -> None:
        self.server, self.key, self.run_id = server, (namespace, id), run_id

    async def describe(self, **options: Any) -> SimpleNamespace:
        if self.key not in self.server.histories:
            raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
        found = self.server.descriptions.get(self.key[1], DescribeWorkflowExecutionResponse())
        found.workflow_execution_info.execution.run_id = self.run_id or "newest"
        return SimpleNamespace(raw_description=found)

    async def fetch_history_events(self, **options: Any) -> AsyncIterator[HistoryEvent]:
        for event in self.server.histories[self.key].events:
            yield event


def calling(*links: Link) -> History:
    """A workflow that has made one call after the other, each with a link to what is behind it."""
    history = History()
    for link in links:
        history.add("NEXUS_OPERATION_STARTED", links=[link], scheduled_event_id=history.nexus_call())
    return history


def the_call(node: Node | None) -> NexusCall:
    assert isinstance(node, Workflow)
    [call] = node.steps
    assert isinstance(call, NexusCall)
    return call


async def test_a_call_is_followed_to_the_workflow_behind_it() -> None:
    server = Server({("orders", "order-1"): calling(link_to("payments", "p")), ("payments", "p"): History()})
    tree = await trace(server.connect, "orders", "order-1")
    target = the_call(tree).target
    assert isinstance(target, Workflow)
    assert (target.namespace, target.workflow_id, target.run_id) == ("payments", "p", "run-2")


async def test_the_newest_run_is_read_unless_one_is_named() -> None:
    server = Server({("orders", "order-1"): History()})
    newest = await trace(server.connect, "orders", "order-1")
    named = await trace(server.connect, "orders", "order-1", run_id="run-7")
    assert isinstance(newest, Workflow)
    assert isinstance(named, Workflow)
    assert (newest.run_id, named.run_id) == ("newest", "run-7")


async def test_a_namespace_that_cannot_be_reached_is_one_line() -> None:
    server = Server({("orders", "order-1"): calling(link_to("payments", "p"))})
    target = the_call(await trace(server.connect, "orders", "order-1")).target
    assert isinstance(target, Unreadable)
    assert (target.link.namespace, target.reason) == ("payments", "no connection to payments")


async def test_a_workflow_that_is_gone_is_one_line() -> None:
    server = Server({("orders", "order-1"): calling(link_to("orders", "gone"))})
    target = the_call(await trace(server.connect, "orders", "order-1")).target
    assert isinstance(target, Unreadable)
    assert target.reason == "NOT_FOUND: workflow not found"


async def test_a_root_that_cannot_be_read_is_no_error() -> None:
    tree = await trace(Server({}).connect, "orders", "order-1")
    assert isinstance(tree, Unreadable)


async def test_a_history_that_makes_no_sense_is_one_line() -> None:
    history = History()
    history.events.clear()
    tree = await trace(Server({("orders", "order-1"): history}).connect, "orders", "order-1")
    assert isinstance(tree, Unreadable)
    assert "begins with" in tree.reason


async def test_a_link_to_what_has_no_history_says_so() -> None:
    link = Link(activity=Link.Activity(namespace="payments", activity_id="a", run_id="r"))
    server = Server({("orders", "order-1"): calling(link)})
    target = the_call(await trace(server.connect, "orders", "order-1")).target
    assert isinstance(target, Unreadable)
    assert target.reason == "an activity has no history to follow"


async def test_calls_in_a_circle_end() -> None:
    server = Server({("a", "w"): calling(link_to("b", "w", "run-b")), ("b", "w"): calling(link_to("a", "w", "run-a"))})
    tree = await trace(server.connect, "a", "w", run_id="run-a")
    back = the_call(the_call(tree).target).target
    assert isinstance(back, Unreadable)
    assert "circle" in back.reason


async def test_a_very_long_chain_is_cut() -> None:
    histories = {("a", str(step)): calling(link_to("a", str(step + 1))) for step in range(MAX_DEPTH + 2)}
    node: Node | None = await trace(Server(histories).connect, "a", "0")
    depth = 0
    while isinstance(node, Workflow):
        node, depth = the_call(node).target, depth + 1
    assert depth == MAX_DEPTH
    assert isinstance(node, Unreadable)


async def test_the_next_run_is_read_too() -> None:
    history = History()
    history.add("WORKFLOW_EXECUTION_CONTINUED_AS_NEW", new_execution_run_id="run-2")
    server = Server({("orders", "order-1"): history})
    tree = await trace(server.connect, "orders", "order-1", run_id="run-1")
    assert isinstance(tree, Workflow)
    assert isinstance(tree.next_run, Workflow)
    assert tree.next_run.run_id == "run-2"
    assert isinstance(tree.next_run.next_run, Unreadable), "the same history again: a circle"


async def test_the_endpoint_tells_where_the_handler_is() -> None:
    server = Server({("orders", "order-1"): calling(link_to("orders", "p"))})
    worker = EndpointTarget.Worker(namespace="payments", task_queue="q")
    server.endpoints = [Endpoint(spec=EndpointSpec(name="payments", target=EndpointTarget(worker=worker)))]
    call = the_call(await trace(server.connect, "orders", "order-1"))
    assert call.handler == Handler(namespace="payments", task_queue="q")


async def test_an_endpoint_may_lead_to_a_url() -> None:
    server = Server({("orders", "order-1"): calling(link_to("orders", "p"))})
    target = EndpointTarget(external=EndpointTarget.External(url="https://pay.example"))
    server.endpoints = [Endpoint(spec=EndpointSpec(name="payments", target=target))]
    assert the_call(await trace(server.connect, "orders", "order-1")).handler == Handler(url="https://pay.example")


async def test_a_registry_that_is_closed_or_empty_costs_only_the_handler() -> None:
    server = Server({("orders", "order-1"): calling(link_to("payments", "p")), ("payments", "p"): History()})
    for server.registry_open in (True, False):
        call = the_call(await trace(server.connect, "orders", "order-1"))
        assert call.handler is None
        assert isinstance(call.target, Workflow)


async def test_each_namespace_and_endpoint_is_asked_for_once() -> None:
    calls = calling(*(link_to("payments", f"p{number}") for number in range(40)))
    histories = {("orders", "order-1"): calls} | {("payments", f"p{number}"): History() for number in range(40)}
    server = Server(histories)
    await trace(server.connect, "orders", "order-1")
    assert server.asked == {"orders": 1, "payments": 1, "endpoint payments": 1}


async def test_what_is_pending_is_merged() -> None:
    history = History()
    event_id = history.nexus_call()
    server = Server({("orders", "order-1"): history})
    description = DescribeWorkflowExecutionResponse()
    description.pending_nexus_operations.add(scheduled_event_id=event_id, attempt=5)
    server.descriptions["order-1"] = description
    assert the_call(await trace(server.connect, "orders", "order-1")).attempts == 5


async def test_a_child_workflow_is_followed() -> None:
    history = History()
    initiated = history.add("START_CHILD_WORKFLOW_EXECUTION_INITIATED", workflow_id="child")
    history.add(
        "CHILD_WORKFLOW_EXECUTION_STARTED", initiated_event_id=initiated, workflow_execution={"run_id": "run-3"}
    )
    server = Server({("orders", "order-1"): history, ("orders", "child"): History()})
    tree = await trace(server.connect, "orders", "order-1")
    assert isinstance(tree, Workflow)
    [child] = tree.steps
    assert not isinstance(child, NexusCall)
    assert getattr(child, "target").run_id == "run-3"  # noqa: B009
