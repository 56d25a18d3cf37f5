"""The difference between two versions of a contract, and whom it breaks: callers, handlers, operations in flight.

`compare` finds what has changed and classes it by the table in `nexuskit.contract.rules`. It goes by what the contract
says, so it also stops what today's programs happen not to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from nexuskit.contract.document import ContractDocument, ErrorDocument, OperationDocument, ServiceDocument
from nexuskit.contract.rules import RULES, Broken, Rule
from nexuskit.contract.schemas import Aspect, Difference, differences, same_values


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        rule: what kind of change it is, whom it breaks, why, and what to do instead.
        service: the service's name, in the new version where both have it.
        operation: the operation's name; "" where it is about the service.
        part: "input", "output", "error CardDeclined", or "" for the operation as a whole.
        path: where in the value, such as "items.[].cents".
        found: what was, and what is.
    """

    rule: Rule
    service: str
    operation: str
    part: str
    path: str
    found: str

    @property
    def breaks(self) -> tuple[Broken, ...]:
        """Whom it breaks."""
        return self.rule.breaks

    @property
    def place(self) -> str:
        """Where it is, for people: `PaymentService.process, input: items.[].cents`."""
        whole = f"{self.service}.{self.operation}" if self.operation else self.service
        where = f"{whole}, {self.part}" if self.part else whole
        return f"{where}: {self.path}" if self.path else where

    def as_json(self) -> dict[str, Any]:
        """The change as a JSON value."""
        return {
            "code": self.rule.code,
            "breaks": list(self.breaks),
            "service": self.service,
            "operation": self.operation,
            "part": self.part,
            "path": self.path,
            "found": self.found,
            "reason": self.rule.reason,
            "remedy": self.rule.remedy,
        }


def compare(old: ContractDocument, new: ContractDocument) -> tuple[Change, ...]:
    """All that has changed from one version to another: what breaks somebody first."""
    found = [*_services(old, new)]
    order = {code: at for at, code in enumerate(RULES)}
    return tuple(sorted(found, key=lambda each: (not each.breaks, each.service, each.operation, order[each.rule.code])))


T = TypeVar("T", ServiceDocument, OperationDocument)


def _by_name(found: Iterable[T]) -> dict[str, T]:
    return {each.name: each for each in found}


def _pairs(
    old: Mapping[str, T], new: Mapping[str, T], alike: Callable[[T, T], bool]
) -> tuple[list[tuple[T, T]], list[T], list[T]]:
    """What is on both sides, also by another name, then what only the old one has, then what only the new one has."""
    gone = [each for name, each in old.items() if name not in new]
    came = [each for name, each in new.items() if name not in old]
    pairs = [(each, new[name]) for name, each in old.items() if name in new]
    for one in tuple(gone):
        found = [other for other in came if alike(one, other)]
        back = [each for each in gone if found and alike(each, found[0])]
        if len(found) == 1 and len(back) == 1:
            pairs.append((one, found[0]))
            gone.remove(one)
            came.remove(found[0])
    return pairs, gone, came


def _services(old: ContractDocument, new: ContractDocument) -> Iterable[Change]:
    pairs, gone, came = _pairs(_by_name(old.services), _by_name(new.services), _alike_services)
    for one in gone:
        yield _change("service-removed", one.name, found=f"service {one.name} is gone")
    for other in came:
        yield _change("service-added", other.name, found=f"service {other.name} is new")
    for one, other in pairs:
        if one.name != other.name:
            yield _change("service-renamed", other.name, found=f"was {one.name}, is {other.name}")
        yield from _described(other.name, "", "", one, other, ("version", "doc"))
        yield from _operations(one, other)


def _alike_services(old: ServiceDocument, new: ServiceDocument) -> bool:
    """Whether they offer operations of one name: then one is the other with another name."""
    return bool(_by_name(old.operations).keys() & _by_name(new.operations).keys())


def _operations(old: ServiceDocument, new: ServiceDocument) -> Iterable[Change]:
    name = new.name
    pairs, gone, came = _pairs(_by_name(old.operations), _by_name(new.operations), _alike_operations)
    for one in gone:
        yield _change("operation-removed", name, one.name, found=f"operation {one.name} is gone")
    for other in came:
        yield _change("operation-added", name, other.name, found=f"operation {other.name} is new")
    for one, other in pairs:
        if one.name != other.name:
            yield _change("operation-renamed", name, other.name, found=f"was {one.name}, is {other.name}")
        yield from _described(name, other.name, "", one, other, ("doc", "tags"))
        yield from _promises(name, one, other)
        yield from _input(name, one, other)
        yield from _output(name, one, other)
        yield from _errors(name, one, other)


