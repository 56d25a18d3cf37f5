"""When a request is sent again, and how long before.

Specification: Predefined Handler Errors, which says of each type whether its requests may be sent again, unless the
error itself says otherwise. A request without an answer may be, too: a start carries its request id, and a second
cancel or completion does what the first did.

This module does I/O: it waits. The waiting is done by tenacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import tenacity
from nexusrpc import HandlerError, HandlerErrorType

from nexuskit.protocol.errors import TransportError

if TYPE_CHECKING:
    from tenacity.stop import StopBaseT

__all__ = ["RetryPolicy", "is_retryable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a request is sent, and how long to wait in between.

    Before the attempt after the first one the wait is drawn between 0 and `initial`, before the next between 0 and
    twice as much, and so on, up to `maximum`: callers that failed together come back apart.
    """

    attempts: int = 5
    """How often a request is sent at most; 1 for never again."""
    initial: timedelta = timedelta(milliseconds=200)
    """The longest first wait."""
    maximum: timedelta = timedelta(seconds=10)
    """The longest of all waits."""

    def retrying(self, within: timedelta | None = None) -> tenacity.AsyncRetrying:
        """The attempts of one request, for an `async for`. The last error is raised as it is.

        Args:
            within: no attempt begins later than this after the first.
        """
        stop: StopBaseT = tenacity.stop_after_attempt(self.attempts)
        if within is not None:
            stop = tenacity.stop_any(stop, tenacity.stop_before_delay(within))
        return tenacity.AsyncRetrying(
            stop=stop,
            wait=tenacity.wait_random_exponential(multiplier=self.initial.total_seconds(), max=self.maximum),
            retry=tenacity.retry_if_exception(is_retryable),
            reraise=True,
        )


def is_retryable(error: BaseException) -> bool:
    """Whether the request that met with an error may be sent again.

    Specification: Predefined Handler Errors. A type that it does not know may not, unless the error itself says so.
    """
    if isinstance(error, HandlerError):
        known = error.type is not HandlerErrorType.UNKNOWN or error.retryable_override is not None
        return known and error.retryable
    return isinstance(error, TransportError)
