"""A world whose rows and events are also kept as the store would keep them, to be read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from nexuskit.backend.history import (
    activity,
    buffer,
    callback,
    child,
    nexus_cancellation,
    nexus_operation,
    start,
    workflow_task,
)
from nexuskit.backend.history.rules import ROWS, RULES
from nexuskit.backend.history.state import Execution, Index, Info, Key, lasting
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.settings import DEFAULTS
from tests.support.world import (
    World,
)


class Stored:
    """What the store would hold."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Key], bytes] = {}
        self.index: dict[tuple[str, Key], Index] = {}

    def write(self, execution: Execution) -> None:
        for change in lasting(execution.changes()):
            place = (change.kind, change.key)
            if change.after is None:
                self.rows.pop(place, None)
                self.index.pop(place, None)
            else:
                self.rows[place] = msgspec.msgpack.encode(change.after)
                self.index[place] = change.after.index(execution.info)

    def read(self, info: Info) -> Execution:
        execution = Execution(1, msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=Info))
        for (kind, key), body in self.rows.items():
            execution.of(ROWS[kind]).put(key, msgspec.msgpack.decode(body, type=ROWS[kind]))
        execution.settle()
        return execution


class StoringWorld(World):
    """A world that writes what changed down, as the engine does, before it settles."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()
        self.handed_on = 0
        """Callbacks that the run which follows has."""

    def run(self, decide: Callable[[Transaction], Any]) -> Any:
        def noting(tx: Transaction) -> Any:
            answer = decide(tx)
            self.stored.write(tx.state)
            if tx.successor is not None:
                self.follow(tx)
            return answer

        return super().run(noting)

    def follow(self, ended: Transaction) -> None:
        """The run that follows the one which has just ended begins, and has what was handed on to it."""
        assert ended.successor is not None
        before = ended.state.info
        assert before.new_run_id == ended.successor.run_id
        info = Info(namespace_id=before.namespace_id, workflow_id=before.workflow_id, run_id=before.new_run_id)
        execution = Execution(2, info)
        tx = Transaction(RULES, execution, self.now, self.draw, limits=DEFAULTS)
        ended.successor.begin(tx)
        execution.settle()
        assert (info.first_run_id, info.parent) == (before.first_run_id, before.parent)
        assert execution.info.execution_expiration == before.execution_expiration
        assert [event.event_id for event in tx.events] == list(range(1, execution.info.next_event_id))
        assert not list(ended.state.of(callback.Callback).items())
        self.handed_on = len(execution.of(callback.Callback))
        waits = start.pausing(execution)
        assert waits != (workflow_task.current(execution) is not None)


def told_by_history(execution: Execution) -> dict[str, Any]:
    """The part of an execution that its history determines."""
    info = execution.info
    told: dict[str, Any] = {
        "info": (
            info.workflow_type,
            info.status,
            info.start_time,
            info.close_time,
            info.next_event_id,
            info.history_size,
            info.previous_started_id,
            info.close_event_id,
            info.cancel_requested,
            info.signals,
            info.parent,
            info.execution_time,
            info.run_deadline,
            info.new_run_id,
        )
    }
    for kind, key, row in execution.rows():
        if isinstance(row, activity.Activity):
            told[f"{kind} {key}"] = (row.activity_id, row.activity_type, row.scheduled_time, row.cancel_requested)
        elif isinstance(row, nexus_operation.NexusOperation):
            told[f"{kind} {key}"] = (row.request_id, row.scheduled_time, row.started_time, row.token)
        elif isinstance(row, nexus_cancellation.NexusCancellation):
            ended = row.state in (nexus_cancellation.State.SUCCEEDED, nexus_cancellation.State.FAILED)
            waits = row.state == nexus_cancellation.State.UNSPECIFIED
            told[f"{kind} {key}"] = (
                row.requested_id,
                row.requested_time,
                row.state if ended or waits else "to be told",
            )
        elif isinstance(row, workflow_task.WorkflowTask):
            if not row.transient:
                told[f"{kind} {key}"] = (row.scheduled_id, row.started_id, row.started_time, row.request_id)
        elif row.volatile:
            continue
        elif kind not in NOT_TOLD:
            told[f"{kind} {key}"] = row
    return told


NOT_TOLD = {
    callback.Callback.kind,
    buffer.Buffered.kind,
    child.Orphan.kind,
    child.Report.kind,
    start.FirstTask.kind,
}
"""Rows that records change, too."""
