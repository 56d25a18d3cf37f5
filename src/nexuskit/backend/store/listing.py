"""Reading lists: pages of executions, and counts of them, bounded in the work that they may take.

SQLite counts the instructions of its machine, and a list that needs too many of them is refused: it would keep a
reader thread, and the disk, from everybody else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.visibility.conditions import Sql

if TYPE_CHECKING:
    from nexuskit.backend.visibility.plans import Plan, Stream

Place = tuple[int, int, int]
"""Where an execution is in a list: `listed`, `start_time` and number. Later in the list is less."""

_STEP = 10_000
"""Instructions between two looks at how many there were: less than a millisecond."""


class After(NamedTuple):
    """Where a page ended.

    Attributes:
        place: the place of its last execution.
        value: what that has of the attribute that the list is sorted by; None if it has none.
    """

    place: Place
    value: str | int | float | None = None


class Page(NamedTuple):
    """A page of a list: packed executions, and where it ended, if there is more."""

    bodies: list[bytes]
    after: After | None


class _TooMuch(Exception):
    """The work is done, and the list is not."""


@contextmanager
def _bounded(connection: sqlite3.Connection, work: int) -> Generator[None]:
    left = work

    def step() -> int:
        nonlocal left
        left -= _STEP
        return int(left < 0)

    connection.set_progress_handler(step, _STEP)
    try:
        yield
    except sqlite3.OperationalError as error:
        if left < 0:
            raise _TooMuch from error
        raise
    finally:
        connection.set_progress_handler(None, 0)


def _refused() -> StatusError:
    return StatusError(
        Code.RESOURCE_EXHAUSTED,
        "The query reads too many executions. Ask for one value of WorkflowId, WorkflowType, TaskQueue or a search"
        " attribute, and for a status or a range of CloseTime.",
    )


def read_page(connection: sqlite3.Connection, plan: Plan, after: After | None, size: int, work: int) -> Page:
    """The next executions of a list.

    Args:
        connection: of a reader thread.
        plan: how the filter is answered.
        after: where the page before ended; None for the first page.
        size: how many are wanted; fewer come when they are large.
        work: instructions of SQLite's machine it may take.

    Raises:
        StatusError: RESOURCE_EXHAUSTED, if it would take more.
    """
    connection.execute("BEGIN")
    try:
        found = _found(connection, plan, after, size + 1, work)
        return _page(connection, plan, found, size)
    except _TooMuch:
        raise _refused() from None
    finally:
        connection.execute("COMMIT")


def _found(connection: sqlite3.Connection, plan: Plan, after: After | None, count: int, work: int) -> list[After]:
    if plan.streams:
        try:
            with _bounded(connection, limits.LIST_WORK_FIRST if plan.retries else work):
                return list(_merged(connection, plan, after, count))
        except _TooMuch:
            if not plan.retries:
                raise
    with _bounded(connection, work):
        return _sorted(connection, plan, after, count)


def _merged(connection: sqlite3.Connection, plan: Plan, after: After | None, count: int) -> Iterator[After]:
    """Walk the streams side by side, as far as the page needs."""
    order = "id" if plan.by_number else "listed, start_time, id"
    cursors = [_walk(connection, stream, order, after, count) for stream in plan.streams]
    rows = cursors[0] if len(cursors) == 1 else merge(*cursors, reverse=True)
    last = None
    for row in rows:
        if row == last:
            continue  # an execution with two of the values that are asked for
        last = row
        yield After(row)
        count -= 1
        if not count:
            break


def _walk(
    connection: sqlite3.Connection, stream: Stream, order: str, after: After | None, count: int
) -> Iterator[Place]:
    row = stream.row
    columns = [f"{row}.{column}" for column in order.split(", ")]
    where, parameters = stream.where.text, stream.where.parameters
    if after is not None:
        place = after.place[-len(columns) :]
        where += f" AND ({', '.join(columns)}) < ({', '.join('?' * len(columns))})"
        parameters += place
    sql = (
        f"SELECT {row}.listed, {row}.start_time, {row}.id FROM {stream.source} WHERE {where}"
        f" ORDER BY {', '.join(f'{column} DESC' for column in columns)} LIMIT ?"
    )
    return connection.execute(sql, (*parameters, count))


def _sorted(connection: sqlite3.Connection, plan: Plan, after: After | None, count: int) -> list[After]:
    """Read all that matches, and sort it; executions without the attribute that is sorted by come last."""
    stream = plan.whole
    key, descending = plan.order or (Sql("0"), True)
    row = stream.row
    where, parameters = stream.where.text, stream.where.parameters
    inner = (
        f"SELECT {'DISTINCT' if plan.repeats else ''} {row}.listed AS listed, {row}.start_time AS start_time,"
        f" {row}.id AS id, {key.text} AS key FROM {_with_execution(plan, stream, key)} WHERE {where}"
    )
    conditions = ""
    more: tuple[Any, ...] = ()
    if after is not None:
        later = "(listed, start_time, id) < (?, ?, ?)"
        if after.value is None and plan.order is not None:
            conditions, more = f"WHERE key IS NULL AND {later}", after.place
        else:
            beyond = "<" if descending else ">"
            value = 0 if plan.order is None else after.value
            conditions = f"WHERE key {beyond} ? OR key IS NULL OR (key = ? AND {later})"
            more = (value, value, *after.place)
    sql = (
        f"SELECT listed, start_time, id, key FROM ({inner}) {conditions} ORDER BY key IS NULL,"
        f" key {'DESC' if descending else 'ASC'}, listed DESC, start_time DESC, id DESC LIMIT ?"
    )
    rows = connection.execute(sql, (*key.parameters, *parameters, *more, count))
    return [After((row[0], row[1], row[2]), row[3] if plan.order is not None else None) for row in rows]


def _with_execution(plan: Plan, stream: Stream, key: Sql) -> str:
    if stream.row == "a" and " AS e" not in stream.source and "e." in key.text:
        return f"{stream.source} CROSS JOIN {plan.subject.table} AS e ON e.id = a.id"
    return stream.source


def _page(connection: sqlite3.Connection, plan: Plan, found: list[After], size: int) -> Page:
    sql = f"SELECT info FROM {plan.subject.table} WHERE id = ?"
    bodies: list[bytes] = []
    total = 0
    for each in found[:size]:
        (body,) = connection.execute(sql, (each.place[2],)).fetchone()
        bodies.append(body)
        total += len(body)
        if total >= limits.LIST_PAGE_BYTES:
            break
    return Page(bodies, found[len(bodies) - 1] if len(found) > len(bodies) else None)


def count(connection: sqlite3.Connection, plan: Plan, work: int) -> list[tuple[int, int]]:
    """How many executions match: (0, number), or (status, number) for each status if the filter is grouped.

    Raises:
        StatusError: RESOURCE_EXHAUSTED, if it would take more work than that.
    """
    stream = plan.whole
    row = stream.row
    counted = f"count(DISTINCT {row}.id)" if plan.repeats else "count(*)"
    group = f"{row}.status" if plan.grouped else "0"
    sql = f"SELECT {group}, {counted} FROM {stream.source} WHERE {stream.where.text}"
    if plan.grouped:
        sql += f" GROUP BY {group}"
    try:
        with _bounded(connection, work):
            return connection.execute(sql, stream.where.parameters).fetchall()
    except _TooMuch:
        raise _refused() from None
