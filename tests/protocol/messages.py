"""What stands between two pure halves of the protocol in a test: the connection."""

from __future__ import annotations

from nexuskit.protocol import HttpRequest

BASE = "https://payments.example/nexus"


def received(request: HttpRequest) -> HttpRequest:
    """A request as the other side gets it: its target without what the server is mounted at."""
    return HttpRequest(request.method, request.target.removeprefix(BASE), request.headers, request.body)
