"""Links: where a request came from, on the event that it makes; how many, and how large."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Callback, Link
from temporalio.api.enums.v1 import EventType

from tests.support.raw import Namespace, refusal

Ask = Callable[[Namespace, str, str, list[Link]], Awaitable[Any]]


def link(workflow_id: str = "w", **more: Any) -> Link:
    """To the start of a workflow."""
    reference = Link.WorkflowEvent.EventReference(
        event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
    )
    fields = {"namespace": "orders", "workflow_id": workflow_id, "run_id": "r", "event_ref": reference, **more}
    return Link(workflow_event=Link.WorkflowEvent(**fields))


def sized(size: int) -> Link:
    """A link that takes exactly so many bytes."""
    lengths = range(size - 60, size)
    return next(made for made in (link("w" * length) for length in lengths) if made.ByteSize() == size)


async def start(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.start(workflow_id, queue, links=links)


async def signal(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.start(workflow_id, queue)
    await orders.signal(workflow_id, "paid", links=links)


async def signal_with_start(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.signal_with_start(workflow_id, queue, "paid", links=links)


async def cancel(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.start(workflow_id, queue)
    await orders.request_cancel(workflow_id, links=links)


async def terminate(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.start(workflow_id, queue)
    await orders.terminate(workflow_id, links=links)


ASKS: dict[str, Ask] = {
    "start": start,
    "signal": signal,
    "signal with start": signal_with_start,
    "cancel": cancel,
    "terminate": terminate,
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
async def test_ten_links_of_four_thousand_bytes_are_kept_on_the_event(
    orders: Namespace, workflow_id: str, queue: str, ask: Ask
) -> None:
    links = [sized(4000), *[link(str(number)) for number in range(9)]]
    await ask(orders, workflow_id, queue, links)
    assert links in [list(event.links) for event in await orders.history(workflow_id)]


WRONG: dict[str, tuple[list[Link], str]] = {
    "too many": ([link()] * 11, "cannot attach more than 10 links per request, got 11"),
    "too large": ([sized(4001)], "link exceeds allowed size of 4000, got 4001"),
    "nowhere": ([link(namespace="")], "workflow event link must not have an empty namespace field"),
    "no workflow": ([link(workflow_id="")], "workflow event link must not have an empty workflow ID field"),
    "no run": ([link(run_id="")], "workflow event link must not have an empty run ID field"),
    "no activity": (
        [Link(activity=Link.Activity(namespace="orders", run_id="r"))],
        "activity link must not have an empty activity ID field",
    ),
    "no kind": ([Link()], "unsupported link variant"),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
@pytest.mark.parametrize(("links", "message"), WRONG.values(), ids=WRONG.keys())
async def test_other_links_are_refused(
    orders: Namespace, workflow_id: str, queue: str, ask: Ask, links: list[Link], message: str
) -> None:
    refused = await refusal(ask(orders, workflow_id, queue, links))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.message


async def test_links_of_callbacks_are_counted_with_the_others(orders: Namespace, workflow_id: str, queue: str) -> None:
    callback = Callback(nexus=Callback.Nexus(url="temporal://system"), links=[link(str(each)) for each in range(6)])
    links = [link(f"another {each}") for each in range(5)]
    refused = await refusal(orders.start(workflow_id, queue, links=links, completion_callbacks=[callback]))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
