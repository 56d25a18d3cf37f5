"""What one run does to another one of this database: start a child, tell a parent, signal, cancel, terminate.

Each is an effect of a row in the run that wants it. The other run's side, and the row's removal, are in the same commit
group, so that it happens exactly once, whenever the process may die.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.backend.history.child import Child, Orphan, Report
from nexuskit.backend.history.external import ExternalCancel, ExternalSignal
from nexuskit.backend.transfers.children import Children
from nexuskit.backend.transfers.externals import Externals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine


def effects(engine: Engine) -> Mapping[str, Callable[[Waiting], Coroutine[Any, Any, None]]]:
    """Kind of row → what carries it out."""
    children, externals = Children(engine), Externals(engine)
    return {
        Child.kind: children.start,
        Report.kind: children.report,
        Orphan.kind: children.treat,
        ExternalSignal.kind: externals.signal,
        ExternalCancel.kind: externals.cancel,
    }
