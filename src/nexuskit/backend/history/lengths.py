"""How long an id or a name may be, refused in the words that the real server has for all that stands alone."""

from __future__ import annotations

from nexuskit.backend.errors import invalid_argument


def check_length(field: str, value: str, limit: int) -> None:
    """An id or a name is no longer than the limit (bytes).

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    size = len(value.encode())
    if size > limit:
        raise invalid_argument(f"{field} exceeds length limit. Length={size} Limit={limit}")
