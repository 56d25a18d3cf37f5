"""An engine on a real file, with a clock that a test moves, and workflows that a test plays by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from nexuskit.backend.draw import Draw
from nexuskit.backend.engine import Engine, Resident
from nexuskit.backend.history import start, task_completion, timer, update, workflow_task
from nexuskit.backend.history.state import Destination, Info
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.store.database import Database, open_database
from nexuskit.backend.store.reader import read_everything
from tests.support.clock import FakeClock, settle
from tests.support.world import ENDPOINTS

NAMESPACE = "ns"
QUEUE = Destination("workflow", NAMESPACE, "orders")


class Orders:
    """An engine, and the workflows of one namespace."""

    def __init__(self, database: Database, clock: FakeClock, draw: Draw) -> None:
        self.database = database
        self.clock = clock
        self.engine = Engine(database, clock, draw, limits=DEFAULTS)
        self.engine.endpoints = ENDPOINTS

    @classmethod
    def on(cls, path: Path, clock: FakeClock | None = None) -> Orders:
        """On this file; nothing is read or done yet."""
        # A draw that goes on where another one stopped would give the same ids again.
        return cls(open_database(path), clock or FakeClock(), Draw())

    async def resume(self) -> None:
        """Goes on with what is on disk, as a backend does when it starts."""
        everything = await self.engine.store.reader.run(read_everything)
        self.engine.resume(everything.entries, everything.last_execution)
        await self.idle()

    async def idle(self) -> None:
        """Waits until everything is on disk that will be, and nothing goes on by itself."""
        while True:
            _, ticket = self.engine.store.group()
            await asyncio.gather(ticket.wait(), *self.engine.agenda._background, return_exceptions=True)
            await settle()
            if not self.engine.agenda._background:
                return

    def start(self, workflow_id: str = "order", **options: object) -> Resident:
        """Starts a workflow; it is not on disk yet."""
        info = Info(namespace_id=NAMESPACE, workflow_id=workflow_id, run_id=self.engine.draw.run_id(self.clock.now()))
        request = StartWorkflowExecutionRequest(
            workflow_id=workflow_id,
            request_id=f"request of {workflow_id}",
            workflow_type=WorkflowType(name="PlaceOrder"),
            task_queue=TaskQueue(name=QUEUE.queue),
            **options,
        )
        resident, _ = self.engine.create(
            info, lambda tx: start.begin(tx, start.from_request(request, tx.now, DEFAULTS))
        )
        return resident

    def take(self, resident: Resident) -> workflow_task.StartedTask | None:
        """A worker takes the workflow's task, if one waits."""
        waiting = workflow_task.current(resident.execution)
        stamp = waiting.stamp if waiting is not None else 0
        return self.engine.run(resident, lambda tx: update.deliver(tx, workflow_task.Start(stamp, "worker")))

    def complete(self, resident: Resident, *commands: Command, sticky: str = "") -> None:
        """The worker answers with these commands."""
        task = workflow_task.current(resident.execution)
        assert task is not None
        request = task_completion.CompleteTask(
            scheduled_id=task.scheduled_id,
            attempt=task.attempt,
            started_time=task.started_time,
            commands=commands,
            identity="worker",
            sdk_metadata=None,
            worker_version=None,
            sticky_queue=sticky,
            sticky_timeout=5_000_000_000 if sticky else 0,
            another=False,
            take_next=False,
        )
        self.engine.run(resident, lambda tx: task_completion.decide(tx, request))

    def turn(self, resident: Resident, *commands: Command, sticky: str = "") -> Resident:
        """A worker takes the task and answers it."""
        assert self.take(resident) is not None
        self.complete(resident, *commands, sticky=sticky)
        return resident

    def turn_by_timer(self, resident: Resident, *commands: Command) -> Resident:
        """The earliest timer fires, and a worker takes the turn that follows."""
        row = min((row for _, row in resident.execution.of(Timer).items()), key=lambda row: row.fires)
        self.clock.jump(row.fires - self.clock.now())
        self.engine.run(resident, lambda tx: timer.due(tx, row))
        return self.turn(resident, *commands)

    async def started(self, workflow_id: str = "order", *commands: Command) -> int:
        """Starts a workflow, takes its first turn, and waits for the disk; answers with its number."""
        resident = self.start(workflow_id)
        if commands:
            self.turn(resident, *commands)
        await self.idle()
        return resident.execution.id

    @property
    def moments(self) -> int:
        """How many moments are waited for."""
        return len(self.engine.agenda._alarms)

    async def event_names(self, number: int) -> list[str]:
        """The events of a workflow's history, short."""
        resident = await self.engine.get(number)
        events = await self.engine.events(resident, 1, resident.execution.info.next_event_id - 1, 10**9)
        assert [event.event_id for event in events] == list(range(1, len(events) + 1))
        return [event.WhichOneof("attributes").removesuffix("_event_attributes") for event in events]


@asynccontextmanager
async def orders(path: Path, clock: FakeClock | None = None) -> AsyncIterator[Orders]:
    """An engine on this file, which goes on with what is in it, for as long as this lasts."""
    made = Orders.on(path, clock)
    try:
        await made.resume()
        yield made
    finally:
        await made.engine.close()
