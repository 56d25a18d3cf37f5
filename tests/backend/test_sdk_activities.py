"""Activities that stand alone, as users write them: with temporalio's own client and worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.client import ActivityExecutionStatus, ActivityFailureError, Client
from temporalio.common import ActivityIDConflictPolicy, RetryPolicy
from temporalio.exceptions import (
    ActivityAlreadyStartedError,
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,
)
from temporalio.worker import Worker

from tests.support.servers import Server

AT_MOST = timedelta(seconds=20)
SOON = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3)


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}, from {activity.info().activity_id}"


@activity.defn
async def third_time_lucky(sure: bool) -> list[int]:
    """Goes on from what the attempt before remembered; without `sure` it fails for good."""
    done = [int(each) for each in activity.info().heartbeat_details]
    if len(done) == 2:
        return done
    activity.heartbeat(*done, activity.info().attempt)
    raise ApplicationError("not yet", type="NotYet", non_retryable=not sure)


@activity.defn
async def wait_to_be_cancelled() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.05)


@activity.defn
async def for_somebody_else() -> str:
    activity.raise_complete_async()


@dataclass(frozen=True)
class Team:
    client: Client
    queue: str


@pytest.fixture
async def team(server: Server, queue: str) -> AsyncIterator[Team]:
    client = await Client.connect(server.address, namespace="orders")
    activities = [greet, third_time_lucky, wait_to_be_cancelled, for_somebody_else]
    async with Worker(
        client,
        task_queue=queue,
        activities=activities,
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        default_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ):
        yield Team(client, queue)


async def test_an_activity_alone_gives_its_result(team: Team, unique: Callable[[str], str]) -> None:
    name = unique("activity")
    greeting = await team.client.execute_activity(
        greet, "Ada", id=name, task_queue=team.queue, start_to_close_timeout=AT_MOST
    )
    assert greeting == f"Hello, Ada, from {name}"
    described = await team.client.get_activity_handle(name).describe()
    assert (described.status, described.activity_type) == (ActivityExecutionStatus.COMPLETED, "greet")


async def test_an_activity_alone_goes_on_from_its_heartbeats(team: Team, unique: Callable[[str], str]) -> None:
    done = await team.client.execute_activity(
        third_time_lucky,
        True,
        id=unique("activity"),
        task_queue=team.queue,
        start_to_close_timeout=AT_MOST,
        retry_policy=SOON,
    )
    assert done == [1, 2]


async def test_an_activity_alone_fails_with_its_error(team: Team, unique: Callable[[str], str]) -> None:
    with pytest.raises(ActivityFailureError) as failed:
        await team.client.execute_activity(
            third_time_lucky, False, id=unique("activity"), task_queue=team.queue, start_to_close_timeout=AT_MOST
        )
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "NotYet"


async def test_an_activity_that_nobody_takes_times_out(team: Team, unique: Callable[[str], str]) -> None:
    with pytest.raises(ActivityFailureError) as failed:
        await team.client.execute_activity(
            greet,
            "nobody",
            id=unique("activity"),
            task_queue=team.queue + "-2",
            schedule_to_close_timeout=timedelta(seconds=1),
        )
    assert isinstance(failed.value.cause, TimeoutError)


async def test_an_activity_alone_is_cancelled(team: Team, unique: Callable[[str], str]) -> None:
    handle = await team.client.start_activity(
        wait_to_be_cancelled,
        id=unique("activity"),
        task_queue=team.queue,
        start_to_close_timeout=AT_MOST,
        heartbeat_timeout=timedelta(seconds=2),
    )
    await handle.cancel(reason="no need")
    with pytest.raises(ActivityFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, CancelledError)


async def test_an_activity_alone_is_terminated(team: Team, unique: Callable[[str], str]) -> None:
    handle = await team.client.start_activity(
        for_somebody_else, id=unique("activity"), task_queue=team.queue, start_to_close_timeout=AT_MOST
    )
    await handle.terminate(reason="enough")
    with pytest.raises(ActivityFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, TerminatedError)


async def test_an_id_that_is_taken_is_taken(team: Team, unique: Callable[[str], str]) -> None:
    name = unique("activity")
    first = await team.client.start_activity(
        for_somebody_else, id=name, task_queue=team.queue, start_to_close_timeout=AT_MOST
    )
    with pytest.raises(ActivityAlreadyStartedError):
        await team.client.start_activity(
            for_somebody_else, id=name, task_queue=team.queue, start_to_close_timeout=AT_MOST
        )
    same = await team.client.start_activity(
        for_somebody_else,
        id=name,
        task_queue=team.queue,
        start_to_close_timeout=AT_MOST,
        id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
    )
    assert same.run_id == first.run_id
    await team.client.get_async_activity_handle(activity_id=name, run_id=first.run_id).complete("by hand")
    assert await first.result() == "by hand"
