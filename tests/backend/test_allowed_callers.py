"""Who may call an endpoint: a list in its description, which the backend keeps to before a worker sees a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.nexus.v1 import Endpoint, EndpointSpec
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest, UpdateNexusEndpointRequest
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueResponse

from nexuskit.backend import serve
from nexuskit.identity.allowed_callers import ALLOWED_CALLERS_KEY, write_allowed_callers
from nexuskit.identity.uris import instance_uri
from tests.support.operation import Operation
from tests.support.raw import Namespace, endpoint_spec, refusal
from tests.support.values import complete_workflow, event_names, payload, schedule_operation, sync_result

pytestmark = pytest.mark.usefixtures("embedded_only")


def described(callers: Sequence[str] | bytes) -> Payload:
    """A description, and who may call."""
    value = callers if isinstance(callers, bytes) else write_allowed_callers(callers)
    return Payload(metadata={"encoding": b"json/plain", ALLOWED_CALLERS_KEY: value}, data=b'"takes payments"')


async def create(orders: Namespace, name: str, queue: str, callers: Sequence[str] | bytes) -> Endpoint:
    spec = endpoint_spec(name, "payments", queue, described(callers))
    return (await orders.operator.CreateNexusEndpoint(CreateNexusEndpointRequest(spec=spec))).endpoint


async def failed_call(orders: Namespace, workflow_id: str, queue: str, endpoint: str) -> PollWorkflowTaskQueueResponse:
    """A call that fails in the same commit in which it is scheduled. Returns the task that tells the workflow."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint))
    woken = await orders.poll_workflow_task(queue)
    names = event_names(woken.history.events)
    assert names[4:6] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_FAILED"]
    return woken


def why(task: PollWorkflowTaskQueueResponse) -> tuple[str, str]:
    cause = task.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    return cause.nexus_handler_failure_info.type, cause.message


async def end(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_caller_on_the_list_is_let_through(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), ["billing", "orders"])
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(made.spec.name))
    task = await payments.poll_nexus_task(made.spec.target.worker.task_queue)
    await payments.answer_nexus_task(task, sync_result(1))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[5] == "NEXUS_OPERATION_COMPLETED"
    await end(orders, woken)


@pytest.mark.parametrize(
    "callers", [[], ["billing"], ["Orders"], ["payments"]], ids=["nobody", "another", "case", "own"]
)
async def test_a_caller_that_is_not_on_the_list_gets_a_failed_operation(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str], callers: list[str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), callers)
    woken = await failed_call(orders, workflow_id, queue, made.spec.name)
    kind, message = why(woken)
    assert kind == "UNAUTHORIZED"
    assert f"namespace 'orders' may not call endpoint {made.spec.name!r}" in message
    assert "billing" not in message, "whom an endpoint lets in is nobody else's business"
    await end(orders, woken)


async def test_a_change_of_the_list_is_seen_by_the_very_next_call(
    orders: Namespace, payments: Namespace, queue: str, unique: Callable[[str], str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), [])
    await end(orders, await failed_call(orders, unique("order"), queue, made.spec.name))
    spec = EndpointSpec()
    spec.CopyFrom(made.spec)
    spec.description.CopyFrom(described(["orders"]))
    await orders.operator.UpdateNexusEndpoint(UpdateNexusEndpointRequest(id=made.id, version=1, spec=spec))
    await orders.start(unique("order"), queue)
    await orders.run_workflow_task(queue, schedule_operation(made.spec.name))
    task = await payments.poll_nexus_task(made.spec.target.worker.task_queue)
    await payments.answer_nexus_task(task, sync_result(1))
    await end(orders, await orders.poll_workflow_task(queue))


@pytest.mark.parametrize("raw", [b"orders", b'{"orders": 1}', b'["orders", 7]', b'["*"]', b""])
async def test_a_list_that_cannot_be_read_is_refused_when_it_is_written(
    orders: Namespace, unique: Callable[[str], str], raw: bytes
) -> None:
    refused = await refusal(create(orders, unique("endpoint"), unique("nexus"), raw))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "must be a JSON array of namespace names" in refused.message


async def test_the_list_holds_after_a_restart(tmp_path: Path) -> None:
    database = tmp_path / "nexus.db"
    first = serve(db=database, namespaces=["orders", "payments"])
    async with first as backend, grpc.aio.insecure_channel(backend.address) as channel:
        await create(Namespace("orders", channel), "guarded", "nexus", ["billing"])
    async with serve(db=database) as backend, grpc.aio.insecure_channel(backend.address) as channel:
        orders = Namespace("orders", channel)
        woken = await failed_call(orders, "order", "queue", "guarded")
        assert why(woken)[0] == "UNAUTHORIZED"


async def test_an_operation_that_stands_alone_is_refused_before_anything_is_written(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), ["payments"])
    refused = Operation(orders, unique("operation"), made.spec.name)
    why = await refusal(refused.start())
    assert why.code == grpc.StatusCode.PERMISSION_DENIED
    assert "'orders'" in why.message
    assert (await refusal(refused.describe())).code == grpc.StatusCode.NOT_FOUND
    allowed = Operation(payments, unique("operation"), made.spec.name)
    await allowed.start()
    task = await payments.poll_nexus_task(made.spec.target.worker.task_queue)
    await payments.answer_nexus_task(task, sync_result(1))
    assert await allowed.outcome() == payload(1)


async def test_the_list_counts_however_the_endpoint_is_named(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), ["billing"])
    woken = await failed_call(orders, workflow_id, queue, instance_uri(made.id))
    assert why(woken)[0] == "UNAUTHORIZED"
    await end(orders, woken)


async def test_a_workflow_may_name_an_endpoint_by_its_instance_uri(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    """So that a call still goes there when the endpoint has another name."""
    made = await create(orders, unique("endpoint"), unique("nexus"), ["orders"])
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(instance_uri(made.id)))
    task = await payments.poll_nexus_task(made.spec.target.worker.task_queue)
    assert task.request.endpoint == made.spec.name
    await payments.answer_nexus_task(task, sync_result(1))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[5] == "NEXUS_OPERATION_COMPLETED"
    assert woken.history.events[4].nexus_operation_scheduled_event_attributes.endpoint == instance_uri(made.id)
    await end(orders, woken)


async def test_an_operation_that_stands_alone_may_name_its_endpoint_by_the_instance_uri(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), ["orders"])
    called = Operation(orders, unique("operation"), instance_uri(made.id))
    await called.start()
    task = await payments.poll_nexus_task(made.spec.target.worker.task_queue)
    assert task.request.endpoint == made.spec.name
    await payments.answer_nexus_task(task, sync_result(1))
    assert await called.outcome() == payload(1)
    refused = await refusal(Operation(payments, unique("operation"), instance_uri(made.id)).start())
    assert refused.code == grpc.StatusCode.PERMISSION_DENIED


async def test_a_call_that_waits_for_its_worker_is_not_made_for_who_is_off_the_list_by_then(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    made = await create(orders, unique("endpoint"), unique("nexus"), ["orders"])
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(made.spec.name))
    spec = EndpointSpec()
    spec.CopyFrom(made.spec)
    spec.description.CopyFrom(described([]))
    await orders.operator.UpdateNexusEndpoint(UpdateNexusEndpointRequest(id=made.id, version=1, spec=spec))
    polling = asyncio.ensure_future(payments.poll_nexus_task(made.spec.target.worker.task_queue))
    woken = await orders.poll_workflow_task(queue)
    assert why(woken)[0] == "UNAUTHORIZED"
    assert not polling.done()
    polling.cancel()
    await end(orders, woken)
