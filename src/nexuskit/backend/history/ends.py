"""To end an execution by the server's own will, whatever kind it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.backend.history import standalone, standalone_operation, workflow
from nexuskit.backend.history.identities import SERVER
from nexuskit.backend.history.state import ACTIVITY, OPERATION

if TYPE_CHECKING:
    from nexuskit.backend.history.transaction import Transaction


def terminate(tx: Transaction, reason: str) -> None:
    """End it, whatever its code, its worker or its handler would say."""
    if tx.state.info.archetype == ACTIVITY:
        standalone.terminate(tx, "", SERVER, reason)
    elif tx.state.info.archetype == OPERATION:
        standalone_operation.terminate(tx, "", SERVER, reason)
    else:
        workflow.terminate(tx, reason, SERVER)
