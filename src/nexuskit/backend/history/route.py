"""What the core knows of an endpoint, when a call to it is scheduled."""

from __future__ import annotations

from typing import NamedTuple

from nexuskit.identity.allowed_callers import EVERYONE, AllowedCallers


class Route(NamedTuple):
    """An endpoint that is registered.

    Attributes:
        id: names it for as long as it is there.
        allowed: who may call it.
    """

    id: str
    allowed: AllowedCallers = EVERYONE
