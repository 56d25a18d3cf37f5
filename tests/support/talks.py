"""Workflows that are asked and told things while they run, as users write them.

Nothing but temporalio is imported here: the workflow sandbox loads this module anew for each workflow.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError


@workflow.defn
class Cart:
    """Holds items until it is checked out."""

    def __init__(self) -> None:
        self._items: list[str] = []
        self._done = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self._done)
        return self._items

    @workflow.query
    def items(self) -> list[str]:
        return self._items

    @workflow.query
    def broken(self) -> str:
        raise ApplicationError("this question has no answer", type="NoAnswer")

    @workflow.query
    def long(self, size: int) -> str:
        return "x" * size

    @workflow.update
    async def add(self, item: str) -> int:
        """Answers with the number of items."""
        self._items.append(item)
        return len(self._items)

    @add.validator
    def check_item(self, item: str) -> None:
        if not item:
            raise ApplicationError("an item has a name", type="NoName")

    @workflow.update
    async def add_slowly(self, item: str, seconds: float) -> int:
        """Accepted at once, completed after a timer."""
        await asyncio.sleep(seconds)
        return await self.add(item)

    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def wait_for_ever(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def fail(self) -> None:
        raise ApplicationError("no stock", type="OutOfStock")

    @workflow.update
    async def check_out(self) -> str:
        self._done = True
        return "bye"
