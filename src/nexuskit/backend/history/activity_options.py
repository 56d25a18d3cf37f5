"""An activity's options: task queue, timeouts, retry policy and priority; checked, filled in, changed by a field mask.

They are the same for an activity of a workflow and for one that stands alone, when it is made and when they are
changed later (temporalio/temporal: chasm/lib/activity/validator.go, common/activityoptions).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Priority, RetryPolicy
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.history import queue_name, retry
from nexuskit.backend.history.lengths import check_length
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import duration, fault, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes

_TIMEOUTS = {
    "schedule_to_close_timeout": "ScheduleToCloseTimeout",
    "schedule_to_start_timeout": "ScheduleToStartTimeout",
    "start_to_close_timeout": "StartToCloseTimeout",
    "heartbeat_timeout": "HeartbeatTimeout",
}

_CHANGEABLE = {
    "task_queue.name": "TaskQueue",
    "schedule_to_close_timeout": "",
    "schedule_to_start_timeout": "",
    "start_to_close_timeout": "",
    "heartbeat_timeout": "",
    "priority": "",
    "priority.priority_key": "Priority",
    "priority.fairness_key": "Priority",
    "priority.fairness_weight": "Priority",
    "retry_policy": "RetryPolicy",
    "retry_policy.initial_interval": "RetryPolicy",
    "retry_policy.backoff_coefficient": "RetryPolicy",
    "retry_policy.maximum_interval": "RetryPolicy",
    "retry_policy.maximum_attempts": "RetryPolicy",
}
"""Path of a field that can be changed → the message that must be there to take it from."""


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options as an activity's row keeps them, under the same names. Spans in ns, 0 for unset."""

    queue: str
    schedule_to_close: int = 0
    schedule_to_start: int = 0
    start_to_close: int = 0
    heartbeat: int = 0
    policy: bytes = b""
    """`RetryPolicy`, serialised, with all defaults filled in."""
    priority: bytes = b""
    """`Priority`, serialised; empty for none."""


def timeout(span: int) -> Duration:
    """A timeout as workers are shown it: a nought for none, since some SDKs do not expect it to be left out."""
    return duration(span) or Duration()


def kept(options: ActivityOptions) -> Options:
    """Checked options, as a row keeps them."""
    return Options(
        queue=options.task_queue.name,
        schedule_to_close=span(options.schedule_to_close_timeout),
        schedule_to_start=span(options.schedule_to_start_timeout),
        start_to_close=span(options.start_to_close_timeout),
        heartbeat=span(options.heartbeat_timeout),
        policy=options.retry_policy.SerializeToString(),
        priority=options.priority.SerializeToString() if options.HasField("priority") else b"",
    )


def shown(options: Options) -> ActivityOptions:
    """What a row keeps, as the API shows it."""
    return ActivityOptions(
        task_queue=TaskQueue(name=options.queue),
        schedule_to_close_timeout=timeout(options.schedule_to_close),
        schedule_to_start_timeout=timeout(options.schedule_to_start),
        start_to_close_timeout=timeout(options.start_to_close),
        heartbeat_timeout=timeout(options.heartbeat),
        retry_policy=RetryPolicy.FromString(options.policy),
        priority=Priority.FromString(options.priority) if options.priority else None,
    )


def scheduled(attributes: ActivityTaskScheduledEventAttributes) -> Options:
    """The options with which an activity was scheduled."""
    return kept(
        ActivityOptions(
            task_queue=attributes.task_queue,
            schedule_to_close_timeout=attributes.schedule_to_close_timeout,
            schedule_to_start_timeout=attributes.schedule_to_start_timeout,
            start_to_close_timeout=attributes.start_to_close_timeout,
            heartbeat_timeout=attributes.heartbeat_timeout,
            retry_policy=attributes.retry_policy,
            priority=attributes.priority if attributes.HasField("priority") else None,
        )
    )


