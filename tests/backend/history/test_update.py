"""The update machine, and the speculative workflow task that brings updates to a worker."""

import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import SuggestContinueAsNewReason, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.protocol.v1 import Message

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import update, workflow, workflow_task
from nexuskit.backend.history.update import Update
from nexuskit.backend.history.workflow_task import StartedTask
from nexuskit.backend.times import SECOND
from tests.support.messages import acceptance, place_of, rejection, request_of, response
from tests.support.world import World, complete_workflow, ids, start_timer, update_request

ADMITTED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED
ACCEPTED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
TOO_MANY_UPDATES = SuggestContinueAsNewReason.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_UPDATES

FIRST_TURN = [
    "WORKFLOW_EXECUTION_STARTED",
    "WORKFLOW_TASK_SCHEDULED",
    "WORKFLOW_TASK_STARTED",
    "WORKFLOW_TASK_COMPLETED",
]
TURN = ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_COMPLETED"]


@pytest.fixture
def world() -> World:
    """A workflow that has had its first turn, and waits."""
    world = World()
    world.start()
    world.turn()
    return world


def taken(world: World) -> StartedTask:
    started = world.take_task()
    assert started is not None
    return started


def stage(world: World, update_id: str) -> int | None:
    status = update.status(world.execution, update_id)
    return status.stage if status is not None else None


def refused(world: World, update_id: str) -> StatusError:
    with pytest.raises(StatusError) as raised:
        world.admit(update_id)
    return raised.value


def test_an_update_alone_makes_a_task_that_is_in_memory_only(world: World) -> None:
    world.admit("one")
    task = workflow_task.current(world.execution)
    assert task is not None
    assert task.speculative
    assert task.volatile
    assert world.event_types() == FIRST_TURN
    assert stage(world, "one") == ADMITTED


def test_a_task_brings_the_updates_in_the_order_of_their_coming_after_its_events(world: World) -> None:
    world.admit("one")
    world.admit("two")
    started = taken(world)
    assert [message.protocol_instance_id for message in started.messages] == ["one", "two"]
    assert [message.id for message in started.messages] == ["one/request", "two/request"]
    assert {message.event_id for message in started.messages} == {started.task.scheduled_id}
    assert [request_of(message) for message in started.messages] == [update_request("one"), update_request("two")]
    assert ids(started.transient) == [5, 6]
    assert world.event_types() == FIRST_TURN


def test_a_task_of_which_all_updates_are_rejected_leaves_no_trace(world: World) -> None:
    world.admit("one")
    started = taken(world)
    outcome = world.complete_task(messages=[rejection(started.messages[0], "too dear")])
    assert world.event_types() == FIRST_TURN
    assert outcome.reset_to == 3
    assert workflow_task.current(world.execution) is None
    assert stage(world, "one") is None
    failure = world.verdicts["one"].failure
    assert failure is not None
    assert failure.message == "too dear"


