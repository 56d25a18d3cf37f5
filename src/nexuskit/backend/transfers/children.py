"""Children: started for their parents, reported to them, ended with them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ParentClosePolicy, StartChildWorkflowExecutionFailedCause
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes

from nexuskit.backend import starting
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity_options, cancel, child, reuse, start, workflow
from nexuskit.backend.history.identities import SERVER
from nexuskit.backend.times import duration

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent, StartChildWorkflowExecutionInitiatedEventAttributes

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.transaction import Transaction

log = logging.getLogger("nexuskit.backend.transfers")

_TAKEN = StartChildWorkflowExecutionFailedCause.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS
BY_POLICY = "by parent close policy"
"""The reason in the history of a child that ends with its parent."""


class Children:
    """Carries out what binds parents and children."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start(self, waiting: Waiting) -> None:
        """Start a child that was written down, if its parent still waits for that."""
        engine = self._engine
        parent = await engine.get(waiting.execution)
        row = child.waiting(parent.execution, int(waiting.key))
        if row is None:
            return
        event = await engine.event(parent, row.initiated_id)
        attributes = event.start_child_workflow_execution_initiated_event_attributes
        parent, there = await self._both(waiting, row.namespace_id, row.workflow_id)
        if child.waiting(parent.execution, row.initiated_id) is None:
            return
        # No `await` from here on: both sides are in the same commit group.
        verdict = reuse.Verdict.START
        if there is not None:
            try:
                verdict = reuse.resolve(there.execution.info, attributes.workflow_id_reuse_policy, 0)
            except StatusError as error:
                if error.code != Code.ALREADY_EXISTS:
                    raise
                engine.run(parent, lambda tx: child.start_failed(tx, row, int(_TAKEN), attributes))
                return
        metadata = event.user_metadata if event.HasField("user_metadata") else None
        run = start.StartRun(self._attributes(parent, event, attributes), engine.draw.uuid(), (), metadata)
        instead_of = there if verdict is reuse.Verdict.TERMINATE else None
        made = starting.begin(engine, row.namespace_id, row.workflow_id, run, instead_of=instead_of)
        header = attributes.header if attributes.HasField("header") else None
        if not parent.execution.info.running:  # it had the id itself, and made room
            return
        try:
            engine.run(parent, lambda tx: child.started(tx, row, made.execution.info.run_id, header))
        except StatusError as error:
            if parent.execution.info.running:
                raise
            log.info("workflow %r ended as its child %r began: %s", parent.execution.info.workflow_id, row.workflow_id,
                     error)  # fmt: skip
            self._part(parent, made, row.policy)

    async def _both(self, waiting: Waiting, namespace_id: str, workflow_id: str) -> tuple[Resident, Resident | None]:
        """The run that wants something, and the newest run of a workflow id; await nothing before you act."""
        while True:
            resident = await self._engine.get(waiting.execution)
            there = await starting.newest(self._engine, namespace_id, workflow_id)
            if not resident.lost:
                return resident, there

    def _attributes(
        self,
        parent: Resident,
        event: HistoryEvent,
        given: StartChildWorkflowExecutionInitiatedEventAttributes,
    ) -> WorkflowExecutionStartedEventAttributes:
        info = parent.execution.info
        root = (info.root.workflow_id, info.root.run_id) if info.root else (info.workflow_id, info.run_id)
        first = start.first_pause(given.cron_schedule, self._engine.clock.now())
        return WorkflowExecutionStartedEventAttributes(
            workflow_type=given.workflow_type,
            parent_workflow_namespace=given.namespace,
            parent_workflow_namespace_id=info.namespace_id,
            parent_workflow_execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
            parent_initiated_event_id=event.event_id,
            root_workflow_execution=WorkflowExecution(workflow_id=root[0], run_id=root[1]),
            task_queue=given.task_queue,
            input=given.input if given.HasField("input") else None,
            workflow_execution_timeout=given.workflow_execution_timeout,
            workflow_run_timeout=given.workflow_run_timeout,
            workflow_task_timeout=given.workflow_task_timeout,
            initiator=start.cron_initiator(given.cron_schedule),
            retry_policy=given.retry_policy if given.HasField("retry_policy") else None,
            cron_schedule=given.cron_schedule,
            first_workflow_task_backoff=duration(first),
            header=given.header if given.HasField("header") else None,
            memo=given.memo if given.HasField("memo") else None,
            search_attributes=given.search_attributes if given.HasField("search_attributes") else None,
            priority=activity_options.effective_priority(info.priority, given.priority.SerializeToString()),
        )

    async def report(self, waiting: Waiting) -> None:
        """Tell the parent how this run ended, if it still waits for that."""
        engine = self._engine
        closed = await engine.get(waiting.execution)
        info = closed.execution.info
        if info.parent is None or closed.execution.of(child.Report).get(child.ONLY) is None:
            return
        event = await engine.event(closed, info.close_event_id)
        parent = await self._parent(closed)
        while closed.lost or (parent is not None and parent.lost):
            closed = await engine.get(waiting.execution)
            parent = await self._parent(closed)
        if closed.execution.of(child.Report).get(child.ONLY) is None:
            return
        if parent is not None:
            row = child.find(parent.execution, info.parent.initiated_id, info.workflow_id, info.first_run_id)
            if row is not None:
                engine.run(parent, lambda tx: child.ended(tx, row, info.run_id, event))
        engine.run(closed, lambda tx: tx.note(child.Reported()))

    async def _parent(self, closed: Resident) -> Resident | None:
        """The parent's run that waits for this child: the one that started it, or one that was reset from that."""
        parent = closed.execution.info.parent
        run_id = parent.run_id if parent else ""
        while parent is not None and run_id:
            try:
                resident = await self._engine.find(parent.namespace_id, parent.workflow_id, run_id)
            except StatusError as error:
                if error.code != Code.NOT_FOUND:
                    raise
                return None
            run_id = resident.execution.info.reset_run_id
            if resident.execution.info.running or not run_id:
                return resident
        return None

    async def treat(self, waiting: Waiting) -> None:
        """End or cancel a child whose parent has closed, as its policy says."""
        engine = self._engine
        parent = await engine.get(waiting.execution)
        orphan = parent.execution.of(child.Orphan).get(waiting.key)
        if orphan is None:
            return
        info = parent.execution.info
        parent, there = await self._both(waiting, info.namespace_id, orphan.workflow_id)
        if parent.execution.of(child.Orphan).get(waiting.key) is None:
            return
        if there is not None and there.execution.info.first_run_id == orphan.run_id:
            self._part(parent, there, orphan.policy)
        engine.run(parent, lambda tx: tx.note(child.Treated(orphan.initiated_id)))

    def _part(self, parent: Resident, there: Resident, policy: int) -> None:
        """The parent has closed: its child is ended, cancelled or left alone."""
        info = parent.execution.info
        asked = cancel.CancelRequest(
            "", SERVER, (), WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id)
        )

        def decide(tx: Transaction) -> None:
            if policy == ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
                cancel.request(tx, asked)
            elif policy != ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON and tx.state.info.running:
                workflow.terminate(tx, BY_POLICY, SERVER)

        self._engine.run(there, decide)
