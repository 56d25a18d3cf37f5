"""What a handler knows of a call, and operations by ids that their callers choose."""

from __future__ import annotations

import uuid

import pytest

import nexuskit
from tests.support.servers import CALLERS, HANDLERS, Server
from tests.teams.conftest import Teams
from tests.teams.workflows import Ask, AskWho, WalkFoo


async def test_a_handler_knows_the_call_that_it_answers(teams: Teams, server: Server) -> None:
    ask = Ask(teams.endpoint, id="my-id")
    told = await teams.orders.execute_workflow(AskWho.run, ask, id=uuid.uuid4().hex, task_queue=teams.queue)
    assert told.pop("request_id")
    # A real server hands the header on as the workflow wrote it, and it is not believed.
    assert told.pop("caller") == (CALLERS if server.kind == "embedded" else "")
    assert told == {
        "operation": "PaymentService.who",
        "endpoint": teams.endpoint,
        "namespace": HANDLERS,
        "client": HANDLERS,
        "links": "1",
        "deadline": "True",
        "trace": "00-trace",
        "operation_id": "my-id",
    }


@pytest.mark.parametrize("ask", [nexuskit.operation_context, nexuskit.caller_info])
def test_outside_a_handler_there_is_no_call(ask: object) -> None:
    with pytest.raises(RuntimeError, match="No Nexus operation is being handled here"):
        ask()  # type: ignore[operator]


async def test_an_operation_is_walked_through_by_the_id_that_its_caller_chose(teams: Teams) -> None:
    id = f"foo-{uuid.uuid4().hex}"
    ask = Ask(teams.endpoint, id=id)
    walked = await teams.orders.execute_workflow(WalkFoo.run, ask, id=uuid.uuid4().hex, task_queue=teams.queue)
    *walked, refused = walked
    assert walked == ["started", True, ["bar"], ["bar"], "succeeded"]
    assert len(refused) == 2
    assert all(f"NotesService.foo with id {id!r} was not started by this workflow" in each for each in refused)
    assert (await teams.payments.get_workflow_handle(id).describe()).workflow_type == "Foo"


async def test_an_operation_whose_id_the_caller_has_to_choose_says_so(teams: Teams) -> None:
    told = await teams.call("foo", service="notes")
    assert told.error == "NexusHandlerError"
    assert "the caller chooses the id of this operation, and has chosen none" in told.message


async def test_an_id_that_no_header_can_carry_is_refused(teams: Teams) -> None:
    ask = Ask(teams.endpoint, id="größer")
    with pytest.raises(Exception, match="Workflow execution failed") as caught:
        await teams.orders.execute_workflow(AskWho.run, ask, id=uuid.uuid4().hex, task_queue=teams.queue)
    assert "id: expected were 1 to 1000 printable ASCII characters" in str(caught.value.__cause__)


def test_the_id_in_a_token_is_what_it_names() -> None:
    assert nexuskit.operation_id("eyJ0IjoxLCJucyI6Im4iLCJ3aWQiOiJteS13b3JrZmxvdyJ9") == "my-workflow"
    assert nexuskit.operation_id("a token of another kind") == "a token of another kind"