def checked(
    given: ActivityOptions, activity_id: str, activity_type: str, limits: Limits, run_timeout: int = 0
) -> ActivityOptions:
    """Options with what they leave out filled in; a part never lasts longer than the whole.

    Args:
        given: what was asked for.
        activity_id: of the activity, which is checked too.
        activity_type: the same.
        limits: what they may be at most.
        run_timeout: of the workflow (ns), 0 for none.

    Raises:
        StatusError: INVALID_ARGUMENT, for what makes no sense.
    """
    _check_names(given, activity_id, activity_type, limits)
    policy = retry.filled(given.retry_policy if given.HasField("retry_policy") else None, limits)
    check_priority(given.priority, limits)
    whole, wait, run, beat = (_span(name, getattr(given, field)) for field, name in _TIMEOUTS.items())
    if not whole and not run:
        raise invalid_argument(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity."
            f" ActivityId={activity_id} ActivityType={activity_type}"
        )
    whole = min(filter(None, (whole, run_timeout)), default=0)
    if whole:
        wait, run = min(wait or whole, whole), min(run or whole, whole)
    options = ActivityOptions(
        task_queue=TaskQueue(
            name=given.task_queue.name, kind=given.task_queue.kind or TaskQueueKind.TASK_QUEUE_KIND_NORMAL
        ),
        schedule_to_close_timeout=timeout(whole),
        schedule_to_start_timeout=timeout(wait),
        start_to_close_timeout=timeout(run),
        heartbeat_timeout=timeout(min(beat, run)),
        retry_policy=policy,
    )
    if given.HasField("priority"):
        options.priority.CopyFrom(given.priority)
    return options


def _check_names(given: ActivityOptions, activity_id: str, activity_type: str, limits: Limits) -> None:
    queue_name.check(given.task_queue.name, limits)
    if not activity_id:
        raise invalid_argument("activityId is not set")
    if not activity_type:
        raise invalid_argument("activityType is not set")
    for field, name in (("activityId", activity_id), ("activityType", activity_type)):
        check_length(field, name, limits.ID_LENGTH)


def check_priority(priority: Priority, limits: Limits, *, before: str = "invalid priorities: ") -> None:
    """Raises `StatusError` INVALID_ARGUMENT for a priority that cannot be; its text begins with `before`."""
    if priority.priority_key < 0:
        raise invalid_argument(f"{before}priority key can't be negative")
    if len(priority.fairness_key.encode()) > limits.FAIRNESS_KEY_LENGTH:
        raise invalid_argument(f"{before}fairness key length exceeds limit")
    if not priority.fairness_weight >= 0:  # so that NaN is refused too
        raise invalid_argument(f"{before}must be greater than zero")


def effective_priority(workflow: bytes, given: bytes) -> Priority | None:
    """The priority of an activity or a child: what it was given, field by field, else the workflow's."""
    if not workflow and not given:
        return None
    base, own = Priority.FromString(workflow), Priority.FromString(given)
    return Priority(
        priority_key=own.priority_key or base.priority_key,
        fairness_key=own.fairness_key or base.fairness_key,
        fairness_weight=own.fairness_weight or base.fairness_weight,
    )


def _span(name: str, length: Duration) -> int:
    if fault(length):
        raise invalid_argument(f"invalid {name}: {fault(length)}")
    return span(length)


def _holds(message: Message, field: str) -> bool:
    return message.HasField(field)


def merged(current: ActivityOptions, change: ActivityOptions, paths: Iterable[str]) -> ActivityOptions:
    """Options with the fields that a mask names taken from `change`.

    Raises:
        StatusError: INVALID_ARGUMENT, for a path that names no changeable field, or one of a message that is not there.
    """
    result = ActivityOptions()
    result.CopyFrom(current)
    for path in map(_snake, paths):
        if path not in _CHANGEABLE:
            raise invalid_argument(f"UpdateMask names {path!r}, which is no field of activity options to be changed")
        needed = path.partition(".")[0]
        if _CHANGEABLE[path] and not _holds(change, needed):
            raise invalid_argument(f"{_CHANGEABLE[path]} is not provided")
        FieldMask(paths=[path]).MergeMessage(change, result, replace_message_field=True, replace_repeated_field=True)
    return result


def _snake(path: str) -> str:
    """A path as protos spell it; the JSON spelling (`retryPolicy.maximumAttempts`) means the same."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda upper: "_" + upper[1].lower(), path.strip())
