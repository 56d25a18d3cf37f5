"""What `nexus contract` tells people, and GitHub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from nexuskit.contract.compatibility import Change
from nexuskit.contract.document import ContractDocument, OperationDocument
from nexuskit.contract.sources import Loaded, Location
from nexuskit.contract.type_names import type_name

_SEVERE = "bold red"
_MILD = "green"


def show_contract(console: Console, document: ContractDocument) -> None:
    """Services and operations, a few lines each."""
    for at, service in enumerate(document.services):
        if at:
            console.print()
        head = Text(service.name, style="bold")
        if service.version:
            head.append(f" {service.version}", style="dim")
        console.print(head, soft_wrap=True)
        _say(console, _first_line(service.doc), indent=2, style="dim")
        for operation in service.operations:
            _show_operation(console, operation)


def _show_operation(console: Console, operation: OperationDocument) -> None:
    line = Text("  ")
    line.append(operation.name, style="bold cyan")
    line.append(f"  {type_name(operation.input)} → {type_name(operation.output)}")
    more = [
        *([operation.kind] if operation.kind else []),
        *([f"within {operation.deadline}"] if operation.deadline else []),
        *(f"#{tag}" for tag in operation.tags),
    ]
    if more:
        line.append(f"  {', '.join(more)}", style="dim")
    console.print(line, soft_wrap=True)
    _say(console, _first_line(operation.doc), indent=4, style="dim")
    for error in operation.errors:
        fields = ", ".join(error.fields.get("properties", {}))
        again = ", retried" if error.retryable else ""
        _say(console, f"error {error.name}({fields}){again}", indent=4, style="yellow")


def show_changes(console: Console, changes: Sequence[Change], nothing: str) -> None:
    """Each change with whom it breaks, why, and what to do."""
    for each in changes:
        line = Text()
        line.append(", ".join(each.breaks) or "nobody", style=_SEVERE if each.breaks else _MILD)
        line.append(f"  {each.place}", style="bold")
        line.append(f"  [{each.rule.code}]", style="dim")
        console.print(line, soft_wrap=True)
        _say(console, each.found, indent=4)
        if each.breaks:
            _say(console, each.rule.reason, indent=4, style="dim")
            _say(console, f"→ {each.rule.remedy}", indent=4)
    _say(console, _summary(changes, nothing), style="bold" if changes else _MILD)


def _summary(changes: Sequence[Change], nothing: str) -> str:
    broken = sum(bool(each.breaks) for each in changes)
    if not changes:
        return nothing
    told = f"{len(changes)} change{'s' * (len(changes) > 1)}"
    return f"{told}, of which {broken or 'none'} break{'s' * (broken == 1)} somebody"


def _say(console: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    if text:
        console.print(Text(" " * indent + text, style=style), soft_wrap=True)


def github_lines(changes: Iterable[Change], loaded: Loaded) -> Iterable[str]:
    """Lines that GitHub shows beside the code: errors for what breaks."""
    for each in changes:
        at = _location(each, loaded)
        place = f"file={_property(at.file)},line={at.line}," if at else ""
        title = _property(f"{each.rule.code}: breaks {', '.join(each.breaks)}")
        message = f"{each.place}: {each.found}. {each.rule.reason} {each.rule.remedy}"
        yield f"::error {place}title={title}::{_data(message)}"


def _location(change: Change, loaded: Loaded) -> Location | None:
    for name in (f"{change.service}.{change.operation}", change.service):
        if name in loaded.locations:
            return loaded.locations[name]
    return Location(loaded.file, 1) if loaded.file else None


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
