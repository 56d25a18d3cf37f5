"""Names of services and operations on the wire.

A Temporal server routes no name with a slash, though a contract may group operations by slashes. So in Temporal's
protocol exactly `%` and `/` are encoded, by callers and handlers alike; people see the public name everywhere.
"""

from __future__ import annotations


def encoded(name: str) -> str:
    """A public name as it travels: `foo/get` as `foo%2Fget`, `%` as `%25`."""
    return name.replace("%", "%25").replace("/", "%2F")


def decoded(name: str) -> str:
    """The public name of one that travelled; one that was not encoded is itself."""
    return name.replace("%2F", "/").replace("%25", "%")
