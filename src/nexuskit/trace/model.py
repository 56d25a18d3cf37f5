"""What a trace is made of: frozen values, with no way to reach a server. Times are UTC, durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias


class State(StrEnum):
    """How far a workflow or one of its steps has come."""

    SCHEDULED = "scheduled"
    """Waits for a worker or a handler to take it."""
    BACKING_OFF = "backing_off"
    """An attempt failed; the next one is due later."""
    BLOCKED = "blocked"
    """A circuit breaker holds the call back."""
    RUNNING = "running"
    """Started, not ended."""
    FIRED = "fired"
    """A timer that ran to its end."""
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    CONTINUED_AS_NEW = "continued_as_new"

    @property
    def is_open(self) -> bool:
        """Whether something may still happen to it."""
        return self in _OPEN


_OPEN = frozenset({State.SCHEDULED, State.BACKING_OFF, State.BLOCKED, State.RUNNING})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One link in a chain of causes."""

    kind: str
    """`application`, `timeout`, `cancelled`, `terminated`, `server`, `handler`, `nexus_operation`, `activity`,
    `child_workflow`, `reset` or `unknown`."""
    message: str
    type: str | None = None
    """The type of an application error, of a handler error, or of a timeout."""
    cause: Failure | None = None

    @property
    def chain(self) -> tuple[Failure, ...]:
        """This failure, then its causes, outermost first."""
        return (self, *self.cause.chain) if self.cause else (self,)

    @property
    def text(self) -> str:
        """One line for people: what happened, without the wrappers that only say where."""
        telling = [each for each in self.chain if each.kind not in _WRAPPERS] or [self]
        return "; cause: ".join(f"{each.type}: {each.message}" if each.type else each.message for each in telling)


_WRAPPERS = frozenset({"nexus_operation", "activity", "child_workflow"})


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A link to something that runs in a namespace."""

    namespace: str
    kind: str
    """`workflow`, `activity` or `nexus_operation`. Only workflows have a history to follow."""
    id: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Handler:
    """Where an endpoint routes to now: a namespace and task queue, or a URL."""

    namespace: str | None = None
    task_queue: str | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Span:
    """What everything with a beginning and an end has."""

    state: State
    start: datetime
    """When it was scheduled; of a workflow, when it was started."""
    end: datetime | None = None
    """When it ended; None while it is open."""
    failure: Failure | None = None
    """Why it ended, or why its last attempt failed."""

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it is open."""
        return (self.end - self.start).total_seconds() if self.end else None


@dataclass(frozen=True, kw_only=True)
class Activity(Span):
    """An activity of a workflow."""

    event_id: int
    """The event that scheduled it. No two steps of a workflow have the same."""
    activity_id: str
    type: str
    task_queue: str
    started: datetime | None = None
    """When a worker took its last attempt. History tells only once it has ended."""
    attempts: int | None = None
    """Attempts so far; None if not known."""


@dataclass(frozen=True, kw_only=True)
class Timer(Span):
    """A durable timer of a workflow."""

    event_id: int
    """The event that started it."""
    timer_id: str
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class NexusCall(Span):
    """A Nexus operation that a workflow called."""

    event_id: int
    """The event that scheduled it."""
    endpoint: str
    service: str
    operation: str
    started: datetime | None = None
    """When the handler said that it runs on; None for an operation that answered at once."""
    token: str | None = None
    """The operation token, for an asynchronous operation."""
    attempts: int | None = None
    """Attempts to start it; known only while the call is open."""
    cancel_requested: bool = False
    handler: Handler | None = None
    """Where the endpoint routes to; None if that could not be read."""
    links: tuple[Ref, ...] = ()
    """What the handler says stands behind the operation."""
    target: Node | None = None
    """The workflow behind the first link; None where there is none."""

    @property
    def mode(self) -> str | None:
        """`async` once the handler has answered with a token, `sync` if it ended without one, None if not yet known."""
        if self.started or self.token:
            return "async"
        return "sync" if self.state in (State.COMPLETED, State.FAILED, State.CANCELLED) else None


@dataclass(frozen=True, kw_only=True)
class ChildWorkflow(Span):
    """A child workflow, as its parent's history tells of it."""

    event_id: int
    """The event that initiated it."""
    type: str
    link: Ref
    target: Node | None = None
    """The child itself; None until it has started."""


Step: TypeAlias = Activity | Timer | NexusCall | ChildWorkflow


@dataclass(frozen=True, kw_only=True)
class Workflow(Span):
    """One run of a workflow and its steps, in the order in which they were scheduled."""

    namespace: str
    workflow_id: str
    run_id: str
    type: str
    task_queue: str
    attempt: int = 1
    """Above 1 when a retry policy started this run."""
    steps: tuple[Step, ...] = ()
    task_failure: Failure | None = None
    """Why its workflow task fails, while it does: the workflow stands still until its code or what it needs changes."""
    called_by: tuple[Ref, ...] = ()
    """Whose calls this run completes."""
    next_link: Ref | None = None
    """The run that goes on after this one: continued as new, retried or by schedule."""
    next_run: Node | None = None


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A workflow that is known by a link but cannot be read."""

    link: Ref
    reason: str


Node: TypeAlias = Workflow | Unreadable