def _alike_operations(old: OperationDocument, new: OperationDocument) -> bool:
    return same_values(old.input, new.input) and same_values(old.output, new.output)


def _described(
    service: str, operation: str, part: str, old: object, new: object, names: Sequence[str]
) -> Iterable[Change]:
    for name in names:
        if getattr(old, name) != getattr(new, name):
            yield _change("described", service, operation, part, found=f"its {name} is another one")


def _promises(service: str, old: OperationDocument, new: OperationDocument) -> Iterable[Change]:
    if old.kind != new.kind:
        both = old.kind is not None and new.kind is not None
        code = f"{old.kind}-to-{new.kind}" if both else "kind-stated"
        yield _change(code, service, new.name, found=f"was {old.kind or 'not stated'}, is {new.kind or 'not stated'}")
    if old.deadline != new.deadline:
        shorter = new.deadline is not None and (old.deadline is None or new.deadline < old.deadline)
        found = f"was {old.deadline or 'none'}, is {new.deadline or 'none'}"
        yield _change("deadline-shorter" if shorter else "deadline-longer", service, new.name, found=found)


# --- values

Sender = Literal["old", "new"]
"""Whose values are looked at, at the other version's side."""

_OF_INPUT: Mapping[tuple[Sender, Aspect], str] = {
    ("old", Aspect.MISSING): "required-input-added",
    ("old", Aspect.UNREAD): "input-field-removed",
    ("old", Aspect.UNSENT): "input-field-added",
    ("old", Aspect.UNKNOWN): "input-closed",
    ("old", Aspect.TYPE): "input-type-narrowed",
    ("old", Aspect.ENUM): "input-enum-narrowed",
    ("old", Aspect.CONSTRAINT): "input-constraint-tightened",
    ("new", Aspect.MISSING): "required-input-removed",
    ("new", Aspect.UNREAD): "input-field-refused",
    ("new", Aspect.UNKNOWN): "input-opened",
    ("new", Aspect.TYPE): "input-type-widened",
    ("new", Aspect.ENUM): "input-enum-widened",
    ("new", Aspect.CONSTRAINT): "input-constraint-loosened",
}
"""The rule for what is wrong with values of the old or the new version at a handler of the other one."""

_OF_OUTPUT: Mapping[tuple[Sender, Aspect], str] = {
    ("new", Aspect.UNREAD): "output-field-refused",
    ("new", Aspect.UNSENT): "output-field-removed",
    ("new", Aspect.UNKNOWN): "output-field-refused",
    ("new", Aspect.TYPE): "output-type-widened",
    ("new", Aspect.ENUM): "output-enum-widened",
    ("new", Aspect.CONSTRAINT): "output-constraint-loosened",
    ("old", Aspect.MISSING): "required-output-added",
    ("old", Aspect.UNREAD): "output-closed",
    ("old", Aspect.UNKNOWN): "output-closed",
    ("old", Aspect.TYPE): "output-type-narrowed",
    ("old", Aspect.ENUM): "output-enum-narrowed",
    ("old", Aspect.CONSTRAINT): "output-constraint-tightened",
}
"""The same at a caller of the other version."""


def _both(old: Sequence[Difference], new: Sequence[Difference]) -> Iterable[tuple[Sender, Sequence[Difference]]]:
    yield "old", old
    yield "new", new


def _input(service: str, old: OperationDocument, new: OperationDocument) -> Iterable[Change]:
    # Callers may send whatever is accepted, in whatever language they are written.
    there = differences(old.input, new.input, as_declared=False)
    back = differences(new.input, old.input, as_declared=False)
    renamed = _renamed(there, gone={Aspect.UNREAD}, came={Aspect.UNSENT, Aspect.MISSING})
    yield from _renames("input-field-renamed", service, new.name, "input", renamed)
    for sender, found in _both(old=there, new=back):
        for each in _left(found, renamed):
            if sender == "new" and not each.refused:
                continue  # the other direction tells it
            yield _of(_OF_INPUT[sender, each.aspect], sender, (service, new.name, "input"), each)


def _output(service: str, old: OperationDocument, new: OperationDocument) -> Iterable[Change]:
    there = differences(new.output, old.accepted, as_declared=True)
    back = differences(old.output, new.accepted, as_declared=True)
    renamed = _renamed(there, gone={Aspect.UNSENT, Aspect.MISSING}, came={Aspect.UNREAD})
    yield from _renames("output-field-renamed", service, new.name, "output", renamed)
    for sender, found in _both(new=there, old=back):
        for each in _left(found, renamed):
            code = _output_code(sender, each)
            if code:
                yield _of(code, sender, (service, new.name, "output"), each)


