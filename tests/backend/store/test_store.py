"""Group commit: many requests, one fsync; and what happens when the disk says no."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history.state import Execution, Info
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.store.database import Database, open_database
from nexuskit.backend.store.group import Group
from nexuskit.backend.store.store import Store, Ticket
from tests.support import disk
from tests.support.clock import settle

PUT = "INSERT INTO meta (key, value) VALUES (?, 'x')"


@dataclass
class Opened:
    """A store, what the writer was told to do, and what was said to have been lost."""

    database: Database
    path: Path
    said: list[str] = field(default_factory=list)
    lost: list[Group] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.store = Store(self.database, self._lost)
        self.database.first.set_trace_callback(self.said.append)

    def _lost(self, group: Group) -> None:
        self.lost.append(group)

    def put(self, *keys: str, undo: Callable[[], None] | None = None) -> Ticket:
        group, ticket = self.store.group()
        for key in keys:
            group.add(PUT, (key,), undo)
        return ticket

    @property
    def commits(self) -> int:
        return self.said.count("COMMIT")

    async def keys(self) -> list[str]:
        """What is on disk, in the order of its coming."""
        rows = await self.store.reader.run(lambda c: c.execute("SELECT key FROM meta ORDER BY key").fetchall())
        return [key for (key,) in rows]

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.store.close()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    path = tmp_path / "nexus.db"
    made = Opened(open_database(path), path)
    yield made
    await made.close()


async def refused(ticket: Ticket) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await ticket.wait()
    assert caught.value.code == Code.UNAVAILABLE
    return caught.value


# --- one commit for many


async def test_requests_of_one_turn_of_the_loop_share_one_commit(opened: Opened) -> None:
    async def request(key: str) -> Ticket:
        ticket = opened.put(key)
        await ticket.wait()
        assert key in await opened.keys()
        return ticket

    tickets = await asyncio.gather(*(request(key) for key in "abcde"))
    assert len(set(tickets)) == 1
    assert opened.commits == 1


async def test_what_the_very_next_turn_adds_is_in_the_same_commit(opened: Opened) -> None:
    """So that a poller which a request wakes shares its commit."""
    first = opened.put("request")
    await asyncio.sleep(0)
    assert opened.put("poller") is first
    await first.wait()
    assert opened.commits == 1


async def test_an_idle_store_waits_for_nobody(opened: Opened) -> None:
    for key in "abc":
        await opened.put(key).wait()
    assert opened.commits == 3


async def test_while_one_group_is_written_the_next_one_fills(opened: Opened) -> None:
    first = opened.put("a")
    async with disk.held(opened.store, opened.database):
        later = []
        for key in "bcd":
            later.append(opened.put(key))
            await settle()  # many turns, and still the same group
        assert later[0] is later[1] is later[2] is not first
        assert not first.done
        assert not later[0].done
        assert await opened.keys() == []
    await first.wait()
    await later[0].wait()
    assert await opened.keys() == ["a", "b", "c", "d"]
    assert opened.commits == 2


async def test_groups_are_written_one_after_another_in_order(opened: Opened) -> None:
    order: list[str] = []
    first = opened.put("a")
    opened.store.group()[0].after(lambda: order.append("first is on disk"))
    async with disk.held(opened.store, opened.database):
        second = opened.put("b")
        opened.store.group()[0].after(lambda: order.append("second is on disk"))
    await asyncio.gather(second.wait(), first.wait())
    assert order == ["first is on disk", "second is on disk"]
    assert [text for text in opened.said if "INSERT" in text] == [PUT.replace("?", "'a'"), PUT.replace("?", "'b'")]


async def test_what_comes_after_is_done_before_those_who_wait_go_on(opened: Opened) -> None:
    order: list[str] = []
    ticket = opened.put("a")
    opened.store.group()[0].after(lambda: order.append("after"))

    async def waiter(name: str) -> None:
        await ticket.wait()
        order.append(name)

    await asyncio.gather(waiter("one"), waiter("two"))
    assert order == ["after", "one", "two"]


async def test_a_group_with_nothing_in_it_is_settled_without_a_commit(opened: Opened) -> None:
    done: list[str] = []
    group, ticket = opened.store.group()
    group.after(lambda: done.append("after"))
    await ticket.wait()
    assert done == ["after"]
    assert opened.commits == 0


async def test_who_waits_for_what_is_done_goes_on_at_once(opened: Opened) -> None:
    ticket = opened.put("a")
    await ticket.wait()
    assert ticket.done
    await ticket.wait()


async def test_one_that_waits_no_longer_disturbs_nobody(opened: Opened) -> None:
    ticket = opened.put("a")
    async with disk.held(opened.store, opened.database):
        impatient, patient = asyncio.ensure_future(ticket.wait()), asyncio.ensure_future(ticket.wait())
        await settle()
        impatient.cancel()
        await settle()
        assert impatient.cancelled()
    await patient
    assert await opened.keys() == ["a"]


# --- a disk that says no


async def test_who_waits_for_a_group_that_failed_is_told_unavailable_and_why(opened: Opened) -> None:
    with disk.broken(opened.database):
        ticket = opened.put("a")
        errors = await asyncio.gather(refused(ticket), refused(ticket))
        assert disk.REFUSAL in errors[0].message
        assert (await refused(ticket)).message == errors[0].message  # and whoever asks later
        assert opened.store.failures == 1
        assert opened.store.last_error == disk.REFUSAL
    assert await opened.keys() == []


async def test_the_next_commit_after_one_that_failed_works(opened: Opened) -> None:
    with disk.broken(opened.database):
        await refused(opened.put("a"))
    await opened.put("b").wait()
    assert await opened.keys() == ["b"]
    assert opened.store.failures == 1
    assert opened.store.last_error == ""


async def test_of_a_group_that_failed_nothing_is_on_disk(opened: Opened) -> None:
    await opened.put("there").wait()
    await refused(opened.put("new", "there", "newer"))  # the second one is refused, the first one was run
    assert await opened.keys() == ["there"]


async def test_a_group_that_fails_takes_the_one_that_is_built_on_it_along(opened: Opened) -> None:
    """Though by itself that one could have been written."""
    await opened.put("there").wait()
    first = opened.put("there")
    async with disk.held(opened.store, opened.database):
        second = opened.put("fine")
    for ticket in (first, second):
        assert "UNIQUE constraint failed" in (await refused(ticket)).message
    assert await opened.keys() == ["there"]
    assert opened.store.failures == 1
    await opened.put("fine").wait()
    assert await opened.keys() == ["fine", "there"]


async def test_changes_in_memory_are_undone_the_newest_first_then_it_is_lost_and_then_they_are_told(
    opened: Opened,
) -> None:
    order: list[str] = []
    await opened.put("there").wait()
    opened.put("a", undo=lambda: order.append("undo a"))
    first = opened.put("there", undo=lambda: order.append("undo there"))
    older, _ = opened.store.group()

    async def told(name: str, ticket: Ticket) -> None:
        await refused(ticket)
        order.append(f"{name} is told")
        assert opened.lost == [newer, older]

    async with disk.held(opened.store, opened.database):
        second = opened.put("b", undo=lambda: order.append("undo b"))
        opened.put("c", undo=lambda: order.append("undo c"))
        newer, _ = opened.store.group()
        waiting = asyncio.gather(told("second", second), told("first", first))
        await settle()
    await waiting
    assert order == ["undo c", "undo b", "undo there", "undo a", "first is told", "second is told"]


async def test_what_was_to_come_after_a_group_that_failed_does_not_come(opened: Opened) -> None:
    done: list[str] = []
    with disk.broken(opened.database):
        first = opened.put("a")
        opened.store.group()[0].after(lambda: done.append("after a"))
        await refused(first)
    await opened.put("b").wait()
    assert done == []


async def test_a_full_disk_fails_a_group_and_no_later_one_once_there_is_room(opened: Opened) -> None:
    opened.database.first.execute("VACUUM")  # or it would fill the free pages first
    pages = opened.database.first.execute("PRAGMA page_count").fetchone()[0]
    opened.database.first.execute(f"PRAGMA max_page_count = {pages}")
    ticket = opened.put(*(f"{number} {'x' * 1000}" for number in range(20)))
    assert "disk is full" in (await refused(ticket)).message
    opened.database.first.execute("PRAGMA max_page_count = 1000000")
    await opened.put("a").wait()
    assert await opened.keys() == ["a"]


async def test_a_value_that_no_statement_can_hold_fails_its_group_and_no_later_one(opened: Opened) -> None:
    order = Execution(1, Info(namespace_id="ns", workflow_id="order", run_id="run"))
    order.of(Timer).put("t", Timer(timer_id="t", started_id=5, fires=2**70))
    group, ticket = opened.store.group()
    group.add_execution(order, order.changes(), [], new=True)
    await refused(ticket)
    assert opened.lost[-1] is group
    await opened.put("a").wait()
    assert await opened.keys() == ["a"]


# --- the end


async def test_closing_writes_what_is_there(opened: Opened) -> None:
    first = opened.put("a")
    async with disk.held(opened.store, opened.database):
        second = opened.put("b")
        closing = asyncio.ensure_future(opened.close())
        await settle()
        assert not closing.done()
    await closing
    assert first.done
    assert second.done
    database = open_database(opened.path)  # the file was given back
    assert database.first.execute("SELECT count(*) FROM meta").fetchone() == (2,)
    database.close()


async def test_closing_over_a_group_that_fails_tells_those_who_wait_and_nobody_else(opened: Opened) -> None:
    await opened.put("there").wait()
    ticket = opened.put("there")
    await opened.close()
    await refused(ticket)


async def test_closing_ends_the_threads(opened: Opened) -> None:
    await opened.keys()
    names = {thread.name for thread in threading.enumerate()}
    assert any(name.startswith("nexuskit-writer") for name in names)
    assert any(name.startswith("nexuskit-reader") for name in names)
    before = [thread for thread in threading.enumerate() if thread.name.startswith("nexuskit-")]
    await opened.close()
    assert len([thread for thread in before if thread.is_alive()]) == len(before) - 3
