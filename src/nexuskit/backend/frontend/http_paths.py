"""The paths of the HTTP door, as they were sent: names in them are percent-encoded, and decoded once.

    /nexus/endpoints/{endpoint}/services/{service}/{operation}[/cancel]
    /namespaces/{namespace}/task-queues/{queue}/nexus-services/{service}/{operation}[/cancel]
    /namespaces/{namespace}/nexus/callback
    /nexus/callback

(temporalio/temporal: common/nexus/routes.go). What follows `services` and `nexus-services` is the Nexus
specification's, and read by `nexuskit.protocol`. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nexuskit.protocol.paths import parse_segment

__all__ = ["JSON_API", "ToCallback", "ToEndpoint", "ToQueue", "read_path"]

JSON_API = "/api/"
"""Begins the paths of Temporal's JSON API, which is not served."""

CALLBACK = "/nexus/callback"

_ENDPOINT = re.compile(r"/nexus/endpoints/([^/]*)/services(/.*)")
_QUEUE = re.compile(r"/namespaces/([^/]*)/task-queues/([^/]*)/nexus-services(/.*)")
_CALLBACK = re.compile(r"/namespaces/([^/]*)/nexus/callback")


class ToEndpoint(NamedTuple):
    """A call to an endpoint: its id, name or instance URI, and what the specification says of the path below."""

    endpoint: str
    below: str


class ToQueue(NamedTuple):
    """A call to a task queue of a namespace."""

    namespace: str
    queue: str
    below: str


class ToCallback(NamedTuple):
    """A completion; None where the path names no namespace."""

    namespace: str | None


def read_path(path: str) -> ToEndpoint | ToQueue | ToCallback | None:
    """What a path without its query leads to; None if to nothing.

    Raises:
        RemoteProtocolError: a name in it is empty, too long or wrongly encoded.
    """
    if path == CALLBACK:
        return ToCallback(None)
    if found := _ENDPOINT.fullmatch(path):
        return ToEndpoint(parse_segment(found[1], "endpoint"), found[2])
    if found := _QUEUE.fullmatch(path):
        return ToQueue(parse_segment(found[1], "namespace"), parse_segment(found[2], "task queue"), found[3])
    if found := _CALLBACK.fullmatch(path):
        return ToCallback(parse_segment(found[1], "namespace"))
    return None
