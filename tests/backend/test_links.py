"""Links that requests carry: how many, how large, and which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from temporalio.api.common.v1 import Callback, Link

from nexuskit.backend.history.start import own_links
from tests.support.raw import Namespace, refusal

RUN = str(uuid4())
MAX_LINKS = 10
MAX_SIZE = 4_000


def link(workflow_id: str = "w", **more: Any) -> Link:
    return Link(workflow_event=Link.WorkflowEvent(namespace="elsewhere", workflow_id=workflow_id, run_id=RUN, **more))


def of_size(size: int) -> Link:
    return link("w" * (size - link("w" * 1000).ByteSize() + 1000))


async def start(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.start(f"{workflow_id}-another", queue, links=links)


async def signal_with_start(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.signal_with_start(workflow_id, queue, "go", links=links)


async def signal(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.signal(workflow_id, "go", links=links)


async def cancel(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.request_cancel(workflow_id, links=links)


async def terminate(orders: Namespace, workflow_id: str, queue: str, links: list[Link]) -> None:
    await orders.terminate(workflow_id, links=links)


Send = Callable[[Namespace, str, str, list[Link]], Awaitable[None]]
CALLS = pytest.mark.parametrize("send", [start, signal_with_start, signal, cancel, terminate])


@CALLS
async def test_a_request_carries_so_many_links_and_not_one_more(
    orders: Namespace, workflow_id: str, queue: str, send: Send
) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(send(orders, workflow_id, queue, [link(f"w-{number}") for number in range(MAX_LINKS + 1)]))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "cannot attach more than 10 links per request, got 11",
    )
    await send(orders, workflow_id, queue, [link(f"w-{number}") for number in range(MAX_LINKS)])


@CALLS
async def test_a_link_is_so_large_and_not_a_byte_larger(
    orders: Namespace, workflow_id: str, queue: str, send: Send
) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(send(orders, workflow_id, queue, [of_size(MAX_SIZE + 1)]))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "link exceeds allowed size of 4000, got 4001",
    )
    await send(orders, workflow_id, queue, [of_size(MAX_SIZE)])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Link(), "unsupported link variant"),
        (
            Link(workflow_event=Link.WorkflowEvent(workflow_id="w", run_id=RUN)),
            "workflow event link must not have an empty namespace field",
        ),
        (
            Link(workflow_event=Link.WorkflowEvent(namespace="n", run_id=RUN)),
            "workflow event link must not have an empty workflow ID field",
        ),
        (
            Link(workflow_event=Link.WorkflowEvent(namespace="n", workflow_id="w")),
            "workflow event link must not have an empty run ID field",
        ),
        (
            link(event_ref=Link.WorkflowEvent.EventReference(event_id=5)),
            "workflow event link ref cannot have an unspecified event type and a non-zero event ID",
        ),
        (Link(batch_job=Link.BatchJob()), "batch job link must not have an empty job ID"),
        (
            Link(activity=Link.Activity(namespace="n", run_id=RUN)),
            "activity link must not have an empty activity ID field",
        ),
        (
            Link(nexus_operation=Link.NexusOperation(namespace="n", run_id=RUN)),
            "nexus operation link must not have an empty operation ID field",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "link",
)
async def test_a_link_that_leads_nowhere_is_refused(
    orders: Namespace, workflow_id: str, queue: str, wrong: Link, told: str
) -> None:
    refused = await refusal(orders.start(workflow_id, queue, links=[wrong]))
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, told)


def test_a_link_that_a_callback_has_too_is_shown_with_the_callback_alone() -> None:
    both, alone = link("both"), link("alone")
    callback = Callback(nexus=Callback.Nexus(url="temporal://system"), links=[both])
    assert own_links([both, alone], [callback]) == [alone]
    assert own_links([both, alone], []) == [both, alone]
