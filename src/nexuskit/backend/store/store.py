"""The store as the event loop sees it: changes join the open group, groups are committed one after another.

While one group is being written the next one fills; it is handed to the writer when the one before is on disk. So the
busier the backend, the more requests share one fsync, and an idle one waits for nobody. Should a group fail, the one
that fills is built on it and fails with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.store.group import Group
from nexuskit.backend.store.reader import Reader
from nexuskit.backend.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexuskit.backend.store.database import Database

log = logging.getLogger("nexuskit.backend.store")


class Ticket:
    """A group's outcome, for those who wait for it."""

    __slots__ = ("_begun", "_done", "_error", "_onlookers", "_waiters")

    def __init__(self) -> None:
        self._begun = False
        self._done = False
        self._onlookers: list[asyncio.Future[None]] = []
        self._error: StatusError | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def done(self) -> bool:
        """Whether the group is on disk, or has failed."""
        return self._done

    async def under_way(self) -> None:
        """Wait until nothing is left to do for the group but to wait for the disk, or it has failed."""
        if not self._begun:
            onlooker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._onlookers.append(onlooker)
            await onlooker

    async def wait(self) -> None:
        """Wait until the group is on disk.

        Raises:
            StatusError: UNAVAILABLE, if it could not be written.
        """
        if not self._done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

    def begin(self) -> None:
        """Only the disk is to be waited for."""
        self._begun = True
        for onlooker in self._onlookers:
            if not onlooker.done():
                onlooker.set_result(None)
        self._onlookers.clear()

    def settle(self, error: StatusError | None) -> None:
        """The group is on disk, or has failed."""
        self.begin()
        self._done = True
        self._error = error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class Store:
    """One open database: `reader` for reading, `group()` for what is to be written.

    Args:
        database: an open database; closed with the store.
        lost: called with a group that failed, before anybody who waits for it is told.
    """

    def __init__(self, database: Database, lost: Callable[[Group], None]) -> None:
        self._database = database
        self._lost = lost
        self.reader = Reader(database)
        self._writer = Writer(database.first, database.connect)
        self._loop = asyncio.get_running_loop()
        self._open = Group()
        self._ticket = Ticket()
        self._writing: tuple[Group, Ticket] | None = None
        self._asked = False
        self.failures = 0
        """Groups that could not be written since the start."""
        self.last_error = ""
        """Why the newest group failed; empty if it did not."""

    def group(self) -> tuple[Group, Ticket]:
        """The group that fills, and its outcome. Whatever is put into it is written soon after."""
        if not self._asked:
            self._asked = True
            # Not at once, and not at the end of this turn of the loop: a poller that is woken by this request takes its
            # task in the next turn, and what it writes joins the same group.
            self._loop.call_soon(self._loop.call_soon, self._hand_over)
        return self._open, self._ticket

    async def under_way(self) -> None:
        """Wait until nothing is left to do for the group that fills but to wait for the disk.

        For whoever has an answer to put together: done earlier, it would keep the writer's thread from its statements,
        since only one of the two runs Python at a time; while the disk works, the other one has time.
        """
        if self._asked:
            await self._ticket.under_way()

    def _hand_over(self) -> None:
        if self._writing is not None:
            return
        self._asked = False
        group, ticket = self._open, self._ticket
        self._open, self._ticket = Group(), Ticket()
        if not group:
            group.committed()
            ticket.settle(None)
            return
        self._writing = (group, ticket)
        try:
            statements = group.statements()
        except Exception as error:  # noqa: BLE001, something that cannot be written: the group fails, the store goes on
            self._end(error)
            return
        self._writer.write(statements, self._syncing, self._written)

    def _syncing(self) -> None:
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._writing is not None:
            _, ticket = self._writing
            ticket.begin()

    def _written(self, error: BaseException | None) -> None:
        self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        written, self._writing = self._writing, None
        if written is None:
            return
        group, ticket = written
        if error is None:
            self.last_error = ""
            group.committed()
            ticket.settle(None)
        else:
            self._fail(error, [(group, ticket), (self._open, self._ticket)])
            self._open, self._ticket = Group(), Ticket()
        if self._asked:
            self._hand_over()

    def _fail(self, error: BaseException, groups: list[tuple[Group, Ticket]]) -> None:
        self.failures += 1
        again, self.last_error = self.last_error == str(error), str(error)
        # Once: on a full disk every request meets the same.
        log.log(
            logging.DEBUG if again else logging.ERROR,
            "the database could not be written: %s; %d executions are read again from disk",
            error,
            sum(len(group.executions) for group, _ in groups),
        )
        refusal = StatusError(
            Code.UNAVAILABLE, f"The database could not be written ({error}); nothing of this request is kept."
        )
        for group, _ in reversed(groups):
            group.failed()
            self._lost(group)
        for _, ticket in groups:
            ticket.settle(refusal)

    async def close(self) -> None:
        """Write what is there, and close the database."""
        while self._asked or self._writing is not None:
            _, ticket = self.group()
            # The last group's own refusal is for those who wait for its requests.
            with contextlib.suppress(StatusError):
                await ticket.wait()
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.close()
        self.reader.close()
        self._database.close()
