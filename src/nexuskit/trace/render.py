"""A trace as people read it: a tree in columns, coloured by state where the console has colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from nexuskit.trace.model import (
    Activity,
    ChildWorkflow,
    NexusCall,
    Node,
    Span,
    State,
    Step,
    Timer,
    Unreadable,
    Workflow,
)

COLOURS: dict[State, str] = {
    State.SCHEDULED: "yellow",
    State.BACKING_OFF: "yellow",
    State.BLOCKED: "yellow",
    State.RUNNING: "cyan",
    State.FIRED: "green",
    State.COMPLETED: "green",
    State.FAILED: "red",
    State.TIMED_OUT: "red",
    State.CANCELLED: "magenta",
    State.TERMINATED: "red",
    State.CONTINUED_AS_NEW: "blue",
}

_GAP = "  "
_MINUTE_S = 60


def render(node: Node, *, now: datetime | None = None) -> TraceView:
    """Something that a Rich console prints, one line for each thing that happened.

    Args:
        node: The tree.
        now: Gives open spans the time they have taken so far; without it they have none.
    """
    return TraceView(node, now)


def print_trace(console: Console, node: Node, *, now: datetime | None = None) -> None:
    """Print a trace. Lines are cut to the width of a terminal; a file or a pipe gets them whole."""
    console.print(render(node, now=now), crop=console.is_terminal)


def duration_text(seconds: float) -> str:
    """A duration for people: `12 ms`, `1.02 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


@dataclass(frozen=True)
class TraceView:
    """A trace that can be printed by a Rich console."""

    node: Node
    now: datetime | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, in columns."""
        glyphs = _ASCII if options.ascii_only else _UNICODE
        lines = list(_lines(_node(self.node, self.now), glyphs))
        widths = [max((line[column].cell_len for line in lines if len(line) > 1), default=0) for column in range(4)]
        for line in lines:
            text = _join(line, widths)
            text.no_wrap = True
            text.overflow = "ellipsis" if console.is_terminal else "ignore"
            yield text


@dataclass(frozen=True)
class _Glyphs:
    branch: str
    last: str
    bar: str
    gap: str
    failure: str


_UNICODE = _Glyphs(branch="├─ ", last="└─ ", bar="│  ", gap="   ", failure="✗ ")
_ASCII = _Glyphs(branch="|- ", last="`- ", bar="|  ", gap="   ", failure="x ")


@dataclass(frozen=True)
class _Row:
    """One thing in the tree. One that has no state stands across all columns."""

    label: Text
    namespace: str = ""
    state: Text | None = None
    duration: str = ""
    note: str = ""
    failure: str = ""
    below: tuple[_Row, ...] = ()

    def failures(self) -> Iterator[str]:
        yield self.failure
        for row in self.below:
            yield from row.failures()


def _lines(row: _Row, glyphs: _Glyphs, first: str = "", rest: str = "") -> Iterator[list[Text]]:
    """The row and all below it, each as its columns; `first` and `rest` are what stands to the left of it."""
    label = Text.assemble((first, "dim"), row.label)
    if row.state is not None:
        yield [label, Text(row.namespace, style="blue"), row.state, Text(row.duration), Text(row.note, style="dim")]
    else:
        yield [Text.assemble(label, (_GAP + row.note if row.note else "", "dim"))]
    # The failure of an inner step comes up through all that wait for it: it is told once, where it happened.
    if row.failure and not any(row.failure in below.failures() for below in row.below):
        bar = glyphs.bar if row.below else glyphs.gap
        yield [Text.assemble((rest + bar, "dim"), (glyphs.failure + row.failure, "red"))]
    for number, below in enumerate(row.below, 1):
        last = number == len(row.below)
        yield from _lines(
            below, glyphs, rest + (glyphs.last if last else glyphs.branch), rest + (glyphs.gap if last else glyphs.bar)
        )


def _join(line: list[Text], widths: list[int]) -> Text:
    if len(line) == 1:
        return line[0]
    label, namespace, state, duration, note = (each.copy() for each in line)
    for text, width in zip((label, namespace, state), widths, strict=False):
        text.pad_right(width - text.cell_len)
    duration.pad_left(widths[3] - duration.cell_len)
    text = Text(_GAP).join([label, namespace, state, duration, note])
    text.rstrip()
    return text


def _node(node: Node, now: datetime | None) -> _Row:
    if isinstance(node, Unreadable):
        what = f"{node.link.kind.replace('_', ' ')} {node.link.id} in {node.link.namespace}"
        return _Row(label=Text(_clean(what)), note=_clean(f"cannot be read: {node.reason}"))
    below = [_step(step, node, now) for step in node.steps]
    if node.task_failure:
        standing = Text("workflow task keeps failing", style="red")
        below.append(_Row(label=standing, failure=_clean(node.task_failure.text)))
    if node.next_run:
        below.append(_node(node.next_run, now))
    return _Row(
        label=Text.assemble((_clean(node.type), "bold"), f" {_clean(node.workflow_id)}"),
        namespace=_clean(node.namespace),
        state=_state(node.state),
        duration=_duration(node, now),
        note=f"attempt {node.attempt}" if node.attempt > 1 else "",
        failure=_clean(node.failure.text) if node.failure else "",
        below=tuple(below),
    )


def _step(step: Step, workflow: Workflow, now: datetime | None) -> _Row:
    below: tuple[_Row, ...] = ()
    match step:
        case Activity():
            label = _label("activity", step.type)
            note = _attempts(step.attempts)
        case Timer():
            label = _label(
                "timer", f"{step.timeout_s:g} s" if step.timeout_s < _MINUTE_S else duration_text(step.timeout_s)
            )
            note = ""
        case NexusCall():
            label = Text.assemble(_label("nexus", f"{step.service}.{step.operation}"), _label(" at", step.endpoint))
            note = ", ".join(each for each in (step.mode, _attempts(step.attempts)) if each)
            below = _handler(step, now)
        case ChildWorkflow():
            label = _label("child", step.type)
            note = ""
            below = (_node(step.target, now),) if step.target else ()
    return _Row(
        label=label,
        namespace=_clean(workflow.namespace),
        state=_state(step.state),
        duration=_duration(step, now),
        note=note,
        failure=_clean(step.failure.text) if step.failure else "",
        below=below,
    )


def _handler(call: NexusCall, now: datetime | None) -> tuple[_Row, ...]:
    target = (_node(call.target, now),) if call.target else ()
    handler = call.handler
    if handler is None:
        return target
    label = (
        _label("handler at", handler.url) if handler.url else _label("handler, task queue", handler.task_queue or "")
    )
    answered = call.started or (call.end if call.mode == "sync" else None)
    return (
        _Row(
            label=label,
            namespace=_clean(handler.namespace or ""),
            state=Text("answered", style="green") if answered else Text(),
            duration=duration_text((answered - call.start).total_seconds()) if answered else "",
            below=target,
        ),
    )


def _state(state: State) -> Text:
    return Text(state.value.replace("_", " "), style=COLOURS[state])


def _label(kind: str, name: str) -> Text:
    return Text.assemble((f"{kind} ", "dim"), _clean(name))


def _attempts(attempts: int | None) -> str:
    return f"{attempts} attempts" if attempts and attempts > 1 else ""


def _duration(span: Span, now: datetime | None) -> str:
    if span.duration_s is not None:
        return duration_text(span.duration_s)
    return f"{duration_text(max(0.0, (now - span.start).total_seconds()))} …" if now else ""


def _clean(text: str) -> str:
    """One line without control characters: names and messages come from other teams, and go to a terminal."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
