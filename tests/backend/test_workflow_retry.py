"""Workflows with a retry policy: a failed run is followed by another attempt."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Header, Link, Memo, Priority, RetryPolicy
from temporalio.api.enums.v1 import ContinueAsNewInitiator, EventType, RetryState
from temporalio.api.failure.v1 import Failure
from temporalio.api.sdk.v1 import UserMetadata

from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    cancel_workflow,
    cancelled_failure,
    complete_workflow,
    duration,
    event_names,
    fail_workflow,
    payload,
    payloads,
    retry_policy,
)


async def attempt(orders: Namespace, queue: str, failure: Failure | None = None) -> str:
    """Lets the next attempt fail; answers with its run id."""
    task = await orders.run_workflow_task(queue, fail_workflow(failure))
    return task.workflow_execution.run_id


async def failed(orders: Namespace, workflow_id: str, run_id: str) -> tuple[str, str]:
    """Why the run is retried or not, and the run that follows it."""
    closed = (await orders.last_event(workflow_id, run_id)).workflow_execution_failed_event_attributes
    return RetryState.Name(closed.retry_state).removeprefix("RETRY_STATE_"), closed.new_execution_run_id


async def test_a_failed_run_is_followed_by_another_attempt_with_what_it_was_started_with(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    link = Link(workflow_event=Link.WorkflowEvent(namespace="elsewhere", workflow_id="w", run_id="r"))
    first = await orders.start(
        workflow_id,
        queue,
        input=payloads("in"),
        header=Header(fields={"trace": payload("7")}),
        memo=Memo(fields={"who": payload("me")}),
        priority=Priority(priority_key=2),
        retry_policy=retry_policy(attempts=3),
        workflow_run_timeout=duration(100),
        last_completion_result=payloads("before"),
        user_metadata=UserMetadata(summary=payload("an order")),
        links=[link],
    )
    before = (await orders.history(workflow_id, first))[0].workflow_execution_started_event_attributes
    await attempt(orders, queue)
    state, second = await failed(orders, workflow_id, first)
    assert state == "IN_PROGRESS"
    event = (await orders.history(workflow_id))[0]
    begun = event.workflow_execution_started_event_attributes
    assert begun.attempt == 2
    assert begun.initiator == ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY
    assert begun.continued_failure == application_failure()
    assert (begun.continued_execution_run_id, begun.first_execution_run_id) == (first, first)
    assert begun.original_execution_run_id == second
    # A real server forgets the last completion result between attempts.
    for field in ("input", "header", "memo", "priority", "retry_policy"):
        assert getattr(begun, field) == getattr(before, field), field
    assert begun.workflow_run_timeout.seconds == 100
    assert list(event.links) == [link]
    await attempt(orders, queue)
    third = await attempt(orders, queue)
    assert await failed(orders, workflow_id, third) == ("MAXIMUM_ATTEMPTS_REACHED", "")
    described = (await orders.describe(workflow_id)).workflow_execution_info
    assert described.execution.run_id == third


async def test_an_attempt_that_completes_is_the_last(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue, retry_policy=retry_policy())
    await attempt(orders, queue)
    await orders.run_workflow_task(queue, complete_workflow("done"))
    closed = await orders.last_event(workflow_id)
    assert closed.workflow_execution_completed_event_attributes.new_execution_run_id == ""


@pytest.mark.parametrize(
    ("failure", "policy", "state"),
    [
        (application_failure(non_retryable=True), retry_policy(), "NON_RETRYABLE_FAILURE"),
        (application_failure(), retry_policy(non_retryable_error_types=["OutOfStock"]), "NON_RETRYABLE_FAILURE"),
        (application_failure(), retry_policy(non_retryable_error_types=["Other"]), "IN_PROGRESS"),
        (cancelled_failure(), retry_policy(), "NON_RETRYABLE_FAILURE"),
        (application_failure(), retry_policy(attempts=1), "MAXIMUM_ATTEMPTS_REACHED"),
        (application_failure(), None, "RETRY_POLICY_NOT_SET"),
    ],
    ids=["non-retryable", "type", "another type", "cancelled", "one attempt", "no policy"],
)
async def test_a_failure_may_be_no_reason_to_try_again(
    orders: Namespace, workflow_id: str, queue: str, failure: Failure, policy: RetryPolicy | None, state: str
) -> None:
    run_id = await orders.start(workflow_id, queue, retry_policy=policy)
    await attempt(orders, queue, failure)
    said, new_run = await failed(orders, workflow_id, run_id)
    assert said == state
    assert bool(new_run) == (state == "IN_PROGRESS")
    if new_run:
        await orders.terminate(workflow_id)


async def pause_of(orders: Namespace, workflow_id: str) -> timedelta:
    begun = (await orders.history(workflow_id))[0].workflow_execution_started_event_attributes
    return begun.first_workflow_task_backoff.ToTimedelta()


async def test_the_pause_before_an_attempt_grows(orders: Namespace, workflow_id: str, queue: str) -> None:
    policy = RetryPolicy(initial_interval=duration(1.5), backoff_coefficient=2, maximum_interval=duration(2))
    await orders.start(workflow_id, queue, retry_policy=policy)
    await attempt(orders, queue)
    assert await pause_of(orders, workflow_id) == timedelta(seconds=1.5)
    await attempt(orders, queue)
    assert await pause_of(orders, workflow_id) == timedelta(seconds=2)
    await orders.terminate(workflow_id)


async def test_a_failure_may_say_when_to_try_again(orders: Namespace, workflow_id: str, queue: str) -> None:
    policy = retry_policy(maximum_interval=duration(60))
    await orders.start(workflow_id, queue, retry_policy=policy)
    await attempt(orders, queue, application_failure(next_retry_delay=duration(30)))
    assert await pause_of(orders, workflow_id) == timedelta(seconds=30)
    await orders.terminate(workflow_id)


async def test_a_failure_does_not_put_an_attempt_off_for_longer_than_the_policy_allows(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, retry_policy=retry_policy(maximum_interval=duration(20)))
    await attempt(orders, queue, application_failure(next_retry_delay=duration(30)))
    assert await pause_of(orders, workflow_id) == timedelta(seconds=20)
    await orders.terminate(workflow_id)


async def test_there_is_no_attempt_after_the_workflows_time(orders: Namespace, workflow_id: str, queue: str) -> None:
    run_id = await orders.start(
        workflow_id, queue, retry_policy=retry_policy(first=20), workflow_execution_timeout=duration(10)
    )
    await attempt(orders, queue)
    assert await failed(orders, workflow_id, run_id) == ("TIMEOUT", "")


async def timed_out(orders: Namespace, workflow_id: str, run_id: str) -> tuple[str, str]:
    closed = await orders.last_event(workflow_id, run_id)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT
    attributes = closed.workflow_execution_timed_out_event_attributes
    return RetryState.Name(attributes.retry_state).removeprefix("RETRY_STATE_"), attributes.new_execution_run_id


async def test_a_run_whose_time_is_over_is_retried(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(
        workflow_id, queue, retry_policy=retry_policy(attempts=2), workflow_run_timeout=duration(0.5)
    )
    state, second = await timed_out(orders, workflow_id, first)
    assert state == "IN_PROGRESS"
    begun = (await orders.history(workflow_id, second))[0].workflow_execution_started_event_attributes
    assert begun.attempt == 2
    assert begun.continued_failure.message == "workflow timeout"
    assert begun.continued_failure.HasField("timeout_failure_info")
    # The time of the second run begins after its pause.
    assert await timed_out(orders, workflow_id, second) == ("MAXIMUM_ATTEMPTS_REACHED", "")


async def test_a_workflow_whose_time_is_over_is_not_retried(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(
        workflow_id, queue, retry_policy=retry_policy(), workflow_execution_timeout=duration(0.5)
    )
    assert await timed_out(orders, workflow_id, first) == ("TIMEOUT", "")


@pytest.mark.parametrize("timeout", ["run", "execution"])
async def test_a_workflow_without_a_policy_whose_time_is_over(
    orders: Namespace, workflow_id: str, queue: str, timeout: str
) -> None:
    first = await orders.start(workflow_id, queue, **{f"workflow_{timeout}_timeout": duration(0.5)})
    state, new_run = await timed_out(orders, workflow_id, first)
    assert (state, new_run) == ("RETRY_POLICY_NOT_SET" if timeout == "run" else "TIMEOUT", "")


@pytest.mark.parametrize("how", ["cancelled", "terminated"])
async def test_a_run_that_was_ended_is_not_retried(orders: Namespace, workflow_id: str, queue: str, how: str) -> None:
    run_id = await orders.start(workflow_id, queue, retry_policy=retry_policy())
    if how == "cancelled":
        await orders.run_workflow_task(queue, cancel_workflow())
    else:
        await orders.terminate(workflow_id)
    assert (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id == run_id


async def test_a_run_that_waits_for_its_attempt_is_signalled_and_ended(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, retry_policy=retry_policy(first=60))
    await attempt(orders, queue)
    await orders.signal(workflow_id, "paid")
    assert event_names(await orders.history(workflow_id)) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
    ]
    await orders.terminate(workflow_id)
    assert event_names(await orders.history(workflow_id))[-1] == "WORKFLOW_EXECUTION_TERMINATED"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"initial_interval": duration(-1)}, "invalid InitialInterval set on retry policy: negative duration"),
        ({"backoff_coefficient": 0.5}, "BackoffCoefficient cannot be less than 1 on retry policy."),
        ({"maximum_interval": duration(-1)}, "invalid MaximumInterval set on retry policy: negative duration"),
        (
            {"initial_interval": duration(5), "maximum_interval": duration(2)},
            "MaximumInterval cannot be less than InitialInterval on retry policy.",
        ),
        ({"maximum_attempts": -1}, "MaximumAttempts cannot be negative on retry policy."),
        (
            {"non_retryable_error_types": ["TemporalTimeout:Sometimes"]},
            "Invalid timeout type value",
        ),
    ],
    ids=["first", "growth", "longest", "order", "attempts", "timeout"],
)
async def test_a_policy_that_makes_no_sense_is_refused(
    orders: Namespace, workflow_id: str, queue: str, policy: dict[str, Any], message: str
) -> None:
    refused = await refusal(orders.start(workflow_id, queue, retry_policy=RetryPolicy(**policy)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith(message)
