"""Workflows of the callers' team: each makes one call, and tells what came of it as values that a test can look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import NexusOperationError

import nexuskit
from nexuskit.callers import NotStartedHereError
from tests.teams.builders import Note, NotesService
from tests.teams.services import Elsewhere, Payment, PaymentService, WiderService

SERVICES = {"payments": PaymentService, "wider": WiderService, "elsewhere": Elsewhere, "notes": NotesService}


@dataclass
class Ask:
    """What to call."""

    endpoint: str
    operation: str = "quote"
    id: str = "payment"
    outcome: str = "paid"
    cents: int = 100
    service: str = "payments"
    limit_s: float = 0
    cancel: bool = False


@dataclass
class Told:
    """What came of it.

    Attributes:
        result: what was answered.
        error: the class of what was raised, its message, its own attributes, and the classes of its causes.
    """

    result: Any = None
    error: str = ""
    message: str = ""
    fields: dict[str, Any] | None = None
    causes: list[str] | None = None
    sdk: bool = False
    """Whether code that knows only the SDK's error catches it, or finds it behind."""


@workflow.defn
class CallOnce:
    """Makes the call."""

    @workflow.run
    async def run(self, ask: Ask) -> Told:
        """One call."""
        service = SERVICES[ask.service]
        operation = getattr(service, ask.operation)
        value: Any = Payment.model_construct(id=ask.id, cents=ask.cents, outcome=ask.outcome)
        if operation.input_type is str:
            value = ask.id
        elif operation.input_type is type(None):
            value = None
        elif operation.input_type is Note:
            value = Note(id=ask.id, text=ask.outcome)
        elif operation.input_type is not Payment:
            value = {"id": ask.id, "cents": "many"}
        limit = {"schedule_to_close_timeout": timedelta(seconds=ask.limit_s)} if ask.limit_s else {}
        try:
            handle = await nexuskit.caller(service, endpoint=ask.endpoint).start(operation, value, **limit)
            if ask.cancel:
                handle.cancel()
            return Told(result=await handle)
        except (nexuskit.NexusCallError, nexuskit.DeclaredError) as error:
            names = ("type", "details", "retryable", "timeout_type", "what", "reason", "limit", "endpoint", "operation")
            fields = {name: str(getattr(error, name)) for name in names if hasattr(error, name)}
            fields |= {"faults": "; ".join(map(str, getattr(error, "faults", ())))}
            causes: list[str] = []
            cause = error.__cause__
            while cause is not None:
                causes.append(type(cause).__name__)
                cause = cause.__cause__
            sdk = isinstance(error, NexusOperationError) or isinstance(error.__cause__, NexusOperationError)
            return Told(None, type(error).__name__, str(error), fields, causes, sdk)


@workflow.defn
class AskWho:
    """Asks what the handler knows of a call."""

    @workflow.run
    async def run(self, ask: Ask) -> dict[str, str]:
        """One call."""
        payments = nexuskit.caller(PaymentService, endpoint=ask.endpoint)
        headers = {"TraceParent": "00-trace", "Temporal-Source-Namespace": "forged"}
        return await payments.execute(PaymentService.who, "", id=ask.id, headers=headers)


@workflow.defn
class WalkFoo:
    """Starts an operation with an id of its own choice, and reaches it by that id."""

    @workflow.run
    async def run(self, ask: Ask) -> list[Any]:
        """From the start to the result."""
        notes = nexuskit.caller(NotesService, endpoint=ask.endpoint)
        started = await notes.start(NotesService.foo, "bar", id=ask.id)
        begun = started.info()
        foo = notes.handle(NotesService.foo, id=ask.id)
        got = await foo.execute(NotesService.foo_get, None)
        refused: list[str] = []
        for attempt in (foo.cancel, foo.info):
            try:
                attempt()
            except NotStartedHereError as error:
                refused.append(str(error))
        await foo.execute(NotesService.foo_finish, None)
        result = await started.result()
        return [begun.state, begun.operation_token is not None, got.texts, result.texts, started.info().state, refused]


@workflow.defn
class CallAndForget:
    """Calls an operation that takes long, and ends before it does."""

    @workflow.run
    async def run(self, ask: Ask) -> str:
        """Told that it has started."""
        notes = nexuskit.caller(NotesService, endpoint=ask.endpoint)
        await notes.execute(NotesService.foo, "forgotten", id=ask.id, forget=True)
        return "gone"


@workflow.defn
class CallWithoutLimit:
    """Makes a call that nothing limits."""

    @workflow.run
    async def run(self, ask: Ask) -> str:
        """One call."""
        return await nexuskit.caller(PaymentService, endpoint=ask.endpoint).execute(PaymentService.status, "x")


@workflow.defn
class CallAndLetGo:
    """Does not catch what the call raises."""

    @workflow.run
    async def run(self, ask: Ask) -> int:
        """One call."""
        payment = Payment(id=ask.id, outcome=ask.outcome)
        return await nexuskit.caller(PaymentService, endpoint=ask.endpoint).execute(PaymentService.quote, payment)
