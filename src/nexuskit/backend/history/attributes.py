"""What a run says of itself: search attributes to be found by, and its memo.

A workflow's code may change both at any time. What it sets is merged into what is there; null takes an attribute or a
memo's field away. History holds the changes; the run's `Info` holds what has become of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Memo
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import (
    UpsertWorkflowSearchAttributesEventAttributes,
    WorkflowPropertiesModifiedEventAttributes,
)

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history.command import CommandError, check_given
from nexuskit.backend.visibility import search_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.api.command.v1 import Command
    from temporalio.api.common.v1 import Payload, SearchAttributes
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD_ATTRIBUTES = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
_BAD_PROPERTIES = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES


# --- what happened


def apply_upserted(state: Execution, event: HistoryEvent) -> None:
    """Search attributes were set, or taken away."""
    given = event.upsert_workflow_search_attributes_event_attributes.search_attributes
    state.info.search_attributes = search_attributes.merge(state.info.search_attributes, given).SerializeToString(
        deterministic=True
    )


def apply_modified(state: Execution, event: HistoryEvent) -> None:
    """The memo's fields were set, or taken away."""
    given = event.workflow_properties_modified_event_attributes.upserted_memo
    state.info.memo = _merged_memo(state.info.memo, given).SerializeToString(deterministic=True)


# --- what is to be done


def upsert(tx: Transaction, command: Command, completed_id: int) -> None:
    """UpsertWorkflowSearchAttributes."""
    check_given(_BAD_ATTRIBUTES, command)
    attributes = command.upsert_workflow_search_attributes_command_attributes
    if not attributes.HasField("search_attributes"):
        raise CommandError(_BAD_ATTRIBUTES, "SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand.")
    given = attributes.search_attributes
    if not given.indexed_fields:
        raise CommandError(_BAD_ATTRIBUTES, "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.")
    _check_types(tx, given)
    if _size(given.indexed_fields) > tx.limits.PAYLOAD_SIZE:
        raise CommandError(
            _BAD_ATTRIBUTES, "UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit.", terminate=True
        )
    try:
        search_attributes.check_size(search_attributes.merge(tx.state.info.search_attributes, given), tx.limits)
    except StatusError as error:
        raise CommandError(_BAD_ATTRIBUTES, error.message, terminate=True) from None
    tx.add(
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        upsert_workflow_search_attributes_event_attributes=UpsertWorkflowSearchAttributesEventAttributes(
            workflow_task_completed_event_id=completed_id, search_attributes=given
        ),
    )


def check(tx: Transaction, given: SearchAttributes) -> None:
    """Search attributes of a command that starts a run may be set, and are within their limits.

    Raises:
        CommandError: they may not.
    """
    _check_types(tx, given)
    try:
        search_attributes.check_size(given, tx.limits)
    except StatusError as error:
        raise CommandError(_BAD_ATTRIBUTES, error.message) from None


def _check_types(tx: Transaction, given: SearchAttributes) -> None:
    namespace = tx.state.info.namespace_id
    catalogue = tx.catalogues.get(namespace)
    custom: Mapping[str, int] = catalogue.search_attributes if catalogue else {}
    try:
        search_attributes.check(given, custom, catalogue.name if catalogue else namespace, tx.limits)
    except StatusError as error:
        raise CommandError(_BAD_ATTRIBUTES, error.message) from None


def modify(tx: Transaction, command: Command, completed_id: int) -> None:
    """ModifyWorkflowProperties."""
    check_given(_BAD_PROPERTIES, command)
    attributes = command.modify_workflow_properties_command_attributes
    if not attributes.HasField("upserted_memo"):
        raise CommandError(_BAD_PROPERTIES, "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand.")
    memo = attributes.upserted_memo
    if not memo.fields:
        raise CommandError(_BAD_PROPERTIES, "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.")
    if _size(memo.fields) > tx.limits.PAYLOAD_SIZE:
        raise CommandError(
            _BAD_PROPERTIES, "ModifyWorkflowPropertiesCommandAttributes exceeds size limit.", terminate=True
        )
    if _merged_memo(tx.state.info.memo, memo).ByteSize() > tx.limits.MEMO_SIZE:
        raise CommandError(
            _BAD_PROPERTIES, "ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit.", terminate=True
        )
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
        workflow_properties_modified_event_attributes=WorkflowPropertiesModifiedEventAttributes(
            workflow_task_completed_event_id=completed_id, upserted_memo=memo
        ),
    )


def _size(fields: Mapping[str, Payload]) -> int:
    return sum(len(name) + len(payload.data) for name, payload in fields.items())


def _merged_memo(before: bytes, given: Memo) -> Memo:
    merged = Memo.FromString(before)
    for name, payload in given.fields.items():
        if search_attributes.is_null(payload):
            merged.fields.pop(name, None)
        else:
            merged.fields[name].CopyFrom(payload)
    return merged
