"""What a handler is told of the request besides its message: ours, so that no handler depends on gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: the name of the call, such as "StartWorkflowExecution".
        pairs: the headers that came with it, as they came.
        deadline: when the client gives up (ns), 0 for never.
    """

    method: str
    pairs: Sequence[tuple[str, str | bytes]] = ()
    deadline: int = 0

    @property
    def metadata(self) -> dict[str, str]:
        """The headers that are text; names in lower case."""
        return {name: value for name, value in self.pairs if isinstance(value, str)}

    def until(self, longest: int, now: int, margin: int) -> int:
        """When a long poll answers at the latest: after `longest` (ns), and `margin` before the client gives up."""
        end = now + longest
        return min(end, max(self.deadline - margin, now)) if self.deadline else end
