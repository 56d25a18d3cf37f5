"""What commands of a workflow task have in common: how they are refused, and the checks that many of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import CommandType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure

from nexuskit.backend.errors import StatusError, not_found
from nexuskit.backend.history import queue_name
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import fault, span

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from temporalio.api.command.v1 import Command

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


def check_given(cause: int, command: Command) -> None:
    """A command must bring the attributes of its type."""
    kind = CommandType.Name(command.command_type).removeprefix("COMMAND_TYPE_")
    if command.WhichOneof("attributes") != f"{kind.lower()}_command_attributes":
        name = "".join(word.title() for word in kind.split("_"))
        raise CommandError(cause, f"{name}CommandAttributes is not set on {name}Command.")


def check_id(cause: int, field: str, command: str, value: str, limits: Limits, *, required: str = "") -> None:
    """An id or name of a command must be there and within its length; `required` comes before who is told it is not."""
    if not value:
        raise CommandError(cause, f"{required}{field} is not set on {command}.")
    check_length(cause, field, command, value, limits)


def check_length(cause: int, field: str, command: str, value: str, limits: Limits) -> None:
    """An id or name of a command must be within its length."""
    size = len(value.encode())
    if size > limits.ID_LENGTH:
        shown = value[: limits.ID_LENGTH]
        raise CommandError(
            cause,
            f"{field} on {command} exceeds length limit. {field}={shown} Length={size} Limit={limits.ID_LENGTH}",
        )


def check_queue(cause: int, before: str, name: str, limits: Limits) -> None:
    """A task queue of a command must be one; the text begins with `before`."""
    try:
        queue_name.check(name, limits)
    except StatusError as error:
        raise CommandError(cause, f"{before}: {error.message}") from None


def check_run_id(cause: int, command: str, value: str) -> None:
    """A run's id may be left out; one that is there is a UUID."""
    if value and (len(value) != 36 or value.count("-") != 4):
        raise CommandError(cause, f"Invalid RunId set on {command}. {value[:100]!r} is not a UUID.")


def own_namespace(tx: Transaction, cause: int, command: str, name: str) -> str:
    """The name of the workflow's own namespace, which is all that a command may name.

    Other namespaces are called by Nexus (Temporal: `system.enableCrossNamespaceCommands`, off unless it is turned on).

    Raises:
        CommandError: it names another one.
        StatusError: NOT_FOUND (with `NamespaceNotFoundFailure`), for an unknown one: it may be registered yet, so the
            task stays with its worker, and times out there.
    """
    own = tx.state.info.namespace_id
    if not name:
        return next((known for known, id in tx.namespaces.items() if id == own), "")
    if tx.namespaces and name not in tx.namespaces:
        shown = name[: tx.limits.ID_LENGTH // 4]
        raise not_found(f"Namespace {shown} is not found.", NamespaceNotFoundFailure(namespace=shown))
    if tx.namespaces.get(name, own) != own:
        raise CommandError(
            cause,
            f"cross namespace commands are not allowed. {command} names namespace {name!r}; another namespace is"
            " called by a Nexus operation.",
        )
    return name


def check_timeout(cause: int, before: str, length: Duration, *, after: str = "") -> int:
    """A timeout is none that cannot be; the text begins and ends so. Returns it in ns, 0 for unset."""
    if fault(length):
        raise CommandError(cause, f"{before}: {fault(length)}.{after}")
    return span(length)


def check_payloads(cause: int, field: str, message: Message, limits: Limits, *, of: str = "") -> None:
    """Payloads must be within their limit; a workflow that sends more would send it again, so it is terminated.

    `of` says whose they are, where a command may be one of many.
    """
    size = message.ByteSize()
    if size > limits.PAYLOAD_SIZE:
        whose = f" Of {of}:" if of else ""
        raise CommandError(
            cause,
            f"{field} exceeds size limit.{whose} {size} bytes, at most {limits.PAYLOAD_SIZE}.",
            terminate=True,
        )
