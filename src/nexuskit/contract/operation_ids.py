"""Ids of operations: how a caller chooses one, and which one a token holds."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, cast

from nexuskit.contract.faults import Fault, InvalidValueError

OPERATION_ID = "nexuskit-operation-id"
"""The header in which a caller's own id for an operation travels."""
ID_LENGTH = 1_000
"""Characters of an id: it becomes the id of a workflow, of which Temporal takes so many."""

_IDS = ("uid", "aid", "wid")
"""Where the SDKs' tokens hold an id: of an update, an activity, a workflow. An update's has its workflow's too."""


def checked_id(id: str) -> str:
    """An id that a caller chose.

    Raises:
        InvalidValueError: it is empty, too long, or has characters that no header can carry.
    """
    if not id or len(id) > ID_LENGTH or not id.isascii() or not id.isprintable():
        problem = f"expected were 1 to {ID_LENGTH} printable ASCII characters, since it travels in a header"
        raise InvalidValueError([Fault("id", problem, "operation_id")])
    return id


def operation_id(token: str) -> str:
    """The id inside an operation token: of the workflow, activity or update behind it.

    The SDKs' tokens are base64url of JSON. Any other token, such as one that a handler made itself, is its own id.
    """
    try:
        read: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        return token
    if not isinstance(read, dict):
        return token
    held = cast("dict[str, Any]", read)
    return next((held[key] for key in _IDS if isinstance(held.get(key), str) and held[key]), token)
