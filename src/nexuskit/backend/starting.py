"""New runs: for clients, for parents, and for whoever else asks. What they share beside the run's own beginning.

The newest run of the id is looked at, the policies say whether the new one may follow it, and then both are settled
without a pause in between, so that nobody comes second unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload, Payloads

from nexuskit.backend.history import reuse, start, workflow
from nexuskit.backend.history.identities import SERVER
from nexuskit.backend.history.state import Info

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.start import StartRun
    from nexuskit.backend.history.transaction import Transaction


async def newest(engine: Engine, namespace_id: str, workflow_id: str) -> Resident | None:
    """The newest run of a workflow id, as it is now; None if there is none. Await nothing before you act on it."""
    while True:
        number = await engine.current(namespace_id, workflow_id)
        if number is None:
            return None
        resident = engine.at_hand(number)
        if resident is not None and not resident.lost:
            return resident
        await engine.get(number)


def begin(
    engine: Engine,
    namespace_id: str,
    workflow_id: str,
    run: StartRun,
    *,
    instead_of: Resident | None = None,
    before_task: Callable[[Transaction], None] | None = None,
) -> Resident:
    """Let a run begin.

    Args:
        engine: all executions.
        namespace_id: where.
        workflow_id: whose newest run it will be.
        run: how it begins.
        instead_of: an open run of the id, which is terminated in the same commit.
        before_task: what else happens in its first transaction, before its first workflow task is scheduled.
    """
    info = Info(namespace_id=namespace_id, workflow_id=workflow_id, run_id=engine.draw.run_id(engine.clock.now()))
    if instead_of is not None:
        encoding = {"encoding": b"json/plain"}
        words = Payload(metadata=encoding, data=f'"terminated by new runID: {info.run_id}"'.encode())
        details = Payloads(payloads=[words])
        engine.run(instead_of, lambda tx: workflow.terminate(tx, reuse.TERMINATED_FOR_NEW, SERVER, details))
    resident, _ = engine.create(info, lambda tx: start.begin(tx, run, before_task=before_task))
    return resident
