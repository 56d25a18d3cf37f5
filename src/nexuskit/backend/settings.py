"""The limits of one backend: the constants of `limits`, some of them changed.

Two backends in one process may have different ones, so whatever depends on a limit reads it from the value that it was
handed: `tx.limits` in the core, `services.limits` in the frontend, `engine.limits` elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from nexuskit.backend import limits


class Limits:
    """Every limit by the name of its constant. Nothing changes once it is made."""

    def __init__(self, changed: Mapping[str, Any]) -> None:
        values = {name: value for name, value in vars(limits).items() if name.isupper()}
        vars(self).update(values, **changed)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a backend's limits do not change; {name} was to be set")


DEFAULTS = cast("Limits", limits)
"""The constants themselves: what holds where nothing is configured."""
