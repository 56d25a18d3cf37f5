"""What the paths of the HTTP door lead to."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend.frontend.http_paths import ToCallback, ToEndpoint, ToQueue, read_path
from nexuskit.protocol.errors import RemoteProtocolError

PATHS = {
    "/nexus/endpoints/7/services/S/o": ToEndpoint("7", "/S/o"),
    "/nexus/endpoints/a%2Fb/services/S/o/cancel": ToEndpoint("a/b", "/S/o/cancel"),
    "/nexus/endpoints/a%252Fb/services/": ToEndpoint("a%2Fb", "/"),
    "/nexus/endpoints/7/services/nexus/callback": ToEndpoint("7", "/nexus/callback"),
    "/nexus/endpoints/callback/services//": ToEndpoint("callback", "//"),
    "/namespaces/n/task-queues/q/nexus-services/S/o": ToQueue("n", "q", "/S/o"),
    "/namespaces/n%20m/task-queues/a%2F%E2%98%83/nexus-services/a%2Fb": ToQueue("n m", "a/☃", "/a%2Fb"),
    "/namespaces/n/nexus/callback": ToCallback("n"),
    "/namespaces/nexus/nexus/callback": ToCallback("nexus"),
    "/nexus/callback": ToCallback(None),
    "/nexus/callback/": None,
    "/nexus/endpoints/7/services": None,
    "/nexus/endpoints/7/8/services/S/o": None,
    "/namespaces/n/task-queues/q/nexus-services": None,
    "/namespaces/n/task-queues/a/b/nexus-services/S/o": None,
    "/Nexus/endpoints/7/services/S/o": None,
    "nexus/callback": None,
    "//nexus/callback": None,
    "/": None,
    "": None,
}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path: str) -> None:
    assert read_path(path) == PATHS[path]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/nexus/endpoints//services/S/o", "endpoint"),
        ("/nexus/endpoints/%/services/S/o", "endpoint"),
        ("/namespaces//task-queues/q/nexus-services/S/o", "namespace"),
        ("/namespaces/n/task-queues/%ff/nexus-services/S/o", "task queue"),
        ("/namespaces/n/task-queues//nexus-services/S/o", "task queue"),
        (f"/namespaces/{'n' * 1_001}/nexus/callback", "namespace"),
    ],
)
def test_names_that_cannot_be(path: str, what: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"the name of the {what}"):
        read_path(path)


@given(st.text(st.sampled_from("/%2fnexuscallbackservicesendpoints-namespacestask-queues"), max_size=60))
def test_any_path_leads_somewhere_or_nowhere(path: str) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read_path("/" + path)
