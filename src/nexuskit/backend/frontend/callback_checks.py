"""What completion callbacks a request may bring: so many, each to where it can be delivered.

The texts are the real server's (temporalio/temporal: chasm/lib/callback/validator.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nexuskit.backend.errors import invalid_argument, unimplemented
from nexuskit.backend.nexus import http_callbacks
from nexuskit.backend.nexus.completions import SYSTEM_CALLBACK_URL

if TYPE_CHECKING:
    from temporalio.api.update.v1 import Request as UpdateRequest
    from temporalio.api.workflowservice.v1 import (
        StartActivityExecutionRequest,
        StartNexusOperationExecutionRequest,
        StartWorkflowExecutionRequest,
    )

    from nexuskit.backend.services import Services


def check_callbacks(
    services: Services,
    request: StartWorkflowExecutionRequest
    | StartActivityExecutionRequest
    | StartNexusOperationExecutionRequest
    | UpdateRequest,
) -> None:
    """The completion callbacks of a start or an update are such as can be delivered.

    Raises:
        StatusError: INVALID_ARGUMENT or UNIMPLEMENTED.
    """
    if len(request.completion_callbacks) > services.limits.CALLBACKS:
        raise invalid_argument(
            f"{len(request.completion_callbacks)} completion callbacks on request, at most {services.limits.CALLBACKS}"
        )
    for each in request.completion_callbacks:
        if each.WhichOneof("variant") == "internal":
            raise invalid_argument("completion callback of kind 'internal': only the server itself makes such")
        if each.WhichOneof("variant") != "nexus":
            raise unimplemented(
                f"completion callback of kind {each.WhichOneof('variant')!r} is not served by this backend"
            )
        if urlsplit(each.nexus.url).scheme not in ("http", "https", "temporal"):
            raise invalid_argument(f"invalid url: unknown scheme: {each.nexus.url[:100]!r}")
        if len(each.nexus.url) > services.limits.CALLBACK_URL_LENGTH:
            raise invalid_argument(
                f"invalid url: url length longer than max length allowed of {services.limits.CALLBACK_URL_LENGTH}"
            )
        size = sum(len(name) + len(value) for name, value in each.nexus.header.items())
        if size > services.limits.CALLBACK_HEADERS_SIZE:
            raise invalid_argument(
                f"invalid header: header size longer than max allowed size of {services.limits.CALLBACK_HEADERS_SIZE}"
            )
        if each.nexus.url != SYSTEM_CALLBACK_URL:
            http_callbacks.check(services.outward, each.nexus)
            continue
        services.completions.verify(each.nexus.header)