def test_an_accepted_update_makes_the_task_a_normal_one(world: World) -> None:
    world.admit("one")
    accepted = acceptance(taken(world).messages[0])
    outcome = world.complete_task(place_of(accepted), start_timer("t"), messages=[accepted])
    assert world.event_types() == [*FIRST_TURN, *TURN, "WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "TIMER_STARTED"]
    assert outcome.reset_to == 0
    assert stage(world, "one") == ACCEPTED
    attributes = world.history[-2].workflow_execution_update_accepted_event_attributes
    assert attributes.protocol_instance_id == "one"
    assert attributes.accepted_request_message_id == "one/request"
    assert attributes.accepted_request_sequencing_event_id == 5
    assert attributes.accepted_request == update_request("one")


def test_an_update_is_accepted_and_completed_in_one_turn(world: World) -> None:
    world.admit("one")
    accepted = acceptance(taken(world).messages[0])
    done = response("one")
    world.complete_task(place_of(accepted), place_of(done), messages=[done, accepted])
    assert world.event_types()[-2:] == ["WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "WORKFLOW_EXECUTION_UPDATE_COMPLETED"]
    status = update.status(world.execution, "one")
    assert status is not None
    assert (status.stage, status.completed_id) == (COMPLETED, world.history[-1].event_id)
    attributes = world.history[-1].workflow_execution_update_completed_event_attributes
    assert attributes.accepted_event_id == world.history[-2].event_id
    assert attributes.meta.update_id == "one"


def test_messages_that_no_command_names_are_carried_out_after_the_commands(world: World) -> None:
    world.admit("one")
    world.complete_task(start_timer("t"), messages=[acceptance(taken(world).messages[0]), response("one")])
    assert world.event_types()[-3:] == [
        "TIMER_STARTED",
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    ]


def test_an_update_id_that_is_known_is_not_admitted_again(world: World) -> None:
    world.admit("one")
    world.complete_task(messages=[acceptance(taken(world).messages[0]), response("one")])
    world.admit("one")
    assert stage(world, "one") == COMPLETED
    assert workflow_task.current(world.execution) is None


def test_anything_else_makes_a_waiting_speculative_task_a_normal_one(world: World) -> None:
    world.run(lambda tx: workflow_task.schedule(tx))
    world.take_task()
    world.complete_task(start_timer("t", 1))
    world.admit("one")
    world.pass_time(2 * SECOND)
    assert world.event_types()[-3:] == ["TIMER_STARTED", "WORKFLOW_TASK_SCHEDULED", "TIMER_FIRED"]
    task = workflow_task.current(world.execution)
    assert task is not None
    assert not task.speculative
    started = taken(world)
    assert started.transient == ()
    assert [message.protocol_instance_id for message in started.messages] == ["one"]


def test_anything_else_makes_a_started_speculative_task_a_normal_one_and_waits_for_it(world: World) -> None:
    world.run(lambda tx: workflow_task.schedule(tx))
    world.take_task()
    world.complete_task(start_timer("t", 1))
    world.admit("one")
    started = taken(world)
    world.pass_time(2 * SECOND)
    assert world.event_types()[-2:] == ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]
    assert world.history[-2:] == list(started.transient)
    world.complete_task(messages=[rejection(started.messages[0])])
    assert world.event_types()[-3:] == ["WORKFLOW_TASK_COMPLETED", "TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]


def test_an_update_that_comes_while_a_task_is_under_way_gets_the_next_one(world: World) -> None:
    world.admit("one")
    started = taken(world)
    world.admit("two")
    outcome = world.complete_task(messages=[rejection(started.messages[0])], take_next=True)
    assert outcome.next_task is not None
    assert [message.protocol_instance_id for message in outcome.next_task.messages] == ["two"]
    assert outcome.next_task.task.speculative
    assert outcome.reset_to == 3
    assert world.event_types() == FIRST_TURN


def test_a_heartbeat_of_a_speculative_task_is_written_and_brings_only_new_updates(world: World) -> None:
    world.admit("one")
    taken(world)
    world.admit("two")
    outcome = world.complete_task(another=True, take_next=True)
    assert outcome.next_task is not None
    assert not outcome.next_task.task.speculative
    assert [message.protocol_instance_id for message in outcome.next_task.messages] == ["two"]
    assert world.event_types() == [*FIRST_TURN, *TURN, "WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]


def test_an_update_that_the_worker_does_not_answer_is_rejected(world: World) -> None:
    world.admit("one")
    taken(world)
    world.complete_task()
    failure = world.verdicts["one"].failure
    assert failure is not None
    assert failure.application_failure_info.type == "UnprocessedUpdate"
    assert world.event_types() == FIRST_TURN


def test_a_failed_speculative_task_is_written_and_its_updates_come_again(world: World) -> None:
    world.admit("one")
    taken(world)
    world.fail_task()
    assert world.event_types() == [*FIRST_TURN, *TURN[:2], "WORKFLOW_TASK_FAILED"]
    started = taken(world)
    assert started.task.attempt == 2
    assert [message.protocol_instance_id for message in started.messages] == ["one"]


def test_a_speculative_task_that_nobody_takes_becomes_a_normal_one(world: World) -> None:
    world.admit("one")
    world.pass_time(limits.SPECULATIVE_TASK_WAITS)
    assert world.event_types() == [
        *FIRST_TURN,
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_TIMED_OUT",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert [message.protocol_instance_id for message in taken(world).messages] == ["one"]


def test_a_speculative_task_goes_to_the_sticky_queue_and_leaves_it_without_a_trace(world: World) -> None:
    world.run(lambda tx: workflow_task.schedule(tx))
    world.take_task()
    world.complete_task(sticky="mine")
    before = world.event_types()
    world.admit("one")
    task = workflow_task.current(world.execution)
    assert task is not None
    assert task.queue == "mine"
    world.run(workflow_task.unstick)
    task = workflow_task.current(world.execution)
    assert task is not None
    assert (task.queue, task.speculative) == ("orders", True)
    assert world.event_types() == before
    assert taken(world).history_from == 1


def test_a_task_with_many_new_events_is_kept_unless_the_worker_can_take_them_back(world: World) -> None:
    world.run(lambda tx: workflow_task.schedule(tx))
    world.take_task()
    world.complete_task(*(start_timer(f"t{number}") for number in range(3)))
    for able, kept in ((True, False), (False, True)):
        world.admit("one")
        outcome = world.complete_task(messages=[rejection(taken(world).messages[0])], discards_events=able)
        assert (outcome.reset_to == 0) is kept


def test_even_then_only_so_many(world: World) -> None:
    for count, kept in ((limits.DISCARDED_EVENTS, False), (limits.DISCARDED_EVENTS + 1, True)):
        world.run(lambda tx: workflow_task.schedule(tx))
        world.take_task()
        world.complete_task(*(start_timer(f"t{count}-{number}", 100) for number in range(count)))
        world.admit("one")
        outcome = world.complete_task(messages=[rejection(taken(world).messages[0])], discards_events=True)
        assert (outcome.reset_to == 0) is kept


def test_a_run_that_closes_keeps_what_was_accepted_and_forgets_what_was_not(world: World) -> None:
    for name in ("done", "open"):
        world.admit(name)
    messages = taken(world).messages
    world.complete_task(messages=[acceptance(messages[0]), acceptance(messages[1]), response("done")])
    world.admit("late")
    world.run(lambda tx: workflow.terminate(tx, "enough", "a-client"))
    assert world.event_types()[-1] == "WORKFLOW_EXECUTION_TERMINATED"
    assert world.event_types()[-2] == "WORKFLOW_EXECUTION_UPDATE_COMPLETED"
    assert stage(world, "done") == COMPLETED
    status = update.status(world.execution, "open")
    assert status is not None
    assert status.failure is not None
    assert status.failure.application_failure_info.type == "AcceptedUpdateCompletedWorkflow"
    assert stage(world, "late") is None
    assert refused(world, "new").code == Code.NOT_FOUND
    world.admit("done")


def test_an_update_in_the_turn_that_closes_the_run(world: World) -> None:
    world.admit("one")
    accepted = acceptance(taken(world).messages[0])
    done = response("one")
    world.complete_task(place_of(accepted), place_of(done), complete_workflow(), messages=[accepted, done])
    assert world.event_types()[-3:] == [
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    assert stage(world, "one") == COMPLETED


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda m: [response("one")], "received *update.Response message while in state Sent"),
        (lambda m: [response("two")], "update two wasn't found"),
        (lambda m: [acceptance(m), Message(id="x", protocol_instance_id="one", body=m.body)], "unsupported protocol"),
        (lambda m: [acceptance(m), Message(id="y", protocol_instance_id="one", body=rejection(m).body)], "Rejection"),
    ],
)
def test_a_wrong_message_fails_the_task_and_who_waits_is_told(world: World, wrong: object, says: str) -> None:
    world.admit("one")
    messages = wrong(taken(world).messages[0])
    outcome = world.complete_task(messages=messages)
    assert outcome.error is not None
    assert says in outcome.error.message
    assert outcome.error.message.startswith("BadUpdateWorkflowExecutionMessage: ")
    assert world.event_types()[-3:] == [*TURN[:2], "WORKFLOW_TASK_FAILED"]
    error = world.verdicts["one"].error
    assert error is not None
    assert error.code == Code.FAILED_PRECONDITION
    assert stage(world, "one") is None


def test_a_command_that_names_no_message_fails_the_task(world: World) -> None:
    world.admit("one")
    accepted = acceptance(taken(world).messages[0])
    outcome = world.complete_task(place_of(accepted))
    assert outcome.error is not None
    assert "ProtocolMessageCommand referenced absent message ID one/accept" in outcome.error.message


def test_an_update_that_was_lost_comes_back_with_its_acceptance(world: World) -> None:
    world.run(lambda tx: workflow_task.schedule(tx))
    world.admit("one")
    accepted = acceptance(taken(world).messages[0])
    world.execution.of(Update).remove("one")  # as after a crash: the task is on disk, the update is not
    world.execution.settle()
    world.complete_task(messages=[accepted])
    assert stage(world, "one") == ACCEPTED
    assert world.history[-1].workflow_execution_update_accepted_event_attributes.accepted_request == update_request(
        "one"
    )


def test_a_workflow_whose_task_keeps_failing_gets_no_updates(world: World) -> None:
    world.run(lambda tx: workflow_task.schedule(tx))
    world.take_task()
    world.fail_task()
    world.admit("one")
    world.take_task()
    world.fail_task()
    assert refused(world, "two").code == Code.FAILED_PRECONDITION


def test_a_response_that_is_too_long_ends_the_run_and_a_long_request_that_comes_back_does_not(world: World) -> None:
    for number, (size, fits) in enumerate(((limits.PAYLOAD_SIZE - 200, True), (limits.PAYLOAD_SIZE, False))):
        request = update_request(str(number))
        request.input.args.CopyFrom(Payloads(payloads=[Payload(data=b"x" * (limits.PAYLOAD_SIZE - 200))]))
        world.run(lambda tx, request=request: update.admit(tx, request))
        accepted = acceptance(taken(world).messages[0])
        world.complete_task(messages=[accepted, response(str(number), b"x" * size)])
        assert world.execution.info.running is fits
        assert (stage(world, str(number)) == COMPLETED) is fits


def test_at_most_ten_are_in_flight(world: World) -> None:
    for number in range(limits.UPDATES_IN_FLIGHT):
        world.admit(str(number))
    error = refused(world, "one too many")
    assert error.code == Code.RESOURCE_EXHAUSTED
    assert error.message == "limit on number of concurrent in-flight updates has been reached (10)"
    world.complete_task(messages=[rejection(taken(world).messages[0])])
    world.admit("another")


def test_their_size_is_limited(world: World) -> None:
    def admit(update_id: str, size: int) -> None:
        request = update_request(update_id)
        request.input.args.CopyFrom(Payloads(payloads=[Payload(data=b"x" * size)]))
        world.run(lambda tx: update.admit(tx, request))

    admit("large", limits.UPDATES_IN_FLIGHT_SIZE - 1000)
    with pytest.raises(StatusError) as raised:
        admit("over", 1000)
    assert raised.value.code == Code.RESOURCE_EXHAUSTED
    assert "limit on total payload size of in-flight updates has been reached (20971520 bytes)" in raised.value.message
    admit("under", 500)


def test_at_most_two_thousand_in_all_and_the_workflow_is_told_in_time(world: World) -> None:
    told: dict[int, bool] = {}
    for number in range(limits.UPDATES):
        world.admit(str(number))
        started = taken(world)
        reasons = started.transient[1].workflow_task_started_event_attributes.suggest_continue_as_new_reasons
        told[number] = TOO_MANY_UPDATES in reasons
        if number == limits.UPDATES - 1:
            break
        world.complete_task(messages=[acceptance(started.messages[0], bring=False), response(str(number))])
    error = refused(world, "one too many")
    assert error.code == Code.FAILED_PRECONDITION
    assert "(2000)" in error.message
    assert told[limits.SUGGEST_CONTINUE_AS_NEW_UPDATES - 1]
    assert not told[limits.SUGGEST_CONTINUE_AS_NEW_UPDATES - 2]
