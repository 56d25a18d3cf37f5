"""What can be listed, and by which attributes: for each kind of execution a `Subject`.

An attribute has a name, a type, and an SQL expression over its subject's table. Where the table has an index that
leads from the attribute's value to the newest executions that have it, the attribute names the index and its column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import ActivityExecutionStatus, NexusOperationExecutionStatus, WorkflowExecutionStatus

from nexuskit.backend.visibility import search_attributes
from nexuskit.backend.visibility.search_attributes import (
    BOOL,
    DATETIME,
    DOUBLE,
    INT,
    KEYWORD,
    KEYWORD_LIST,
    PREDEFINED,
    TEXT,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ACTIVITIES",
    "BOOL",
    "DATETIME",
    "DOUBLE",
    "INT",
    "KEYWORD",
    "KEYWORD_LIST",
    "OPERATIONS",
    "TEXT",
    "WORKFLOWS",
    "Attribute",
    "Subject",
]

OPEN = 2**63 - 1
"""In the column `listed`, where closed executions have their close time: open ones come first."""

ORDER = ("listed", "start_time", "id")
"""Columns by which lists are ordered, each descending; `listed` is the close time, or a very late one for open ones."""


@dataclass(frozen=True)
class Attribute:
    """One attribute, as the store has it.

    Attributes:
        kind: its type, such as `search_attributes.KEYWORD`.
        sql: an expression over the table's row, which is called `e`.
        index: an index of (listing, this attribute, status, listed, start_time), if there is one.
        column: the index's column. An index that is `unique` is of (namespace, this column), or this column alone.
        key: of a search attribute: what it is called in the column `attributes` and the table of that name.
        status: its values are statuses, written by name or number.
        span: its values are spans of time, in ns.
        listed: it is the close time, by which lists are ordered.
        unique: the index leads to one execution, or to the few of one name.
        otherwise: an attribute whose value counts where `column` is NULL.
    """

    kind: int
    sql: str = ""
    index: str = ""
    column: str = ""
    key: str = ""
    status: bool = False
    span: bool = False
    listed: bool = False
    unique: bool = False
    otherwise: str = ""


def _searched(name: str, kind: int) -> Attribute:
    return Attribute(kind, key=search_attributes.key(name, kind))


@dataclass(frozen=True)
class Subject:
    """A kind of execution that can be listed.

    Attributes:
        table: where its executions are, with the columns `listing`, `status`, `listed`, `start_time`, `id` and
            `attributes`.
        by_status: the index (listing, status, listed, start_time).
        attributes: name → attribute, those that every execution has.
        statuses: name of each status → its number, as `status` has it.
    """

    table: str
    by_status: str
    attributes: Mapping[str, Attribute]
    statuses: Mapping[str, int]
    predefined: Mapping[str, Attribute] = field(
        default_factory=lambda: MappingProxyType({name: _searched(name, kind) for name, kind in PREDEFINED.items()})
    )

    def find(self, name: str, custom: Mapping[str, int]) -> Attribute | None:
        """The attribute of that name; None if there is none. `Temporal` in front may be there, or left out."""
        if name in self.attributes:
            return self.attributes[name]
        if name in custom:
            return _searched(name, custom[name])
        if name == "ScheduleId":
            return self.attributes.get("WorkflowId")
        plain = name.removeprefix("Temporal")
        for each in (name, f"Temporal{name}", plain):
            if each in self.predefined:
                return self.predefined[each]
            if each in search_attributes.INTERNAL:
                return _searched(each, search_attributes.INTERNAL[each])
        return self.attributes.get(plain)


def written(name: str, prefix: str) -> str:
    """A status as the real server writes it, `TimedOut`, from its name in the protos."""
    return "".join(word.title() for word in name.removeprefix(prefix).split("_"))


def _statuses(items: Iterable[tuple[str, int]], prefix: str) -> Mapping[str, int]:
    """Names as the real server writes them (`TimedOut`) and as the protos do, for each status."""
    found: dict[str, int] = {}
    for name, number in items:
        if number:
            found[written(name, prefix)] = int(number)
            found[name] = int(number)
    return MappingProxyType(found)


WORKFLOWS = Subject(
    table="executions",
    by_status="executions_by_status",
    attributes=MappingProxyType(
        {
            "WorkflowId": Attribute(KEYWORD, "e.workflow_id", "executions_by_workflow", "workflow_id", unique=True),
            "RunId": Attribute(KEYWORD, "e.run_id", "executions_by_run", "run_id", unique=True),
            "WorkflowType": Attribute(KEYWORD, "e.workflow_type", "executions_by_type", "workflow_type"),
            "TaskQueue": Attribute(KEYWORD, "e.task_queue", "executions_by_queue", "task_queue"),
            "StartTime": Attribute(DATETIME, "e.start_time", "executions_by_start", "start_time"),
            "ExecutionTime": Attribute(DATETIME, "e.execution_time"),
            "CloseTime": Attribute(DATETIME, f"nullif(e.listed, {OPEN})", listed=True),
            "ExecutionStatus": Attribute(KEYWORD, "e.status", status=True),
            "HistoryLength": Attribute(INT, "e.history_length"),
            "HistorySizeBytes": Attribute(INT, "e.history_size"),
            "ExecutionDuration": Attribute(INT, "nullif(e.close_time, 0) - e.execution_time", span=True),
            "StateTransitionCount": Attribute(INT, "e.transitions"),
            "ParentWorkflowId": Attribute(
                KEYWORD, "e.parent_workflow_id", "executions_by_parent", "parent_workflow_id"
            ),
            "ParentRunId": Attribute(KEYWORD, "e.parent_run_id"),
            "RootWorkflowId": Attribute(
                KEYWORD,
                "coalesce(e.root_workflow_id, e.workflow_id)",
                "executions_by_root",
                "root_workflow_id",
                otherwise="WorkflowId",
            ),
            "RootRunId": Attribute(KEYWORD, "coalesce(e.root_run_id, e.run_id)"),
        }
    ),
    statuses=_statuses(WorkflowExecutionStatus.items(), "WORKFLOW_EXECUTION_STATUS_"),
)
"""Runs of workflows."""

ACTIVITIES = Subject(
    table="executions",
    by_status="executions_by_status",
    attributes=MappingProxyType(
        {
            "ActivityId": WORKFLOWS.attributes["WorkflowId"],
            "ActivityType": WORKFLOWS.attributes["WorkflowType"],
            **{
                name: WORKFLOWS.attributes[name]
                for name in (
                    "RunId",
                    "TaskQueue",
                    "StartTime",
                    "ExecutionTime",
                    "CloseTime",
                    "ExecutionStatus",
                    "ExecutionDuration",
                    "StateTransitionCount",
                )
            },
        }
    ),
    statuses=_statuses(ActivityExecutionStatus.items(), "ACTIVITY_EXECUTION_STATUS_"),
)
"""Activities that stand alone, in the same table: each namespace's are in a list of their own."""

OPERATIONS = Subject(
    table="executions",
    by_status="executions_by_status",
    attributes=MappingProxyType(
        {
            "OperationId": WORKFLOWS.attributes["WorkflowId"],
            "Operation": WORKFLOWS.attributes["WorkflowType"],
            "Endpoint": WORKFLOWS.attributes["TaskQueue"],
            **{name: Attribute(KEYWORD, key=search_attributes.own_key(name)) for name in ("Service", "RequestId")},
            **{
                name: WORKFLOWS.attributes[name]
                for name in (
                    "RunId",
                    "StartTime",
                    "ExecutionTime",
                    "CloseTime",
                    "ExecutionStatus",
                    "ExecutionDuration",
                    "StateTransitionCount",
                )
            },
        }
    ),
    statuses=_statuses(NexusOperationExecutionStatus.items(), "NEXUS_OPERATION_EXECUTION_STATUS_"),
)
"""Nexus operations that stand alone, likewise."""
