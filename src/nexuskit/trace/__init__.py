"""Explains one call across namespaces: the tree from a caller's workflow to the workflows and activities behind it.

    tree = await nexuskit.trace.trace(connect, "orders", "order-1")
    nexuskit.trace.print_trace(rich.console.Console(), tree)
    json.dumps(nexuskit.trace.to_json(tree))

`fold` is the pure part: one history to one `Workflow`. `trace` reads histories and follows their links to other
namespaces. The names of the JSON form are documented in docs/trace.md and stay as they are.
"""

from nexuskit.trace.fetch import MAX_DEPTH, Connect, trace
from nexuskit.trace.fold import fold
from nexuskit.trace.json_form import to_json
from nexuskit.trace.model import (
    Activity,
    ChildWorkflow,
    Failure,
    Handler,
    NexusCall,
    Node,
    Ref,
    State,
    Step,
    Timer,
    Unreadable,
    Workflow,
)
from nexuskit.trace.pending import add_pending
from nexuskit.trace.render import print_trace, render

__all__ = [
    "MAX_DEPTH",
    "Activity",
    "ChildWorkflow",
    "Connect",
    "Failure",
    "Handler",
    "NexusCall",
    "Node",
    "Ref",
    "State",
    "Step",
    "Timer",
    "Unreadable",
    "Workflow",
    "add_pending",
    "fold",
    "print_trace",
    "render",
    "to_json",
    "trace",
]
