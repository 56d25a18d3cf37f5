"""Endpoints: names that route calls to a target.

Few and small, so all of them are in memory; a change is seen at once.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from temporalio.api.nexus.v1 import Endpoint, EndpointSpec

from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.history.route import Route
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import timestamp
from nexuskit.identity.allowed_callers import AllowedCallersError, checked_allowed_callers, read_allowed_callers
from nexuskit.identity.uris import instance_uri
from nexuskit.protocol.allow_list import Destination
from nexuskit.protocol.errors import DestinationRefusedError

if TYPE_CHECKING:
    from nexuskit.backend.namespaces import Namespaces
    from nexuskit.backend.store.store import Store, Ticket

PUT = "INSERT OR REPLACE INTO endpoints (id, name, body) VALUES (?, ?, ?)"
REMOVE = "DELETE FROM endpoints WHERE id = ?"

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9\-]*[a-zA-Z0-9]")
"""What an endpoint may be called: the real server's rule, which has no underscore."""


class Endpoints:
    """All endpoints, by name and by id."""

    def __init__(self, store: Store, namespaces: Namespaces, limits: Limits) -> None:
        self._limits = limits
        self._store = store
        self._namespaces = namespaces
        self._by_id: dict[str, Endpoint] = {}
        self.routes: dict[str, Route] = {}
        """What the core knows of each, by its name and by its instance URI: callers may use either."""

    def load(self, bodies: list[tuple[str, bytes]]) -> None:
        """Take what is on disk."""
        for _, body in bodies:
            self._set(Endpoint.FromString(body))

    def get(self, id: str) -> Endpoint:
        """The endpoint of that id.

        Raises:
            StatusError: INVALID_ARGUMENT for what is no id, NOT_FOUND for an unknown one.
        """
        if not id:
            raise invalid_argument("endpoint ID not set on request")
        try:
            uuid.UUID(id)
        except ValueError:
            raise invalid_argument(f"malformed endpoint ID: {id[:100]!r} is not a UUID") from None
        found = self._by_id.get(id)
        if found is None:
            raise not_found(f"endpoint with ID {id!r} is not found")
        return found

    def find(self, id: str) -> Endpoint | None:
        """The endpoint of that id; None if there is none."""
        return self._by_id.get(id)

    def refusal(self, endpoint: Endpoint, caller: str | None) -> str:
        """Why a namespace may not call an endpoint; empty if it may.

        Args:
            endpoint: which.
            caller: the name of the namespace; None for a caller that has none, or cannot show it.
        """
        allowed = self.routes[endpoint.spec.name].allowed
        return "" if allowed.allows(caller) else allowed.refusal(endpoint.spec.name, caller)

    def refusal_of_queue(self, namespace: str, queue: str) -> str:
        """Why a task queue may not be called straight; empty if it may.

        An endpoint that has a list and routes to it would be gone round.
        """
        for endpoint in self._by_id.values():
            worker = endpoint.spec.target.worker
            if (worker.namespace, worker.task_queue) != (namespace, queue):
                continue
            if self.routes[endpoint.spec.name].allowed.names is not None:
                return (
                    f"task queue {queue!r} of namespace {namespace!r} may not be called straight: an endpoint routes"
                    " to it that has a list of allowed callers"
                )
        return ""

    def resolve(self, text: str) -> Endpoint | None:
        """The endpoint that a caller means: by its id, its name or its instance URI; None if there is none."""
        route = self.routes.get(text)
        return self._by_id.get(text) or (None if route is None else self._by_id.get(route.id))

    def all(self) -> list[Endpoint]:
        """All of them, by id."""
        return [self._by_id[id] for id in sorted(self._by_id)]

    def create(self, spec: EndpointSpec, id: str, now: int) -> tuple[Endpoint, Ticket]:
        """A new endpoint.

        Raises:
            StatusError: INVALID_ARGUMENT for a spec that is not valid, ALREADY_EXISTS for a name that is taken,
                FAILED_PRECONDITION for a target namespace that does not exist.
        """
        self._check(spec)
        if spec.name in self.routes:
            raise StatusError(
                Code.ALREADY_EXISTS, f"error creating Nexus endpoint. Endpoint with name {spec.name} already registered"
            )
        endpoint = Endpoint(
            id=id,
            version=1,
            spec=spec,
            created_time=timestamp(now),
            url_prefix=f"/nexus/endpoints/{id}/services",
        )
        return endpoint, self._put(endpoint)

    def update(self, id: str, version: int, spec: EndpointSpec, now: int) -> tuple[Endpoint, Ticket]:
        """Replace the spec of an endpoint that is still at that version.

        Raises:
            StatusError: as `create` and `get`; FAILED_PRECONDITION, if it has another version by now.
        """
        self._check(spec)
        before = self._at(id, version)
        if spec.name in self.routes and self.routes[spec.name].id != id:
            raise StatusError(
                Code.ALREADY_EXISTS, f"error updating Nexus endpoint. Endpoint with name {spec.name} already registered"
            )
        endpoint = Endpoint()
        endpoint.CopyFrom(before)
        endpoint.spec.CopyFrom(spec)
        endpoint.version = version + 1
        endpoint.last_modified_time.CopyFrom(timestamp(now) or endpoint.created_time)
        return endpoint, self._put(endpoint)

    def delete(self, id: str, version: int) -> Ticket:
        """Remove an endpoint. Calls under way find that it is gone at their next attempt.

        Raises:
            StatusError: as `get`; FAILED_PRECONDITION, if it has another version by now.
        """
        if version <= 0:
            raise invalid_argument(f"endpoint version not set on request, or not above zero: {version}")
        before = self._at(id, version)
        self._forget(before)
        group, ticket = self._store.group()
        group.add(REMOVE, (id,), undo=lambda: self._set(before))
        return ticket

    def _at(self, id: str, version: int) -> Endpoint:
        found = self.get(id)
        if version != found.version:
            message = f"nexus endpoint version mismatch. received: {version} expected {found.version}"
            raise StatusError(Code.FAILED_PRECONDITION, message)
        return found

    def _put(self, endpoint: Endpoint) -> Ticket:
        before = self._by_id.get(endpoint.id)
        if before is not None:
            self._forget(before)
        self._set(endpoint)
        group, ticket = self._store.group()
        group.add(
            PUT,
            (endpoint.id, endpoint.spec.name, endpoint.SerializeToString()),
            undo=lambda: self._revert(endpoint, before),
        )
        return ticket

    def _revert(self, endpoint: Endpoint, before: Endpoint | None) -> None:
        self._forget(endpoint)
        if before is not None:
            self._set(before)

    def _set(self, endpoint: Endpoint) -> None:
        self._by_id[endpoint.id] = endpoint
        route = Route(endpoint.id, read_allowed_callers(endpoint.spec.description.metadata))
        self.routes[endpoint.spec.name] = self.routes[instance_uri(endpoint.id)] = route

    def _forget(self, endpoint: Endpoint) -> None:
        self._by_id.pop(endpoint.id, None)
        self.routes.pop(endpoint.spec.name, None)
        self.routes.pop(instance_uri(endpoint.id), None)

    def _check(self, spec: EndpointSpec) -> None:
        name = spec.name
        if not name:
            raise invalid_argument("endpoint name not set")
        if len(name.encode()) > self._limits.ENDPOINT_NAME_LENGTH:
            raise invalid_argument(f"endpoint name exceeds length limit of {self._limits.ENDPOINT_NAME_LENGTH}")
        if not NAME.fullmatch(name):
            raise invalid_argument(f"endpoint name must match the regex: '^{NAME.pattern}$', got {name!r}")
        size = spec.description.ByteSize()
        if size > self._limits.ENDPOINT_DESCRIPTION_SIZE:
            raise invalid_argument(
                f"description size exceeds limit of {self._limits.ENDPOINT_DESCRIPTION_SIZE}: {size}"
            )
        try:
            checked_allowed_callers(spec.description.metadata)
        except AllowedCallersError as error:
            raise invalid_argument(f"description of endpoint {name!r}: {error}") from None
        if spec.target.HasField("external"):
            self._check_url(spec.target.external.url)
            return
        if not spec.target.HasField("worker"):
            raise invalid_argument("empty target variant")
        worker = spec.target.worker
        if not worker.namespace:
            raise invalid_argument("target namespace not set")
        if not self._namespaces.has(worker.namespace):
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"could not verify namespace referenced by target exists: Namespace {worker.namespace} is not found.",
            )
        if not worker.task_queue:
            raise invalid_argument("target task queue not set")
        if len(worker.task_queue.encode()) > self._limits.ID_LENGTH:
            raise invalid_argument(f"taskQueue length exceeds limit of {self._limits.ID_LENGTH} bytes")

    def _check_url(self, url: str) -> None:
        """Whether requests may go there is a question of the configuration, and asked when one does."""
        if not url:
            raise invalid_argument("empty target URL")
        if len(url.encode()) > self._limits.ENDPOINT_URL_LENGTH:
            raise invalid_argument(f"target URL length exceeds limit of {self._limits.ENDPOINT_URL_LENGTH}")
        with contextlib.suppress(ValueError):  # what is no URL at all is refused below
            if (scheme := urlsplit(url).scheme) not in ("http", "https"):
                raise invalid_argument(f'invalid target URL scheme: "{scheme}", expected http or https')
        try:
            Destination.of(url)
        except DestinationRefusedError as error:
            raise invalid_argument(f"invalid target URL: {error}") from None
        if "?" in url or "#" in url:
            raise invalid_argument("invalid target URL: calls go below it, so it has no query and no fragment")