def _output_code(sender: Sender, found: Difference) -> str:
    match sender, found.aspect:
        case "new", Aspect.UNREAD if not found.refused:
            return "output-field-added"
        case "new", Aspect.MISSING:
            return "output-made-optional" if found.declared else "output-field-removed"
        case "old", (Aspect.UNREAD | Aspect.UNSENT) if not found.refused:
            return ""  # the other direction tells it
        case _:
            return _OF_OUTPUT[sender, found.aspect]


def _errors(service: str, old: OperationDocument, new: OperationDocument) -> Iterable[Change]:
    before = {each.name: each for each in old.errors}
    after = {each.name: each for each in new.errors}
    for name in before.keys() - after.keys():
        yield _change("error-removed", service, new.name, f"error {name}", found=f"error {name} is gone")
    for name in after.keys() - before.keys():
        yield _change("error-added", service, new.name, f"error {name}", found=f"error {name} is new")
    for name in sorted(before.keys() & after.keys()):
        yield from _error(service, new.name, before[name], after[name])


def _error(service: str, operation: str, old: ErrorDocument, new: ErrorDocument) -> Iterable[Change]:
    part = f"error {new.name}"
    yield from _described(service, operation, part, old, new, ("doc",))
    if old.retryable != new.retryable:
        found = "was retried, is not" if old.retryable else "was not retried, is"
        yield _change("error-retryable", service, operation, part, found=found)
    for each in differences(new.fields, old.accepted, as_declared=True):
        added = each.aspect is Aspect.UNREAD and not each.refused
        yield _of("error-field-added" if added else "error-widened", "new", (service, operation, part), each)
    for each in differences(old.fields, new.accepted, as_declared=True):
        if each.refused:
            yield _of("error-narrowed", "old", (service, operation, part), each)


# --- fields with another name


@dataclass(frozen=True)
class _Rename:
    before: Difference
    after: Difference


def _renamed(found: Sequence[Difference], gone: set[Aspect], came: set[Aspect]) -> list[_Rename]:
    """Of an object in which one field is gone and one of the same schema came, and no other of it: these two."""
    renames: list[_Rename] = []
    for parent in dict.fromkeys(each.path[:-1] for each in found):
        here = [each for each in found if each.path[:-1] == parent and each.path and not each.declared]
        old = [each for each in here if each.aspect in gone]
        new = [each for each in here if each.aspect in came]
        for each in old:
            matching = [other for other in new if other.shape == each.shape]
            alone = [other for other in old if other.shape == each.shape]
            if len(matching) == len(alone) == 1 and each.shape != "{}":
                renames.append(_Rename(each, matching[0]))
    return renames


def _renames(code: str, service: str, operation: str, part: str, renamed: Sequence[_Rename]) -> Iterable[Change]:
    for each in renamed:
        found = f"{each.before.path[-1]} is gone, and {each.after.path[-1]} is new and of the same type"
        yield _change(code, service, operation, part, each.after.path, found)


def _left(found: Sequence[Difference], renamed: Sequence[_Rename]) -> Iterable[Difference]:
    told = {side.path for each in renamed for side in (each.before, each.after)}
    presence = {Aspect.MISSING, Aspect.UNREAD, Aspect.UNSENT}
    return (each for each in found if not (each.aspect in presence and each.path in told))


def _of(code: str, sender: Sender, place: tuple[str, str, str], found: Difference) -> Change:
    return _change(code, *place, found.path, _words(sender, found))


def _words(sender: Sender, found: Difference) -> str:
    """What has changed, from the old version to the new one."""
    old = sender == "old"
    before, after = (found.sent, found.accepted) if old else (found.accepted, found.sent)
    match found.aspect:
        case Aspect.MISSING if found.declared:
            return "was optional, is required" if old else "was required, is optional"
        case Aspect.MISSING:
            return "is new, and required" if old else "is gone, and was required"
        case Aspect.UNREAD:
            refused = ", and refused" if old else ", and was refused"
            return ("is gone" if old else "is new") + (refused if found.refused else "")
        case Aspect.UNSENT:
            return "is new" if old else "is gone"
        case Aspect.ENUM:
            return f"takes {after}, no more {before}" if old else f"takes {after}, not only {before}"
        case _:
            return f"was {before}, is {after}"


def _change(
    code: str, service: str, operation: str = "", part: str = "", path: Sequence[str] = (), found: str = ""
) -> Change:
    return Change(RULES[code], service, operation, part, ".".join(path), found)
