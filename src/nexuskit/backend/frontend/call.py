"""What a handler is told of the request besides its message: ours, so that no handler depends on gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: the name of the call, such as "StartWorkflowExecution".
        metadata: what came with it; names in lower case.
        deadline: when the client gives up (ns), 0 for never.
    """

    method: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    deadline: int = 0

    def until(self, longest: int, now: int, margin: int) -> int:
        """When a long poll answers at the latest: after `longest` (ns), and `margin` before the client gives up."""
        end = now + longest
        return min(end, max(self.deadline - margin, now)) if self.deadline else end
