"""What the steps from one version of the database to the next need beyond SQL: functions over packed values.

They read values as plain maps and say by themselves how things were then, never through the classes of today, which
go on to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from temporalio.api.history.v1 import History

if TYPE_CHECKING:
    import sqlite3

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode


def add_functions(connection: sqlite3.Connection) -> None:
    """Give the connection what `schema.MIGRATIONS` call."""
    connection.create_function("info_field", 3, _info_field, deterministic=True)
    connection.create_function("info_4", 2, _info_4, deterministic=True)
    connection.create_function("activity_4", 3, _activity_4, deterministic=True)


def _info_field(info: bytes, path: str, default: Any) -> Any:
    """A field of a run's packed information; of a field that is a list, `name.place` is one of its items."""
    name, _, place = path.partition(".")
    value = _decode(info).get(name)
    if value is None:
        return default
    return value[int(place)] if place else value


def _info_4(info: bytes, start_time: int) -> bytes:
    """A run's information with the time at which its code may begin: so far, that at which it was started."""
    return _encode({"execution_time": start_time, **_decode(info)})


def _activity_4(body: bytes, scheduled_id: int, batch: bytes) -> bytes:
    """A pending activity with its type and priority, which stood in its scheduled event alone until then.

    What is in the index of tasks was told apart by the attempt, which is now called its stamp.

    Args:
        body: the row.
        scheduled_id: the scheduled event's id.
        batch: the events among which that one is, a packed `History`.

    Raises:
        ValueError: it is not among them.
    """
    row = _decode(body)
    if "activity_type" in row:
        return body
    events = {event.event_id: event for event in History.FromString(batch).events}
    if scheduled_id not in events:
        raise ValueError(f"The scheduled event {scheduled_id} of a pending activity is not in its history.")
    scheduled = events[scheduled_id].activity_task_scheduled_event_attributes
    row["activity_type"] = scheduled.activity_type.name
    row["priority"] = scheduled.priority.SerializeToString()
    row["stamp"] = row.get("attempt", 1)
    if row.get("started_time"):
        row["started_attempt"] = row["stamp"]
    return _encode(row)
