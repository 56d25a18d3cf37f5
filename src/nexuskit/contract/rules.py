"""What a change of a contract breaks: the table that the check goes by, and docs/contracts.md shows.

Two versions of a contract meet in three ways. A caller that stays on the old version calls a handler of the new one; a
caller of the new version calls a handler that stays; and an operation that was started before the change goes on after
it, with its input, result and errors recorded by one version and read by the other.

So there are two directions for each value that travels. Of an input: old values at the new handler (`narrowed`), new
values at the old handler (`widened`). Of a result or an error: new ones at the old caller (`widened`), old ones at the
new caller (`narrowed`). A rule is a kind of difference in one of these directions; that a type was narrowed and widened
at one place is two findings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

Broken = Literal["callers", "handlers", "in-flight"]
"""Who is hurt: callers of the old version, handlers of the old version, operations started before the change."""
BROKEN: tuple[Broken, ...] = get_args(Broken)


@dataclass(frozen=True)
class Rule:
    """A kind of change.

    Attributes:
        code: its name, for programs.
        breaks: whom it breaks; nobody, where it is empty.
        what: what has changed, in a few words.
        reason: why that breaks them, or why it does not.
        remedy: what to do instead; "" where nothing breaks.
    """

    code: str
    breaks: tuple[Broken, ...]
    what: str
    reason: str
    remedy: str = ""


_OLD_AT_NEW_HANDLER: tuple[Broken, ...] = ("callers", "in-flight")
_NEW_AT_OLD_HANDLER: tuple[Broken, ...] = ("handlers",)
_NEW_AT_OLD_CALLER: tuple[Broken, ...] = ("callers", "in-flight")
_OLD_AT_NEW_CALLER: tuple[Broken, ...] = ("handlers", "in-flight")

_REFUSED_BY_NEW_HANDLER = (
    "Callers of the old version send what the new handler refuses; inputs that are recorded are refused on replay."
)
_REFUSED_BY_OLD_HANDLER = "Handlers of the old version refuse what callers of the new one may send."
_REFUSED_BY_OLD_CALLER = "Callers of the old version refuse such a result, of operations that are running, too."
_REFUSED_BY_NEW_CALLER = (
    "Handlers of the old version, and operations that are running, answer with what callers of the new one refuse, also"
    " on replay of what is recorded."
)
_HANDLERS_FIRST = (
    "Let handlers have the new version before any caller uses it, and check with `--breaks callers --breaks in-flight`."
)
_NEW_OPERATION = "Leave the operation as it is, and add another one beside it."

_RULES = (
    # --- services and operations
    Rule(
        "service-removed",
        ("callers", "in-flight"),
        "a service is gone",
        "Callers of the old version get NOT_FOUND; operations that are running can be cancelled by nobody.",
        "Keep the service until no caller uses it and nothing of it runs.",
    ),
    Rule(
        "service-renamed",
        ("callers", "handlers", "in-flight"),
        "a service has another name",
        "Callers and handlers find each other by the name, and a caller's recorded history names the old one.",
        "Keep the name on the wire: `@nexuskit.service(name=...)`.",
    ),
    Rule("service-added", (), "a new service", "Nobody used it before."),
    Rule(
        "operation-removed",
        ("callers", "in-flight"),
        "an operation is gone",
        "Callers of the old version get NOT_FOUND; those of it that are running can be cancelled by nobody.",
        "Keep the operation until no caller uses it and none of it runs.",
    ),
    Rule(
        "operation-renamed",
        ("callers", "handlers", "in-flight"),
        "an operation has another name",
        "It is called by its name; a caller's workflow that replays finds another operation than it has recorded.",
        "Keep the name on the wire: `nexuskit.operation(name=...)`.",
    ),
    Rule(
        "operation-added",
        (),
        "a new operation",
        "Nobody used it before; handlers that are to have it come before callers.",
    ),
    Rule(
        "sync-to-async",
        ("callers",),
        "promised to answer at once, now by a callback",
        "Callers of the old version count on the answer to their request: by plain HTTP, or with a short timeout.",
        "Leave the operation sync, and add an async one beside it.",
    ),
    Rule(
        "async-to-sync",
        ("handlers", "in-flight"),
        "promised to answer by a callback, now at once",
        "Handlers of the old version still answer later than callers of the new one expect; those that are running hold"
        " a token that a sync handler cannot cancel.",
        "Leave the operation async, and add a sync one beside it.",
    ),
    Rule("kind-stated", (), "sync or async is promised, or no more", "One of the versions promises nothing."),
    Rule(
        "deadline-shorter",
        ("handlers",),
        "a shorter deadline, or one where there was none",
        "Callers of the new version give up while a handler of the old one still has time.",
        "Keep the deadline; who needs the answer earlier sets a timeout on the call.",
    ),
    Rule("deadline-longer", (), "a longer deadline, or none any more", "Whoever was in time is in time."),
    # --- input
    Rule(
        "required-input-added",
        _OLD_AT_NEW_HANDLER,
        "a new required field of an input, or one that is required now",
        _REFUSED_BY_NEW_HANDLER,
        "Give the field a default.",
    ),
    Rule(
        "input-field-added", (), "a new field of an input that may be missing", "Handlers of the old version leave it."
    ),
    Rule(
        "input-field-removed",
        _OLD_AT_NEW_HANDLER,
        "a field of an input is gone",
        "What callers of the old version ask for in it is not done, or is refused; a workflow that replays does not see"
        " what it went by.",
        "Keep the field, marked as deprecated, until no caller sends it.",
    ),
    Rule(
        "required-input-removed",
        _NEW_AT_OLD_HANDLER,
        "a required field of an input is gone, or may be missing now",
        _REFUSED_BY_OLD_HANDLER,
        _HANDLERS_FIRST,
    ),
    Rule(
        "input-field-renamed",
        ("callers", "handlers", "in-flight"),
        "a field of an input seems to have another name",
        "Neither side reads what the other one sends under its own name.",
        "Keep the name on the wire by an alias: `Field(alias=...)`.",
    ),
    Rule(
        "input-field-refused",
        _NEW_AT_OLD_HANDLER,
        "a new field of an input that was closed to unknown fields",
        _REFUSED_BY_OLD_HANDLER,
        _HANDLERS_FIRST,
    ),
    Rule(
        "input-closed",
        _OLD_AT_NEW_HANDLER,
        "an input refuses unknown fields now, or asks more of them",
        _REFUSED_BY_NEW_HANDLER,
        "Leave unknown fields alone, so that either side may be newer.",
    ),
    Rule(
        "input-opened",
        _NEW_AT_OLD_HANDLER,
        "an input takes unknown fields now",
        _REFUSED_BY_OLD_HANDLER,
        _HANDLERS_FIRST,
    ),
    Rule(
        "input-type-narrowed",
        _OLD_AT_NEW_HANDLER,
        "an input takes less: a type of it is gone",
        _REFUSED_BY_NEW_HANDLER,
        _NEW_OPERATION,
    ),
    Rule(
        "input-type-widened",
        _NEW_AT_OLD_HANDLER,
        "an input takes another type, too",
        _REFUSED_BY_OLD_HANDLER,
        _HANDLERS_FIRST,
    ),
    Rule(
        "input-enum-narrowed",
        _OLD_AT_NEW_HANDLER,
        "an input takes fewer values",
        _REFUSED_BY_NEW_HANDLER,
        "Go on taking the value, and let the handler say what it means now.",
    ),
    Rule(
        "input-enum-widened",
        _NEW_AT_OLD_HANDLER,
        "an input takes more values",
        _REFUSED_BY_OLD_HANDLER,
        _HANDLERS_FIRST,
    ),
    Rule(
        "input-constraint-tightened",
        _OLD_AT_NEW_HANDLER,
        "a bound, length, pattern or format of an input is stricter, or another one",
        _REFUSED_BY_NEW_HANDLER,
        "Keep the constraint, and let the handler refuse by a declared error.",
    ),
    Rule(
        "input-constraint-loosened",
        _NEW_AT_OLD_HANDLER,
        "a bound, length, pattern or format of an input is looser, or another one",
        _REFUSED_BY_OLD_HANDLER,
        _HANDLERS_FIRST,
    ),
    # --- output
    Rule(
        "output-field-removed",
        _NEW_AT_OLD_CALLER,
        "a field of a result is gone",
        "Callers of the old version refuse the result, or see a default where they had a value.",
        "Keep sending the field, marked as deprecated, until no caller reads it.",
    ),
    Rule(
        "output-made-optional",
        _NEW_AT_OLD_CALLER,
        "a field of a result may be missing now",
        _REFUSED_BY_OLD_CALLER,
        "Keep sending the field.",
    ),
    Rule("output-field-added", (), "a new field of a result", "Callers of the old version do not read it."),
    Rule(
        "required-output-added",
        _OLD_AT_NEW_CALLER,
        "callers require a field of a result that is not always sent by the old version",
        _REFUSED_BY_NEW_CALLER,
        "Give the field a default.",
    ),
    Rule(
        "output-field-renamed",
        ("callers", "handlers", "in-flight"),
        "a field of a result seems to have another name",
        "Neither side reads what the other one sends under its own name.",
        "Keep the name on the wire by an alias: `Field(alias=...)`.",
    ),
    Rule(
        "output-field-refused",
        _NEW_AT_OLD_CALLER,
        "a new field of a result that was closed to unknown fields",
        _REFUSED_BY_OLD_CALLER,
        _NEW_OPERATION,
    ),
    Rule(
        "output-closed",
        _OLD_AT_NEW_CALLER,
        "callers refuse fields of a result that the old version sends",
        _REFUSED_BY_NEW_CALLER,
        "Leave unknown fields alone, so that either side may be newer.",
    ),
    Rule(
        "output-type-widened",
        _NEW_AT_OLD_CALLER,
        "a result may be of another type, too",
        _REFUSED_BY_OLD_CALLER,
        _NEW_OPERATION,
    ),
    Rule(
        "output-type-narrowed",
        _OLD_AT_NEW_CALLER,
        "a result is of fewer types",
        _REFUSED_BY_NEW_CALLER,
        "Let callers go on taking the old type.",
    ),
    Rule(
        "output-enum-widened",
        _NEW_AT_OLD_CALLER,
        "a result may be one of more values",
        _REFUSED_BY_OLD_CALLER,
        "Send the new value in a field of its own, or where the caller has said that it knows it.",
    ),
    Rule(
        "output-enum-narrowed",
        _OLD_AT_NEW_CALLER,
        "a result is one of fewer values",
        _REFUSED_BY_NEW_CALLER,
        "Let callers go on taking the old value.",
    ),
    Rule(
        "output-constraint-loosened",
        _NEW_AT_OLD_CALLER,
        "a bound, length, pattern or format of a result is looser, or another one",
        _REFUSED_BY_OLD_CALLER,
        "Keep the promise; send what goes beyond it in a field of its own.",
    ),
    Rule(
        "output-constraint-tightened",
        _OLD_AT_NEW_CALLER,
        "a bound, length, pattern or format of a result is stricter, or another one",
        _REFUSED_BY_NEW_CALLER,
        "Let callers go on taking what was allowed.",
    ),
    # --- errors
    Rule(
        "error-added",
        ("callers", "in-flight"),
        "an operation declares a new error",
        "Callers of the old version, and workflows that wait for a result, catch it as NexusOperationFailedError only.",
        "Let it be raised where only new callers can come: by a new operation, or for a new value of the input.",
    ),
    Rule(
        "error-removed",
        ("handlers", "in-flight"),
        "an operation does not declare an error any more",
        "Handlers of the old version still raise it, and histories hold it: callers of the new one do not know it.",
        "Keep it declared until no handler raises it and nothing that met it runs.",
    ),
    Rule(
        "error-retryable",
        ("callers", "in-flight"),
        "an error is retried that was not, or the other way round",
        "Callers meet it after the first attempt, or after all of them, and not as before; running operations, too.",
        "Declare another error beside it.",
    ),
    Rule(
        "error-widened",
        _NEW_AT_OLD_CALLER,
        "fields of an error may be what they could not be, or are gone",
        "Callers of the old version cannot read its fields, and catch a NexusOperationFailedError in its place.",
        "Declare another error beside it, or keep its fields.",
    ),
    Rule(
        "error-narrowed",
        _OLD_AT_NEW_CALLER,
        "callers require more of an error's fields than the old version sends",
        "Callers of the new version cannot read what handlers of the old one raise, and what is recorded.",
        "Give the field a default, or declare another error beside it.",
    ),
    Rule("error-field-added", (), "a new field of an error", "Callers of the old version do not read it."),
    # --- words
    Rule("described", (), "docs, tags or a version", "Nobody's values change."),
)

RULES: Mapping[str, Rule] = MappingProxyType({each.code: each for each in _RULES})
"""Every kind of change that is told, by its code."""


def table() -> str:
    """The rules as Markdown."""
    rows = ["| code | what has changed | breaks | why | remedy |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| `{each.code}` | {each.what} | {', '.join(each.breaks) or 'nobody'} | {each.reason} | {each.remedy} |"
        for each in RULES.values()
    ]
    return "\n".join(rows)


BEGIN = "<!-- from here: made by `python -m nexuskit.contract.rules docs/contracts.md` -->"
END = "<!-- to here -->"


def rewritten(document: str) -> str:
    """A document with its table made new.

    Raises:
        ValueError: it does not have the two marks between which the table stands.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no {BEGIN!r} with a {END!r} after it")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
