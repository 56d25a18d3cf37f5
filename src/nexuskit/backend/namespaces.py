"""Namespaces: units of isolation. Few and small, so all of them are in memory."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.errordetails.v1 import (
    NamespaceAlreadyExistsFailure,
    NamespaceInvalidStateFailure,
    NamespaceNotFoundFailure,
)

from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.settings import DEFAULTS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexuskit.backend.store.store import Store, Ticket

DELETED_SUFFIX_LENGTH = 5
"""Characters of its id that the name of a deleted namespace ends with, so that its old name is free."""

REMOVE = "DELETE FROM namespaces WHERE id = ?"
PUT = "INSERT OR REPLACE INTO namespaces (id, name, body) VALUES (?, ?, ?)"

SYSTEM = "temporal-system"
"""A name that the real server keeps for itself; programs written for it expect that it cannot be registered."""


def check_name(name: str, limits: Limits) -> None:
    """A namespace may be called that.

    Raises:
        StatusError: INVALID_ARGUMENT; ALREADY_EXISTS, for the real server's own.
    """
    if not name:
        raise invalid_argument("Namespace not set on request.")
    size = len(name.encode())
    if size > limits.ID_LENGTH:
        raise invalid_argument(f"Namespace length exceeds limit. {size} bytes, at most {limits.ID_LENGTH}.")
    if not name.isprintable():
        # It stands in logs, in headers and on terminals.
        raise invalid_argument(f"Namespace {name!r} is not a valid name: it holds characters that cannot be printed.")
    if name == SYSTEM:
        message = f'Namespace "{name}" already exists. It is the server\'s own.'
        raise StatusError(Code.ALREADY_EXISTS, message, [NamespaceAlreadyExistsFailure()])


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One namespace. `retention` in ns; `state` is a `NamespaceState`; `search_attributes` are its custom ones.

    Of those, name → type (`IndexedValueType`).
    """

    id: str
    name: str
    retention: int = DEFAULTS.RETENTION_DEFAULT
    description: str = ""
    owner_email: str = ""
    data: dict[str, str] = {}
    state: int = int(NamespaceState.NAMESPACE_STATE_REGISTERED)
    created: int = 0
    search_attributes: dict[str, int] = {}


_REGISTERED = (NamespaceState.NAMESPACE_STATE_REGISTERED,)
_USED = (NamespaceState.NAMESPACE_STATE_REGISTERED, NamespaceState.NAMESPACE_STATE_DEPRECATED)
STATES: Mapping[str, tuple[NamespaceState.ValueType, ...]] = MappingProxyType(
    {
        "StartWorkflowExecution": _REGISTERED,
        "SignalWithStartWorkflowExecution": _REGISTERED,
        "ExecuteMultiOperation": _REGISTERED,
        "StartActivityExecution": _REGISTERED,
    }
)
"""Call → the states that its namespace may be in, where they are not those of most calls."""
STATELESS = frozenset(
    {"RegisterNamespace", "DescribeNamespace", "UpdateNamespace", "DeprecateNamespace", "DeleteNamespace"}
)
"""Calls that are about a namespace, in whatever state."""


class Namespaces:
    """All namespaces, by name and by id."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._limits = limits
        self._store = store
        self._by_name: dict[str, Namespace] = {}
        self._by_id: dict[str, Namespace] = {}
        self.ids: dict[str, str] = {}
        """Name → id of each."""

    @property
    def by_id(self) -> Mapping[str, Namespace]:
        """Id → namespace, as they are at any moment."""
        return self._by_id

    def load(self, bodies: list[tuple[str, bytes]]) -> None:
        """Take what is on disk."""
        for _, body in bodies:
            self._set(msgspec.msgpack.decode(body, type=Namespace))

    def get(self, name: str) -> Namespace:
        """The namespace of that name.

        Raises:
            StatusError: INVALID_ARGUMENT for no name, NOT_FOUND (with `NamespaceNotFoundFailure`) for an unknown one.
        """
        if not name:
            raise invalid_argument("Namespace not set on request.")
        found = self._by_name.get(name)
        if found is None:
            shown = name[: self._limits.ID_LENGTH // 4]
            raise not_found(f"Namespace {shown} is not found.", NamespaceNotFoundFailure(namespace=shown))
        return found

    def get_by_id(self, id: str) -> Namespace:
        """The namespace of that id.

        Raises:
            StatusError: NOT_FOUND for an unknown one.
        """
        found = self._by_id.get(id)
        if found is None:
            shown = id[: self._limits.ID_LENGTH // 4]
            raise not_found(f"Namespace {shown} is not found.", NamespaceNotFoundFailure(namespace=shown))
        return found

    def check_state(self, method: str, name: str) -> None:
        """The namespace that a call names is in a state that allows it; one that is not there is for others to refuse.

        Raises:
            StatusError: FAILED_PRECONDITION, with `NamespaceInvalidStateFailure`.
        """
        namespace = self._by_name.get(name)
        if namespace is None or namespace.state == _REGISTERED[0] or method in STATELESS:
            return
        allowed = STATES.get(method, _USED)
        if namespace.state not in allowed:
            state = NamespaceState.ValueType(namespace.state)
            names = " or ".join(_shown(each) for each in allowed)
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"Namespace has invalid state: {_shown(state)}. Must be {names}.",
                [NamespaceInvalidStateFailure(namespace=name, state=state, allowed_states=allowed)],
            )

    def has(self, name: str) -> bool:
        """Whether there is a namespace of that name."""
        return name in self._by_name

    def all(self) -> list[Namespace]:
        """All of them, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def add(self, namespace: Namespace) -> Ticket:
        """A new one. It is there for the very next request; the ticket tells when it is on disk.

        Raises:
            StatusError: ALREADY_EXISTS, if its name is taken.
        """
        if namespace.name in self._by_name:
            message = f"Namespace {namespace.name} already exists."
            raise StatusError(Code.ALREADY_EXISTS, message, [NamespaceAlreadyExistsFailure()])
        return self._put(namespace)

    def change(self, namespace: Namespace) -> Ticket:
        """One of them, as it is now."""
        return self._put(namespace)

    def remove(self, id: str) -> Ticket:
        """It is no more. The ticket tells when it is gone from the disk."""
        before = self.get_by_id(id)
        self._forget(before)
        group, ticket = self._store.group()
        group.add(REMOVE, (id,), undo=lambda: self._set(before))
        return ticket

    def _put(self, namespace: Namespace) -> Ticket:
        before = self._by_id.get(namespace.id)
        if before is not None:
            self._forget(before)  # it may be called otherwise now
        self._set(namespace)
        group, ticket = self._store.group()
        body = msgspec.msgpack.encode(namespace)
        group.add(PUT, (namespace.id, namespace.name, body), undo=lambda: self._revert(namespace, before))
        return ticket

    def _revert(self, namespace: Namespace, before: Namespace | None) -> None:
        self._forget(namespace)
        if before is not None:
            self._set(before)

    def _forget(self, namespace: Namespace) -> None:
        self._by_name.pop(namespace.name, None)
        self.ids.pop(namespace.name, None)
        self._by_id.pop(namespace.id, None)

    def _set(self, namespace: Namespace) -> None:
        self._by_name[namespace.name] = namespace
        self.ids[namespace.name] = namespace.id
        self._by_id[namespace.id] = namespace


def _shown(state: NamespaceState.ValueType) -> str:
    return NamespaceState.Name(state).removeprefix("NAMESPACE_STATE_").title()
