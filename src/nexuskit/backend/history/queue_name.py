"""What a task queue may be called, in a request or in a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.backend.errors import invalid_argument

if TYPE_CHECKING:
    from nexuskit.backend.settings import Limits

RESERVED = "/_sys/"
"""The real server names the parts of a queue so; programs written for it must not find such a name taken."""


def check(name: str, limits: Limits) -> None:
    """The name is there, within the limit of ids, and not reserved.

    Raises:
        StatusError: INVALID_ARGUMENT, in the real server's words.
    """
    if not name:
        raise invalid_argument("missing task queue name")
    size = len(name.encode())
    if size > limits.ID_LENGTH:
        raise invalid_argument(f"taskQueue length exceeds limit: {size} bytes, at most {limits.ID_LENGTH}")
    if name.startswith(RESERVED):
        raise invalid_argument(f"task queue name cannot start with reserved prefix {RESERVED}")
