"""What one run does to another one of this database: start a child, tell a parent, signal, cancel, terminate.

Each is an effect of a row in the run that wants it. The other run's side, and the row's removal, are in the same commit
group, so that it happens exactly once, whenever the process may die.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nexuskit.backend.history.child import Child, Orphan, Report
from nexuskit.backend.history.external import ExternalCancel, ExternalSignal
from nexuskit.backend.transfers.children import Children
from nexuskit.backend.transfers.externals import Externals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine

    Effect = Callable[[Waiting], Coroutine[Any, Any, None]]


def effects(engine: Engine) -> Mapping[str, Effect]:
    """Kind of row → what carries it out."""
    children, externals = Children(engine), Externals(engine)
    turns = asyncio.Semaphore(engine.limits.TRANSFERS_IN_FLIGHT)

    def in_turn(effect: Effect) -> Effect:
        async def carry_out(waiting: Waiting) -> None:
            async with turns:
                # An effect whose runs are in memory waits for nothing: thousands that become ready at once, such as a
                # parent's children, would keep everybody else waiting. Here requests come in between.
                await asyncio.sleep(0)
                await effect(waiting)

        return carry_out

    return {
        Child.kind: in_turn(children.start),
        Report.kind: in_turn(children.report),
        Orphan.kind: in_turn(children.treat),
        ExternalSignal.kind: in_turn(externals.signal),
        ExternalCancel.kind: in_turn(externals.cancel),
    }
