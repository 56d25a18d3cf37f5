"""What commands of a workflow task have in common: how they are refused, and the checks that many of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.backend.settings import Limits
from nexuskit.backend.times import span

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message

    from nexuskit.backend.history.transaction import Transaction


class CommandError(Exception):
    """A command cannot be carried out: its workflow task fails, and nothing of the task's other commands happens.

    Attributes:
        cause: a `WorkflowTaskFailedCause`, which goes into history. message: which command, what was expected, what
        came. terminate: repeating the task cannot help, so the workflow is terminated (Temporal: a payload over the
        limit).
    """

    def __init__(self, cause: int, message: str, *, terminate: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.terminate = terminate


def check_id(cause: int, field: str, value: str, limits: Limits) -> None:
    """An id or name must be there and within its length."""
    if not value:
        raise CommandError(cause, f"{field} is not set on command.")
    if len(value.encode()) > limits.ID_LENGTH:
        raise CommandError(cause, f"{field} exceeds length limit of {limits.ID_LENGTH} bytes: {len(value.encode())}.")


def check_run_id(cause: int, field: str, value: str) -> None:
    """A run's id may be left out; one that is there is a UUID."""
    if value and (len(value) != 36 or value.count("-") != 4):
        raise CommandError(cause, f"Invalid {field}: {value[:100]!r} is not a UUID.")


def own_namespace(tx: Transaction, cause: int, command: str, name: str) -> str:
    """The name of the workflow's own namespace, which is all that a command may name.

    Other namespaces are called by Nexus (Temporal: `system.enableCrossNamespaceCommands`, off unless it is turned on).
    """
    own = tx.state.info.namespace_id
    if not name:
        return next((known for known, id in tx.namespaces.items() if id == own), "")
    if tx.namespaces.get(name, own) != own or (tx.namespaces and name not in tx.namespaces):
        raise CommandError(
            cause,
            f"{command} names namespace {name!r}: cross namespace calls are not allowed; another namespace"
            " is called by a Nexus operation.",
        )
    return name


def check_span(cause: int, field: str, length: Duration) -> int:
    """A timeout must not be negative. Returns it in ns, 0 for unset."""
    value = span(length)
    if value < 0:
        raise CommandError(cause, f"{field} cannot be negative: {value / 1e9:g} s.")
    return value


def check_payloads(cause: int, field: str, message: Message, limits: Limits) -> None:
    """Payloads must be within their limit; a workflow that sends more would send it again, so it is terminated."""
    size = message.ByteSize()
    if size > limits.PAYLOAD_SIZE:
        raise CommandError(
            cause, f"{field} exceeds size limit: {size} bytes, at most {limits.PAYLOAD_SIZE}.", terminate=True
        )
