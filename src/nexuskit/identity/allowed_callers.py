"""Allowed callers: the namespaces that may call an endpoint.

They stand in the metadata of the endpoint's description, so that they survive in the registry of any Temporal server,
which has no field for them: under `nexuskit/allowed-callers` a JSON array of names. Pure.

| metadata | who may call |
| --- | --- |
| no such key | everyone |
| `["orders", "billing"]` | these namespaces |
| `[]` | nobody |
| what cannot be read | nobody |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

ALLOWED_CALLERS_KEY = "nexuskit/allowed-callers"
"""The key in the metadata of an endpoint's description payload."""


class AllowedCallersError(ValueError):
    """What stands for the allowed callers of an endpoint cannot be read; says what was expected and what came."""


class AllowedCallers(NamedTuple):
    """Whom an endpoint lets in.

    Attributes:
        names: the namespaces that may call it; None for everyone.
        fault: why the list cannot be read, if it cannot: then nobody may call.
    """

    names: frozenset[str] | None
    fault: str = ""

    def allows(self, caller: str | None) -> bool:
        """Whether a caller may call.

        Args:
            caller: the name of its namespace; None for one who has none, or cannot show it, and who is let in only
                where everyone is.
        """
        return self.names is None or caller in self.names

    def refusal(self, endpoint: str, caller: str | None) -> str:
        """What a caller is told that may not call.

        Args:
            endpoint: the name of the endpoint.
            caller: as for `allows`.
        """
        who = "a caller whose namespace is not known" if caller is None else f"namespace {caller!r}"
        why = self.fault or f"it is not among the endpoint's allowed callers ({ALLOWED_CALLERS_KEY!r})"
        return f"{who} may not call endpoint {endpoint!r}: {why}"


EVERYONE = AllowedCallers(None)
"""Of an endpoint that has no list."""


def read_allowed_callers(metadata: Mapping[str, bytes]) -> AllowedCallers:
    """The allowed callers of an endpoint, from the metadata of its description; nobody, if they cannot be read."""
    try:
        return checked_allowed_callers(metadata)
    except AllowedCallersError as error:
        return AllowedCallers(frozenset(), str(error))


def checked_allowed_callers(metadata: Mapping[str, bytes]) -> AllowedCallers:
    """The same, for who writes them.

    Raises:
        AllowedCallersError: They are no JSON array of names, or "*" is among these, which would let nobody in.
    """
    raw = metadata.get(ALLOWED_CALLERS_KEY)
    if raw is None:
        return EVERYONE
    wanted = f'metadata {ALLOWED_CALLERS_KEY!r} must be a JSON array of namespace names, such as ["orders"]'
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise AllowedCallersError(f"{wanted}; these {len(raw)} bytes are no JSON") from None
    if not isinstance(found, list):
        raise AllowedCallersError(f"{wanted}, not {_kind(found)}")
    for each in cast("list[object]", found):
        if not isinstance(each, str) or not each:
            raise AllowedCallersError(f"{wanted}; it holds {_kind(each)}")
        if each == "*":
            raise AllowedCallersError(f'{wanted}; "*" is no namespace: leave the metadata out to let everyone in')
    return AllowedCallers(frozenset(cast("list[str]", found)))


def write_allowed_callers(names: Iterable[str]) -> bytes:
    """The value of the metadata for these namespaces, in order; none of them means nobody."""
    return json.dumps(sorted(set(names))).encode()


_KINDS: Mapping[type, str] = {
    dict: "an object",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "an array",
}


def _kind(value: object) -> str:
    if value == "":
        return "an empty name"
    return "a text" if isinstance(value, str) else _KINDS.get(type(value), "null")
