"""Programs as users write them: temporalio's own client and workers, unmodified, on both sides of a call."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, TimeoutError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer, Worker

from tests.backend.conftest import Teams
from tests.support.samples import (
    ACTIVITIES,
    WORKFLOWS,
    CatchActivityError,
    CatchError,
    LargeResults,
    Link,
    ManyTimers,
    Misbehave,
    Payment,
    PlaceOrder,
    ProcessPayment,
    Receipt,
    WaitThenAnswer,
)

UNSUCCESSFUL = "nexus operation completed unsuccessfully"


async def test_a_workflow_with_an_activity_and_a_timer_gives_its_result(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    receipt = await teams.payments.execute_workflow(
        ProcessPayment.run, Payment("one", 7), id=unique("payment"), task_queue=teams.payments_queue
    )
    assert receipt == Receipt("one", 7)


async def test_one_durable_call_crosses_two_namespaces_and_comes_back(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    order = unique("order")
    receipt = await teams.orders.execute_workflow(
        PlaceOrder.run, args=[teams.endpoint, Payment(order, 100)], id=order, task_queue=teams.orders_queue
    )
    assert receipt == Receipt(order, 102)
    described = await teams.payments.get_workflow_handle(f"payment-{order}").describe()
    assert described.status == WorkflowExecutionStatus.COMPLETED


async def test_many_calls_at_once_each_come_back_to_their_own_caller(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    async def one(cents: int) -> Receipt:
        order = unique("order")
        return await teams.orders.execute_workflow(
            PlaceOrder.run, args=[teams.endpoint, Payment(order, cents)], id=order, task_queue=teams.orders_queue
        )

    receipts = await asyncio.gather(*(one(100 * number) for number in range(1, 21)))
    assert [receipt.charged for receipt in receipts] == [102 * number for number in range(1, 21)]


async def test_what_ran_can_be_replayed_from_its_history(teams: Teams, unique: Callable[[str], str]) -> None:
    order = unique("order")
    handle = await teams.orders.start_workflow(
        PlaceOrder.run, args=[teams.endpoint, Payment(order)], id=order, task_queue=teams.orders_queue
    )
    await handle.result()
    for history in (
        await handle.fetch_history(),
        await teams.payments.get_workflow_handle(f"payment-{order}").fetch_history(),
    ):
        assert [event.event_id for event in history.events] == list(range(1, len(history.events) + 1))
        await Replayer(workflows=WORKFLOWS).replay_workflow(history)


@pytest.mark.parametrize(
    ("run", "args", "result"),
    [(LargeResults.run, [3, 1_900_000], 5_700_000), (ManyTimers.run, [3, 200], 600)],
    ids=["of more bytes than a message may have", "of more events than a page has"],
)
async def test_a_worker_without_a_cache_is_given_a_long_history_in_pages(
    teams: Teams, unique: Callable[[str], str], run: Any, args: list[int], result: int
) -> None:
    queue = unique("queue")
    async with Worker(
        teams.orders, task_queue=queue, workflows=WORKFLOWS, activities=ACTIVITIES, max_cached_workflows=0
    ):
        assert await teams.orders.execute_workflow(run, args=args, id=unique("order"), task_queue=queue) == result


async def test_a_client_that_asks_for_the_result_of_a_closed_workflow_gets_it(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    started: WorkflowHandle[WaitThenAnswer, Any] = await teams.orders.start_workflow(
        WaitThenAnswer.run, args=[0.01, {"a": [1]}], id=unique("order"), task_queue=teams.orders_queue
    )
    assert await started.result() == {"a": [1]}
    assert await teams.orders.get_workflow_handle(started.id).result() == {"a": [1]}
    described = await started.describe()
    assert described.run_id == started.result_run_id
    assert described.status == WorkflowExecutionStatus.COMPLETED
    assert described.workflow_type == "WaitThenAnswer"


@pytest.mark.parametrize("way", ["application error", "activity failed"])
async def test_a_failed_workflow_raises_at_its_client_with_the_whole_cause(
    teams: Teams, unique: Callable[[str], str], way: str
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await teams.orders.execute_workflow(Misbehave.run, way, id=unique("order"), task_queue=teams.orders_queue)
    cause: BaseException | None = caught.value.cause
    if way == "activity failed":
        cause = cause.__cause__ if cause else None
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message, list(cause.details)) == (
        "CardDeclined",
        "card declined",
        [{"reason": "no money"}],
    )


async def test_a_workflow_that_runs_out_of_time_raises_a_timeout_at_its_client(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await teams.orders.execute_workflow(
            Misbehave.run,
            "run timeout",
            id=unique("order"),
            task_queue=teams.orders_queue,
            run_timeout=timedelta(seconds=1),
        )
    assert isinstance(caught.value.cause, TimeoutError)


async def test_a_workflow_started_twice_raises_already_started(teams: Teams, unique: Callable[[str], str]) -> None:
    order = unique("order")

    async def start() -> WorkflowHandle[WaitThenAnswer, Any]:
        return await teams.orders.start_workflow(
            WaitThenAnswer.run, args=[1.0, 1], id=order, task_queue=teams.orders_queue
        )

    first = await start()
    with pytest.raises(WorkflowAlreadyStartedError) as caught:
        await start()
    assert (caught.value.workflow_id, caught.value.run_id) == (order, first.result_run_id)
    assert await first.result() == 1


async def test_an_unknown_workflow_raises_not_found(teams: Teams) -> None:
    handle = teams.orders.get_workflow_handle("no-such-order")
    for call in (handle.result(), handle.describe()):
        with pytest.raises(RPCError) as caught:
            await call
        assert caught.value.status == RPCStatusCode.NOT_FOUND
        assert "no-such-order" in caught.value.message


async def test_an_unknown_namespace_raises_not_found(teams: Teams, unique: Callable[[str], str]) -> None:
    lost = await Client.connect(teams.orders.service_client.config.target_host, namespace="no-such-team")
    with pytest.raises(RPCError) as caught:
        await lost.start_workflow(WaitThenAnswer.run, args=[0.0, 1], id=unique("order"), task_queue="queue")
    assert caught.value.status == RPCStatusCode.NOT_FOUND
    assert "no-such-team" in caught.value.message


async def test_an_activity_that_fails_at_every_attempt_fails_with_the_last(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    links = await teams.orders.execute_workflow(
        CatchActivityError.run, 3, id=unique("order"), task_queue=teams.orders_queue
    )
    assert [(link.kind, link.message) for link in links] == [
        ("ActivityError", "Activity task failed"),
        ("ApplicationError", "attempt 3"),
    ]


OPERATION_ERROR = Link("NexusOperationError", UNSUCCESSFUL)
CARD_DECLINED = Link("ApplicationError", "card declined", "CardDeclined", details=[{"reason": "no money"}])


def handler_error(error_type: str, message: str) -> Link:
    return Link("HandlerError", message, error_type, retryable=False)


CHAINS: dict[str, tuple[str, str, list[Link]]] = {
    **{
        f"handler error {error_type}": ("misbehave", error_type, [handler_error(error_type, "refused")])
        for error_type in ("BAD_REQUEST", "UNAUTHENTICATED", "UNAUTHORIZED", "NOT_FOUND", "CONFLICT", "NOT_IMPLEMENTED")
    },
    "handler error not to be tried again": (
        "misbehave",
        "internal, not to be retried",
        [handler_error("INTERNAL", "broken for good")],
    ),
    "operation failed": (
        "misbehave",
        "operation failed",
        [Link("ApplicationError", "no money", "OperationError")],
    ),
    "operation failed with a cause": (
        "misbehave",
        "operation failed, with a cause",
        [Link("ApplicationError", "no money", "OperationError"), CARD_DECLINED],
    ),
    "operation cancelled": ("misbehave", "operation cancelled", [Link("CancelledError", "called off")]),
    "non-retryable application error in the handler": (
        "misbehave",
        "non-retryable application error",
        [handler_error("INTERNAL", "Handler failed with non-retryable application error"), CARD_DECLINED],
    ),
    "application error in the workflow": ("misbehave_later", "application error", [CARD_DECLINED]),
    "non-retryable application error in the workflow": (
        "misbehave_later",
        "non-retryable application error",
        [Link("ApplicationError", "card declined", "CardDeclined")],
    ),
    "an activity of the workflow failed": (
        "misbehave_later",
        "activity failed",
        [Link("ActivityError", "Activity task failed"), CARD_DECLINED],
    ),
}


@pytest.mark.parametrize(("operation", "way", "causes"), CHAINS.values(), ids=CHAINS.keys())
async def test_the_caller_sees_the_whole_chain_of_causes(
    teams: Teams, unique: Callable[[str], str], operation: str, way: str, causes: list[Link]
) -> None:
    links = await teams.orders.execute_workflow(
        CatchError.run, args=[teams.endpoint, operation, way], id=unique("order"), task_queue=teams.orders_queue
    )
    assert links == [OPERATION_ERROR, *causes]


@pytest.mark.parametrize(
    ("service", "operation", "named"),
    [("NoSuchService", "quote", "NoSuchService"), ("Payments", "no_such_operation", "no_such_operation")],
)
async def test_an_unknown_service_or_operation_is_named_to_the_caller(
    teams: Teams, unique: Callable[[str], str], service: str, operation: str, named: str
) -> None:
    links = await teams.orders.execute_workflow(
        CatchError.run,
        args=[teams.endpoint, operation, "", service],
        id=unique("order"),
        task_queue=teams.orders_queue,
    )
    assert (links[1].kind, links[1].type, links[1].retryable) == ("HandlerError", "NOT_FOUND", False)
    assert named in links[1].message


async def test_a_timed_out_workflow_behind_an_operation_is_a_timeout_to_the_caller(
    teams: Teams, unique: Callable[[str], str]
) -> None:
    links = await teams.orders.execute_workflow(
        CatchError.run,
        args=[teams.endpoint, "misbehave_later", "run timeout"],
        id=unique("order"),
        task_queue=teams.orders_queue,
    )
    assert links == [OPERATION_ERROR, Link("TimeoutError", "operation exceeded internal timeout", links[1].type)]
