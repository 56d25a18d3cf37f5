"""Calls between two teams' workers: results, and every error of the table in docs/errors.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, NexusOperationError, TimeoutType
from temporalio.worker import Worker

import nexuskit
from tests.support.servers import CALLERS, Server
from tests.teams.builders import Foo
from tests.teams.conftest import Teams
from tests.teams.services import SECRET
from tests.teams.workflows import Ask, CallAndForget, CallAndLetGo, CallWithoutLimit, Told

Call = Callable[..., Awaitable[Told]]


async def test_an_answer_of_each_kind_arrives(call: Call) -> None:
    assert (await call("quote", cents=500)).result == 5
    assert (await call("answer", id="order-1", cents=3)).result == {"id": "order-1", "cents": 3}
    assert (await call("nothing")).result is None
    receipt = (await call("process", id="payment-of-each-kind", cents=7)).result
    assert receipt == {"id": "payment-of-each-kind", "cents": 7}


async def test_a_name_with_a_slash_travels(call: Call) -> None:
    told = await call("status", id="of order/1 at 5%", limit_s=30)
    assert told.result == "of order/1 at 5%"


@pytest.mark.parametrize(
    ("operation", "outcome"),
    [("quote", "declined"), ("process", "declined by the workflow"), ("process", "declined by the activity")],
)
async def test_a_declared_error_looks_the_same_whoever_raised_it(call: Call, operation: str, outcome: str) -> None:
    told = await call(operation, outcome=outcome)
    assert told.error == "CardDeclined"
    assert told.message == "CardDeclined: The card was refused."
    assert told.fields is not None
    assert (told.fields["reason"], told.fields["limit"]) == ("expired", "7")
    assert told.causes is not None
    assert told.causes[0] == "NexusOperationFailedError"
    assert told.sdk


async def test_an_error_that_the_caller_does_not_know_is_a_failed_operation(call: Call) -> None:
    told = await call("process", service="wider", outcome="declined by the workflow")
    assert told.error == "NexusOperationFailedError"
    assert told.fields is not None
    assert told.fields["type"] == "CardDeclined"
    assert told.fields["details"] == "({'reason': 'expired', 'limit': 7},)"


@pytest.mark.parametrize(
    ("operation", "outcome", "error", "said"),
    [
        ("quote", "failed", "NexusOperationFailedError", "the operation failed: no"),
        ("quote", "application", "NexusOperationFailedError", "the operation failed: no"),
        ("process", "failed", "NexusOperationFailedError", "the operation failed: no"),
        ("quote", "cancelled", "NexusCancelledError", "the operation was cancelled"),
        ("quote", "unauthorized", "NexusUnauthorizedError", "not allowed: not you. Is the caller's namespace among"),
        ("quote", "missing", "NexusNotFoundError", "no such card"),
        ("quote", "conflict", "NexusHandlerError", "CONFLICT: twice"),
        ("quote", "wrong output", "NexusInvalidOutputError", "Input should be a valid integer"),
    ],
)
async def test_each_outcome_of_a_handler_has_its_error(
    call: Call, teams: Teams, operation: str, outcome: str, error: str, said: str
) -> None:
    told = await call(operation, outcome=outcome)
    assert told.error == error
    assert said in told.message
    assert f"at endpoint {teams.endpoint!r}" in told.message
    assert told.sdk
    assert SECRET not in str(told)
    assert told.fields is not None
    assert told.fields["endpoint"] == teams.endpoint


@pytest.mark.parametrize("operation", ["quote", "process"])
async def test_type_and_details_of_a_failure_arrive(call: Call, operation: str) -> None:
    told = await call(operation, outcome="application" if operation == "quote" else "failed")
    assert told.fields is not None
    assert (told.fields["type"], told.fields["details"], told.fields["retryable"]) == (
        "Broken",
        "({'why': 'so'},)",
        "False",
    )


async def test_an_input_that_the_contract_refuses_is_not_sent(call: Call, teams: Teams) -> None:
    told = await call("quote", cents=-5)
    assert told.error == "NexusInvalidInputError"
    assert told.fields is not None
    assert told.fields["faults"] == "cents: Input should be greater than 0"
    assert told.sdk
    found = [each async for each in teams.orders.list_workflows("WorkflowType = 'CallOnce'")]
    newest = max(found, key=lambda each: each.start_time)
    history = await teams.orders.get_workflow_handle(newest.id).fetch_history()
    assert EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED not in {event.event_type for event in history.events}


async def test_an_input_that_the_handlers_contract_refuses_is_told_by_field(call: Call) -> None:
    told = await call("answer", service="wider")
    assert told.error == "NexusInvalidInputError"
    assert told.fields is not None
    assert told.fields["faults"].startswith("cents: Input should be a valid integer")


async def test_an_output_that_the_callers_contract_refuses_can_be_caught(call: Call) -> None:
    told = await call("quote", service="wider")
    assert told.error == "NexusInvalidOutputError"
    assert told.fields is not None
    assert told.fields["faults"].startswith("Input should be a valid dictionary or instance of Receipt")


async def test_what_is_not_there_is_named(call: Call) -> None:
    told = await call("process", service="elsewhere")
    assert (told.error, (told.fields or {})["what"]) == ("NexusNotFoundError", "service")
    told = await call("refund", service="wider")
    assert (told.error, (told.fields or {})["what"]) == ("NexusNotFoundError", "operation")
    told = await call("quote", outcome="missing")
    assert (told.error, (told.fields or {})["what"]) == ("NexusNotFoundError", "resource")


async def test_a_bug_of_the_handler_stays_with_the_handler(call: Call) -> None:
    told = await call(outcome="bug", limit_s=2)
    assert told.error == "NexusTimeoutError"
    assert told.fields is not None
    assert told.fields["timeout_type"] == str(int(TimeoutType.SCHEDULE_TO_CLOSE))
    assert SECRET not in str(told)


async def test_a_cancelled_operation_is_told_so(call: Call) -> None:
    told = await call("process", outcome="waits", cancel=True)
    assert told.error == "NexusCancelledError"
    assert told.causes is not None
    assert told.causes[0] == "CancelledError"


async def test_what_a_workflow_does_not_catch_fails_it_with_the_whole_cause(teams: Teams) -> None:
    ask = Ask(teams.endpoint, outcome="conflict")
    with pytest.raises(WorkflowFailureError) as caught:
        await teams.orders.execute_workflow(CallAndLetGo.run, ask, id=f"{teams.queue}-let-go", task_queue=teams.queue)
    cause = caught.value.__cause__
    assert isinstance(cause, NexusOperationError)
    assert (cause.endpoint, cause.service, cause.operation) == (teams.endpoint, "PaymentService", "quote")
    assert "twice" in str(cause.__cause__)


async def test_a_call_that_is_forgotten_goes_on_without_its_caller(teams: Teams) -> None:
    ask = Ask(teams.endpoint, id=f"forgotten-{teams.queue}")
    told = await teams.orders.execute_workflow(
        CallAndForget.run, ask, id=f"{teams.queue}-forgets", task_queue=teams.queue
    )
    assert told == "gone"
    handle = teams.payments.get_workflow_handle_for(Foo.run, ask.id)
    await handle.signal(Foo.finish)
    assert (await handle.result()).texts == ["forgotten"]


async def test_a_call_without_a_limit_is_warned_of_at_its_line(teams: Teams) -> None:
    queue = f"{teams.queue}-unlimited"
    ask = Ask(teams.endpoint)
    async with Worker(teams.orders, task_queue=queue, workflows=[CallWithoutLimit]):
        with pytest.warns(nexuskit.NexusTimeoutWarning, match=r"PaymentService\.process/status") as warned:
            assert await teams.orders.execute_workflow(CallWithoutLimit.run, ask, id=queue, task_queue=queue) == "x"
    assert [Path(each.filename).name for each in warned] == ["workflows.py"]


@pytest.mark.parametrize(
    "warnings",
    [
        pytest.param("as usual", marks=pytest.mark.filterwarnings("ignore::nexuskit.callers.NexusTimeoutWarning")),
        pytest.param("are errors", marks=pytest.mark.filterwarnings("error::nexuskit.callers.NexusTimeoutWarning")),
    ],
)
async def test_a_call_without_a_limit_is_an_error_where_the_plugin_says_so(
    teams: Teams, server: Server, warnings: str
) -> None:
    queue = f"{teams.queue}-strict-{warnings.replace(' ', '-')}"
    strict = await Client.connect(server.address, namespace=CALLERS, plugins=[nexuskit.Plugin(require_timeout=True)])
    async with Worker(strict, task_queue=queue, workflows=[CallWithoutLimit]):
        with pytest.raises(WorkflowFailureError) as caught:
            await strict.execute_workflow(CallWithoutLimit.run, Ask(teams.endpoint), id=queue, task_queue=queue)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("MissingTimeout", True)
