"""How large a run may become, all in all: one that grows beyond that is terminated, before it slows everybody else.

What would have made it too large is not done, and the run ends instead (temporalio/temporal:
service/history/workflow/context.go, the checks named enforce...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.backend.errors import StatusError, invalid_argument
from nexuskit.backend.history import ends

if TYPE_CHECKING:
    from nexuskit.backend.history.transaction import Transaction


def exceeded(tx: Transaction) -> str:
    """Which limit the run would exceed with this transaction, in words; empty if none."""
    info = tx.state.info
    if not info.running:
        return ""
    if info.history_size > tx.limits.HISTORY_SIZE:
        return (
            f"Workflow history size exceeds limit. It would be {info.history_size} bytes, at most"
            f" {tx.limits.HISTORY_SIZE}; continue as new before that."
        )
    if info.next_event_id - 1 > tx.limits.HISTORY_EVENTS:
        return (
            f"Workflow history count exceeds limit. It would be {info.next_event_id - 1} events, at most"
            f" {tx.limits.HISTORY_EVENTS}; continue as new before that."
        )
    size = tx.state.size()
    if size > tx.limits.PENDING_SIZE:
        return (
            f"Workflow mutable state size exceeds limit. It would be {size} bytes without its history, at most"
            f" {tx.limits.PENDING_SIZE}."
        )
    return ""


def end(tx: Transaction, reason: str) -> StatusError:
    """End the run for that reason. Returns what the one is told who would have made it too large."""
    ends.terminate(tx, reason)
    return invalid_argument(reason)
