"""Nexus operations that stand alone, as users write them: with temporalio's own client, and workers as handlers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from nexusrpc import HandlerError, HandlerErrorType
from temporalio.client import (
    NexusClient,
    NexusOperationFailureError,
    WorkflowExecutionStatus,
)
from temporalio.common import NexusOperationExecutionStatus, NexusOperationIDConflictPolicy, NexusOperationIDReusePolicy
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    NexusOperationAlreadyStartedError,
    TerminatedError,
    TimeoutError,
)
from temporalio.service import RPCError, RPCStatusCode

from tests.backend.conftest import Teams
from tests.support.raw import Namespace
from tests.support.samples import Payment, Payments, Receipt

AT_MOST = timedelta(seconds=20)


@pytest.fixture
def client(teams: Teams) -> NexusClient[Payments]:
    return teams.orders.create_nexus_client(Payments, teams.endpoint)


async def test_a_sync_operation_gives_its_result(client: NexusClient[Payments], unique: Callable[[str], str]) -> None:
    payment = Payment(unique("order"), cents=500)
    quote = await client.execute_operation(
        Payments.quote, payment, id=unique("operation"), schedule_to_close_timeout=AT_MOST
    )
    assert quote == 10


async def test_a_workflow_behind_an_operation_completes_it_and_is_linked_on_both_sides(
    client: NexusClient[Payments], teams: Teams, payments: Namespace, unique: Callable[[str], str]
) -> None:
    order = unique("order")
    handle = await client.start_operation(
        Payments.process, Payment(order), id=unique("operation"), schedule_to_close_timeout=AT_MOST, summary="pay now"
    )
    assert await handle.result() == Receipt(order, Payment(order).cents)
    described = await handle.describe()
    assert described.status == NexusOperationExecutionStatus.COMPLETED
    assert (described.endpoint, described.service, described.operation) == (teams.endpoint, "Payments", "process")
    assert described.operation_token
    (link,) = described.raw_description.links
    assert link.workflow_event.workflow_id == f"payment-{order}"
    first = (await payments.history(f"payment-{order}"))[0]
    callbacks = first.workflow_execution_started_event_attributes.completion_callbacks
    back = [*first.links, *(link for callback in callbacks for link in callback.links)]
    assert {link.nexus_operation.operation_id for link in back} == {handle.operation_id}
    assert {link.nexus_operation.run_id for link in back} == {handle.run_id}


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("BAD_REQUEST", HandlerErrorType.BAD_REQUEST),
        ("UNAUTHORIZED", HandlerErrorType.UNAUTHORIZED),
        ("internal, not to be retried", HandlerErrorType.INTERNAL),
    ],
)
async def test_a_handler_error_is_the_cause(
    client: NexusClient[Payments], unique: Callable[[str], str], way: str, kind: HandlerErrorType
) -> None:
    with pytest.raises(NexusOperationFailureError) as failed:
        await client.execute_operation(
            Payments.misbehave, way, id=unique("operation"), schedule_to_close_timeout=AT_MOST
        )
    assert isinstance(failed.value.cause, HandlerError)
    assert failed.value.cause.type == kind


async def test_causes_are_told_as_deep_as_they_go(client: NexusClient[Payments], unique: Callable[[str], str]) -> None:
    with pytest.raises(NexusOperationFailureError) as failed:
        await client.execute_operation(
            Payments.misbehave,
            "operation failed, with a cause",
            id=unique("operation"),
            schedule_to_close_timeout=AT_MOST,
        )
    outer = failed.value.cause
    assert isinstance(outer, ApplicationError)
    assert outer.message == "no money"
    assert isinstance(outer.cause, ApplicationError)
    assert (outer.cause.type, outer.cause.details) == ("CardDeclined", ({"reason": "no money"},))


async def test_what_fails_later_is_told_too(client: NexusClient[Payments], unique: Callable[[str], str]) -> None:
    with pytest.raises(NexusOperationFailureError) as failed:
        await client.execute_operation(
            Payments.misbehave_later, "application error", id=unique("operation"), schedule_to_close_timeout=AT_MOST
        )
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "CardDeclined"


async def test_an_operation_is_cancelled_and_its_workflow_with_it(
    client: NexusClient[Payments], teams: Teams, unique: Callable[[str], str]
) -> None:
    held = unique("held")
    handle = await client.start_operation(
        Payments.hold, held, id=unique("operation"), schedule_to_close_timeout=AT_MOST
    )
    await handle.cancel(reason="no need")
    with pytest.raises(NexusOperationFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, CancelledError)
    described = await handle.describe()
    assert described.status == NexusOperationExecutionStatus.CANCELED
    assert described.cancellation_info is not None
    assert described.cancellation_info.reason == "no need"
    holding = await teams.payments.get_workflow_handle(held).describe()
    assert holding.status == WorkflowExecutionStatus.CANCELED


async def test_an_operation_is_terminated_and_its_workflow_runs_on(
    client: NexusClient[Payments], teams: Teams, unique: Callable[[str], str]
) -> None:
    held = unique("held")
    handle = await client.start_operation(
        Payments.hold, held, id=unique("operation"), schedule_to_close_timeout=AT_MOST
    )
    while not (await handle.describe()).operation_token:
        pass  # nobody announces to this client that it has started
    await handle.terminate(reason="enough")
    with pytest.raises(NexusOperationFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, TerminatedError)
    holding = teams.payments.get_workflow_handle(held)
    assert (await holding.describe()).status == WorkflowExecutionStatus.RUNNING
    await holding.terminate()


async def test_a_timeout_is_the_cause(client: NexusClient[Payments], unique: Callable[[str], str]) -> None:
    held = unique("held")
    with pytest.raises(NexusOperationFailureError) as failed:
        await client.execute_operation(
            Payments.hold, held, id=unique("operation"), start_to_close_timeout=timedelta(seconds=1)
        )
    assert isinstance(failed.value.cause, TimeoutError)


async def test_an_id_that_is_taken_raises_the_error_of_its_own(
    client: NexusClient[Payments], unique: Callable[[str], str]
) -> None:
    name, payment = unique("operation"), Payment(unique("order"))
    first = await client.start_operation(Payments.quote, payment, id=name, schedule_to_close_timeout=AT_MOST)
    await first.result()
    with pytest.raises(NexusOperationAlreadyStartedError) as taken:
        await client.start_operation(
            Payments.quote, payment, id=name, id_reuse_policy=NexusOperationIDReusePolicy.REJECT_DUPLICATE
        )
    assert (taken.value.operation_id, taken.value.run_id) == (name, first.run_id)
    held = unique("held")
    running = await client.start_operation(Payments.hold, held, id=held, schedule_to_close_timeout=AT_MOST)
    with pytest.raises(NexusOperationAlreadyStartedError):
        await client.start_operation(Payments.hold, held, id=held)
    used = await client.start_operation(
        Payments.hold, held, id=held, id_conflict_policy=NexusOperationIDConflictPolicy.USE_EXISTING
    )
    assert used.run_id == running.run_id
    await running.cancel()
    with pytest.raises(NexusOperationFailureError):
        await running.result()


async def test_an_unknown_endpoint_is_refused_at_once(teams: Teams, unique: Callable[[str], str]) -> None:
    nowhere = teams.orders.create_nexus_client(Payments, "nowhere-at-all")
    with pytest.raises(RPCError) as refused:
        await nowhere.start_operation(Payments.quote, Payment("x"), id=unique("operation"))
    assert refused.value.status == RPCStatusCode.NOT_FOUND


async def test_operations_are_listed_counted_and_found_by_their_id(
    client: NexusClient[Payments], teams: Teams, unique: Callable[[str], str]
) -> None:
    name = unique("operation")
    await client.execute_operation(Payments.quote, Payment(name), id=name, schedule_to_close_timeout=AT_MOST)
    query = f"OperationId = '{name}' AND ExecutionStatus = 'Completed'"
    while (await teams.orders.count_nexus_operations(query)).count == 0:
        pass  # a real server lists a moment later
    (found,) = [each async for each in teams.orders.list_nexus_operations(query)]
    assert (found.operation_id, found.operation) == (name, "quote")
    assert found.status == NexusOperationExecutionStatus.COMPLETED
    handle = teams.orders.get_nexus_operation_handle(name, operation=Payments.quote)
    assert await handle.result() == Payment(name).cents // 50
