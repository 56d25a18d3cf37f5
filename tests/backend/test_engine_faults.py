"""A commit that fails: what was in memory for it is gone, what is on disk is as it was, and everything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget

from nexuskit.backend.engine import Resident
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import workflow
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.history.workflow_task import WorkflowTask
from nexuskit.backend.limits import FAULT_PAUSE
from nexuskit.backend.namespaces import Namespace, Namespaces
from nexuskit.backend.nexus.endpoints import Endpoints
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.store.store import Ticket
from nexuskit.backend.times import MINUTE, SECOND
from nexuskit.identity.uris import instance_uri
from tests.support import disk
from tests.support.clock import NOW, settle
from tests.support.engine import NAMESPACE, QUEUE, Orders, orders
from tests.support.world import complete_workflow, start_timer


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Orders]:
    async with orders(tmp_path / "nexus.db") as made:
        yield made


async def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(StatusError) as caught:
        await work
    assert caught.value.code == Code.UNAVAILABLE
    return caught.value.message


async def lose(backend: Orders, change: Callable[[], Resident]) -> Resident:
    """Something happens that cannot be written; answers with the copy that was in memory."""
    with disk.broken(backend.database):
        resident = change()
        assert disk.REFUSAL in await refused(backend.engine.durable(resident))
    await backend.idle()
    return resident


async def test_the_caller_is_told_and_the_next_request_sees_what_is_on_disk(backend: Orders) -> None:
    number = await backend.started("order", start_timer("t", 60))
    resident = await backend.engine.get(number)
    before = await backend.engine.store.reader.execution(number)
    lost = await lose(backend, lambda: backend.turn_by_timer(resident, start_timer("another", 60)))
    again = await backend.engine.get(number)
    assert again is not lost
    assert before is not None
    assert again.execution.info == before.info
    assert sorted(again.execution.rows(), key=str) == sorted(before.rows(), key=str)
    assert await backend.event_names(number) == [
        "workflow_execution_started",
        "workflow_task_scheduled",
        "workflow_task_started",
        "workflow_task_completed",
        "timer_started",
    ]


async def test_a_later_commit_works_and_the_workflow_ends(backend: Orders) -> None:
    number = await backend.started()
    resident = await backend.engine.get(number)
    await lose(backend, lambda: backend.turn(resident, start_timer("t", 60)))
    backend.turn(await backend.engine.get(number), complete_workflow())
    await backend.idle()
    assert (await backend.event_names(number))[-1] == "workflow_execution_completed"
    assert backend.engine.store.failures == 1


async def test_who_still_holds_the_lost_copy_cannot_change_it(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    lost = await lose(backend, lambda: backend.turn(resident))
    with pytest.raises(StatusError, match="ask again") as caught:
        backend.take(lost)
    assert caught.value.code == Code.UNAVAILABLE
    await refused(backend.engine.durable(lost))


async def test_who_waits_for_events_of_the_lost_copy_is_woken(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    waiting = [
        asyncio.ensure_future(backend.engine.more_events(resident, NOW + MINUTE, last=last)) for last in (True, False)
    ]
    await settle()
    lost = await lose(backend, lambda: backend.turn(resident))
    await asyncio.gather(*waiting)
    assert lost.lost


async def test_a_run_that_was_to_start_never_was_and_can_be_started_again(
    backend: Orders, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await lose(backend, lambda: backend.start("order", workflow_run_timeout={"seconds": 60}))
    number, run_id = lost.execution.id, lost.execution.info.run_id
    for work in (
        backend.engine.get(number),
        backend.engine.find(NAMESPACE, "order"),
        backend.engine.find(NAMESPACE, "order", run_id),
    ):
        with pytest.raises(StatusError) as caught:
            await work
        assert caught.value.code == Code.NOT_FOUND
    assert await backend.engine.current(NAMESPACE, "order") is None
    assert backend.engine.tasks.backlog(QUEUE) == 0
    assert backend.moments == 0
    again = await backend.started("order")
    assert again != number
    assert await backend.engine.current(NAMESPACE, "order") == again
    assert [record.name for record in caplog.records] == ["nexuskit.backend.store"]


async def test_the_run_before_one_that_never_was_is_the_current_one_again(backend: Orders) -> None:
    first = await backend.started()
    backend.turn(await backend.engine.get(first), complete_workflow())
    await backend.idle()
    await lose(backend, backend.start)
    assert await backend.engine.current(NAMESPACE, "order") == first
    assert (await backend.engine.find(NAMESPACE, "order")).execution.id == first


async def test_a_task_that_was_taken_waits_in_its_queue_again(backend: Orders) -> None:
    number = await backend.started()
    taken = await backend.engine.tasks.take(QUEUE, 0)
    assert taken is not None
    resident = await backend.engine.get(number)

    def take() -> Resident:
        assert backend.take(resident) is not None
        return resident

    await lose(backend, take)
    again = await backend.engine.tasks.take(QUEUE, 0)
    assert again == taken
    assert backend.take(await backend.engine.get(number)) is not None


async def test_a_poller_that_waits_gets_the_task_that_was_lost_on_its_way_to_another(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    assert await backend.engine.tasks.take(QUEUE, 0) is not None
    poller = asyncio.ensure_future(backend.engine.tasks.take(QUEUE, NOW + MINUTE))
    await settle()
    assert not poller.done()
    await lose(backend, lambda: backend.turn(resident, complete_workflow()))
    taken = await poller
    assert taken is not None
    assert taken[1].execution == resident.execution.id


async def test_a_timer_that_fired_into_nothing_fires_again(backend: Orders) -> None:
    number = await backend.started("order", start_timer("t", 60))
    with disk.broken(backend.database):
        backend.clock.pass_time(60 * SECOND)
        resident = await backend.engine.get(number)
        assert dict(resident.execution.of(Timer).items()) == {}
        await refused(backend.engine.durable(resident))
    await backend.idle()
    backend.clock.pass_time()
    await backend.idle()
    assert (await backend.event_names(number))[-2:] == ["timer_fired", "workflow_task_scheduled"]
    assert backend.engine.tasks.backlog(QUEUE) == 1


async def test_a_timer_that_was_to_be_started_never_rings(backend: Orders) -> None:
    number = await backend.started()
    resident = await backend.engine.get(number)
    await lose(backend, lambda: backend.turn(resident, start_timer("t", 60)))
    assert backend.moments == 0
    backend.clock.pass_time(61 * SECOND)
    await backend.idle()
    assert await backend.event_names(number) == ["workflow_execution_started", "workflow_task_scheduled"]


async def test_a_group_that_fails_takes_the_one_that_was_built_on_it_along(backend: Orders) -> None:
    one, two = [await backend.engine.get(await backend.started(name)) for name in ("one", "two")]
    backend.database.first.execute(
        "CREATE TEMP TRIGGER no BEFORE INSERT ON main.events WHEN NEW.execution = 1"
        " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    backend.turn(one, start_timer("t", 60))
    async with disk.held(backend.engine.store, backend.database):
        backend.turn(two, complete_workflow())
        three = backend.start("three")
        backend.engine.run(one, lambda tx: workflow.terminate(tx, "enough", "somebody"))
    for resident in (one, two, three):
        assert "not this one" in await refused(backend.engine.durable(resident))
    await backend.idle()
    backend.database.first.execute("DROP TRIGGER no")
    for number in (1, 2):
        assert await backend.event_names(number) == ["workflow_execution_started", "workflow_task_scheduled"]
    assert await backend.engine.current(NAMESPACE, "three") is None
    assert backend.engine.tasks.backlog(QUEUE) == 2
    assert backend.engine.store.failures == 1


async def test_a_run_that_was_to_start_and_went_on_in_the_next_group_never_was(
    backend: Orders, caplog: pytest.LogCaptureFixture
) -> None:
    with disk.broken(backend.database):
        resident = backend.start()
        async with disk.held(backend.engine.store, backend.database):
            backend.turn(resident, start_timer("t", 60))
        await refused(backend.engine.durable(resident))
        await backend.idle()
    assert await backend.engine.current(NAMESPACE, "order") is None
    assert (backend.engine.tasks.backlog(QUEUE), backend.moments) == (0, 0)
    assert [record.name for record in caplog.records] == ["nexuskit.backend.store"]


async def test_what_must_happen_next_is_known_again_once_the_disk_can_be_read_again(backend: Orders) -> None:
    number = await backend.started("order", start_timer("t", 60))
    resident = await backend.engine.get(number)
    with disk.gone(backend.database):  # it can be neither written nor read
        backend.turn_by_timer(resident)
        await refused(backend.engine.durable(resident))
        await backend.idle()
        for _ in range(3):
            backend.clock.pass_time(FAULT_PAUSE)
            await backend.idle()
        assert backend.moments == 0
    for _ in range(2):
        backend.clock.pass_time(FAULT_PAUSE)
        await backend.idle()
    assert "timer_fired" in await backend.event_names(number)
    assert backend.engine.tasks.backlog(QUEUE) == 1


async def test_a_disk_that_is_full_is_a_commit_that_fails(backend: Orders) -> None:
    number = await backend.started()
    backend.database.first.execute("VACUUM")
    pages = backend.database.first.execute("PRAGMA page_count").fetchone()[0]
    backend.database.first.execute(f"PRAGMA max_page_count = {pages}")
    resident = await backend.engine.get(number)
    backend.turn(resident, *(start_timer(f"{'t' * 900}{each}", 60) for each in range(40)))
    assert "disk is full" in await refused(backend.engine.durable(resident))
    await backend.idle()
    backend.database.first.execute("PRAGMA max_page_count = 1000000")
    backend.turn(await backend.engine.get(number), complete_workflow())
    await backend.idle()
    assert (await backend.event_names(number))[-1] == "workflow_execution_completed"


async def test_what_is_lost_was_on_no_disk_and_what_is_answered_is_there_after_a_start(tmp_path: Path) -> None:
    async with orders(tmp_path / "nexus.db") as backend:
        kept = await backend.started("kept", start_timer("t", 60))
        await lose(backend, lambda: backend.start("lost"))
        resident = await backend.engine.get(kept)
        await lose(backend, lambda: backend.turn_by_timer(resident, complete_workflow()))
    async with orders(tmp_path / "nexus.db", backend.clock) as backend:
        assert await backend.engine.current(NAMESPACE, "lost") is None
        backend.clock.pass_time()
        await backend.idle()
        assert (await backend.event_names(kept))[-2:] == ["timer_fired", "workflow_task_scheduled"]
        task = (await backend.engine.get(kept)).execution.of(WorkflowTask).get(0)
        assert task is not None
        assert not task.started


# --- namespaces and endpoints


@pytest.fixture
def registry(backend: Orders) -> tuple[Namespaces, Endpoints]:
    namespaces = Namespaces(backend.engine.store, limits=DEFAULTS)
    return namespaces, Endpoints(backend.engine.store, namespaces, limits=DEFAULTS)


async def fails(backend: Orders, change: Callable[[], Ticket]) -> None:
    with disk.broken(backend.database):
        await refused(change().wait())


def spec(name: str, queue: str = "queue") -> EndpointSpec:
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace="orders", task_queue=queue))
    return EndpointSpec(name=name, target=target)


async def test_a_namespace_that_could_not_be_written_never_was(
    backend: Orders, registry: tuple[Namespaces, Endpoints]
) -> None:
    namespaces, _ = registry
    await fails(backend, lambda: namespaces.add(Namespace(id="1", name="orders")))
    assert not namespaces.has("orders")
    with pytest.raises(StatusError):
        namespaces.get_by_id("1")
    await namespaces.add(Namespace(id="2", name="orders")).wait()
    assert namespaces.all() == [Namespace(id="2", name="orders")]


async def test_a_namespace_whose_change_could_not_be_written_is_as_it_was(
    backend: Orders, registry: tuple[Namespaces, Endpoints]
) -> None:
    namespaces, _ = registry
    first = Namespace(id="1", name="orders")
    await namespaces.add(first).wait()

    def change_twice() -> Ticket:
        namespaces.change(Namespace(id="1", name="orders", description="second"))
        return namespaces.change(Namespace(id="1", name="orders", description="third"))

    await fails(backend, change_twice)
    assert namespaces.get("orders") == namespaces.get_by_id("1") == first


ID = "00000000-0000-4000-8000-00000000000"


async def test_endpoints_are_as_they_were_before_changes_that_could_not_be_written(
    backend: Orders, registry: tuple[Namespaces, Endpoints]
) -> None:
    namespaces, endpoints = registry
    await namespaces.add(Namespace(id="1", name="orders")).wait()
    endpoints.create(spec("renamed"), ID + "1", NOW)
    _, ticket = endpoints.create(spec("deleted"), ID + "2", NOW)
    await ticket.wait()
    before, routes = endpoints.all(), dict(endpoints.routes)

    def change_everything() -> Ticket:
        endpoints.update(ID + "1", 1, spec("other"), NOW)
        endpoints.delete(ID + "2", 1)
        endpoints.create(spec("renamed"), ID + "3", NOW)  # takes the name that has become free
        endpoints.update(ID + "3", 1, spec("deleted"), NOW)  # and so does this
        endpoints.update(ID + "1", 2, spec("renamed", "elsewhere"), NOW)
        return endpoints.delete(ID + "3", 2)

    await fails(backend, change_everything)
    assert endpoints.all() == before
    assert endpoints.routes == routes
    await change_everything().wait()
    assert {name: route.id for name, route in endpoints.routes.items()} == {
        "renamed": ID + "1",
        instance_uri(ID + "1"): ID + "1",
    }
    assert endpoints.get(ID + "1").version == 3
