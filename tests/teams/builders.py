"""A contract of which each operation is another builder, and the workflow behind them."""

from __future__ import annotations

from datetime import timedelta

from nexusrpc import Operation
from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import QueryRejectCondition, RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

import nexuskit

LIMIT = timedelta(seconds=30)


class Note(BaseModel):
    """A word to a workflow."""

    id: str
    text: str = ""


class Notes(BaseModel):
    texts: list[str]


class Refused(nexuskit.DeclaredError):
    """The note was refused."""

    text: str


@nexuskit.service
class NotesService:
    """Keeps notes."""

    keep: Operation[Note, Notes] = nexuskit.operation(deadline=LIMIT)
    read: Operation[Note, Notes] = nexuskit.operation(name="keep/read", deadline=LIMIT)
    read_open: Operation[Note, Notes] = nexuskit.operation(deadline=LIMIT)
    find: Operation[Note, Notes] = nexuskit.operation(deadline=LIMIT)
    add: Operation[Note, None] = nexuskit.operation(name="keep/add", deadline=LIMIT)
    begin: Operation[Note, None] = nexuskit.operation(deadline=LIMIT)
    finish: Operation[Note, None] = nexuskit.operation(name="keep/finish", deadline=LIMIT)
    replace: Operation[Note, Notes] = nexuskit.operation(errors=[Refused], deadline=LIMIT)
    shout: Operation[Note, Notes] = nexuskit.operation(errors=[Refused], deadline=LIMIT)
    foo: Operation[str, Notes] = nexuskit.operation(deadline=LIMIT)
    foo_get: Operation[None, Notes] = nexuskit.operation(name="foo/get", deadline=LIMIT)
    foo_finish: Operation[None, None] = nexuskit.operation(name="foo/finish", deadline=LIMIT)


@workflow.defn
class KeepNotes:
    """Keeps notes until it is told to finish."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.done = False

    @workflow.run
    async def run(self, note: Note) -> Notes:
        """All notes of one id."""
        self.texts.append(note.text)
        await workflow.wait_condition(lambda: self.done)
        return Notes(texts=self.texts)

    @workflow.query
    def read(self) -> Notes:
        """The notes."""
        return Notes(texts=self.texts)

    @workflow.query
    def find(self, note: Note) -> Notes:
        """The notes with a word in them."""
        if note.text == "fail":
            raise ApplicationError("no such thing")
        return Notes(texts=[text for text in self.texts if note.text in text])

    @workflow.signal
    def add(self, note: Note) -> None:
        """One more."""
        self.texts.append(note.text)

    @workflow.signal
    def finish(self) -> None:
        """No more."""
        self.done = True

    @workflow.update
    async def replace(self, note: Note) -> Notes:
        """All notes, replaced by one; takes a moment."""
        await workflow.sleep(0.01)
        if note.text == "declined":
            raise Refused(text="declined")
        self.texts = [note.text]
        return Notes(texts=self.texts)

    @replace.validator
    def check(self, note: Note) -> None:
        """Refuses an empty one."""
        if not note.text:
            raise ValueError("an empty note")


@workflow.defn
class Foo:
    """Is known by an id that its caller chose."""

    def __init__(self) -> None:
        self.text = ""
        self.done = False

    @workflow.run
    async def run(self, text: str) -> Notes:
        """Waits until it is told to finish."""
        self.text = text
        await workflow.wait_condition(lambda: self.done)
        return Notes(texts=[text])

    @workflow.query
    def get(self) -> Notes:
        """Its text."""
        return Notes(texts=[self.text])

    @workflow.signal
    def finish(self) -> None:
        """No more."""
        self.done = True


@activity.defn
async def shout(note: Note) -> Notes:
    """The note, loud."""
    if note.text == "declined":
        raise Refused(text="declined")
    return Notes(texts=[note.text.upper()])


def by_id(note: Note) -> str:
    """The workflow of a note."""
    return note.id


@nexuskit.service_handler(NotesService)
class NotesHandler:
    """A line for each."""

    keep = nexuskit.run_workflow(
        NotesService.keep,
        KeepNotes.run,
        id=by_id,
        id_conflict_policy=lambda note: (
            WorkflowIDConflictPolicy.USE_EXISTING if note.text == "attach" else WorkflowIDConflictPolicy.FAIL
        ),
    )
    read = nexuskit.query_workflow(NotesService.read, KeepNotes.read, id=by_id)
    read_open = nexuskit.query_workflow(
        NotesService.read_open, KeepNotes.read, id=by_id, reject_condition=QueryRejectCondition.NOT_OPEN
    )
    find = nexuskit.query_workflow(NotesService.find, KeepNotes.find, id=by_id)
    add = nexuskit.signal_workflow(NotesService.add, KeepNotes.add, id=by_id)
    begin = nexuskit.signal_with_start(NotesService.begin, KeepNotes.run, KeepNotes.add, id=by_id)
    finish = nexuskit.signal_workflow(NotesService.finish, KeepNotes.finish, id=by_id)
    replace = nexuskit.update_workflow(NotesService.replace, KeepNotes.replace, id=by_id)
    shout = nexuskit.run_activity(
        NotesService.shout,
        shout,
        id=lambda note: f"shout-{note.id}",
        start_to_close_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(maximum_attempts=2),
    )
    foo = nexuskit.run_workflow(NotesService.foo, Foo.run)
    foo_get = nexuskit.query_workflow(NotesService.foo_get, Foo.get)
    foo_finish = nexuskit.signal_workflow(NotesService.foo_finish, Foo.finish)
