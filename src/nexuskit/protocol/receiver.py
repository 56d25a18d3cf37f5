"""Takes completions: an ASGI application that wakes whoever waits for the result of an operation.

    receiver = CallbackReceiver("https://orders.example.com/nexus/callback")
    app.mount("/nexus/callback", receiver)
    client = NexusClient("https://payments.example.com/nexus", PaymentService, receiver=receiver)

Each waiting call has a token of its own, signed, which travels in the callback's header fields. A completion without a
valid one is refused before its body is read. Calls wait in memory: a result that arrives after the process has
ended, or after nobody waits any more, is answered with NOT_FOUND.

Specification: Callback URLs. This module does I/O.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
import weakref
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nexusrpc import HandlerError, HandlerErrorType

from nexuskit.protocol.callback_tokens import CallbackSigner, InvalidTokenError
from nexuskit.protocol.completion import parse_completion, write_completion_accepted
from nexuskit.protocol.errors import LocalProtocolError
from nexuskit.protocol.handling import bad_request, write_error
from nexuskit.protocol.paths import is_http_url
from nexuskit.protocol.serving import MAX_BODY_BYTES, CallerGoneError, answer_other, http_request, read_body, respond
from nexuskit.protocol.values import Callback, Completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexuskit.protocol.serving import Receive, Scope, Send
    from nexuskit.protocol.values import HttpResponse

__all__ = ["CallbackReceiver", "WaitingCall"]

log = logging.getLogger("nexuskit.protocol.receiver")

TOKEN = "token"
"""The callback's header field with the token: `Nexus-Callback-Token` in the start, `Token` in the completion."""

LIFETIME = timedelta(days=30)
"""How long a token is valid for a call without an operation timeout. The call itself lives as long as its handle."""

GRACE = timedelta(minutes=5)
"""A token outlives its call by this, so that a completion that is late is told that nobody waits for it."""

GONE = "nobody waits for this operation any more"

MAX_BODY_TIME_S = 60
"""How long a completion's body may take to arrive."""


class WaitingCall:
    """A call that waits for its completion. It waits as long as somebody holds it.

    Attributes:
        callback: what to start the operation with.
        completion: the completion, when it has come.
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self._loop = asyncio.get_running_loop()
        self.completion: asyncio.Future[Completion] = self._loop.create_future()

    def complete(self, completion: Completion) -> None:
        """Wakes whoever waits. A handler may send a completion more than once; the first one counts."""
        # The application may be served by another thread's event loop than the one that waits.
        try:
            self._loop.call_soon_threadsafe(self._complete, completion)
        except RuntimeError as error:  # that loop has ended, and whoever waited with it
            raise HandlerError(GONE, type=HandlerErrorType.NOT_FOUND) from error

    def _complete(self, completion: Completion) -> None:
        if not self.completion.done():
            self.completion.set_result(completion)


class CallbackReceiver:
    """An ASGI application that takes completions of the operations that this process started.

    Specification: Callback URLs.

    Args:
        url: where this application is mounted, as seen from outside; operations are started with it as their callback,
            with a slash at its end, since nobody follows the redirect by which a mount adds one.
        keys: sign the tokens, see `CallbackSigner`; made up if left out, since no call outlives the process anyway.
            Each process needs a URL of its own: nobody else knows the calls that wait in it.
        max_body_bytes: of a completion's body; a longer one is answered with BAD_REQUEST.

    Raises:
        LocalProtocolError: the URL is none.
        ValueError: a key is too short.
    """

    def __init__(self, url: str, *, keys: Sequence[bytes] | None = None, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        if not is_http_url(url):
            raise LocalProtocolError(f"completions come to a URL with scheme http or https; this one is {url!r}")
        self.url = url if "?" in url or url.endswith("/") else f"{url}/"
        self._signer = CallbackSigner(keys or [os.urandom(32)])
        self._max_body_bytes = max_body_bytes
        self._waiting: weakref.WeakValueDictionary[str, WaitingCall] = weakref.WeakValueDictionary()

    def expect(self, lifetime: timedelta = LIFETIME) -> WaitingCall:
        """Makes a callback for one call, before it is started: its completion may come before the start is answered.

        Args:
            lifetime: how long the callback's token is valid; a little longer, for clocks that differ.
        """
        name = uuid.uuid4().hex
        token = self._signer.sign(name, datetime.now(UTC) + lifetime + GRACE)
        call = WaitingCall(Callback(self.url, {TOKEN: token}))
        self._waiting[name] = call
        return call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one connection, as ASGI asks for it."""
        if scope["type"] != "http":
            await answer_other(scope, receive, send)
            return
        try:
            response = await self._answer(scope, receive)
        except CallerGoneError:
            log.debug("a handler went away before its completion was answered")
            return
        await respond(send, response)

    async def _answer(self, scope: Scope, receive: Receive) -> HttpResponse:
        try:
            name = self._verified(scope)
            async with asyncio.timeout(MAX_BODY_TIME_S):
                body = await read_body(scope, receive, self._max_body_bytes)
            completion = parse_completion(http_request(scope, body), received=datetime.now(UTC))
            call = self._waiting.get(name)
            if call is None:
                raise HandlerError(GONE, type=HandlerErrorType.NOT_FOUND)
            call.complete(completion)
            return write_completion_accepted()
        except TimeoutError:
            return write_error(HandlerError("the body did not arrive in time", type=HandlerErrorType.REQUEST_TIMEOUT))
        except HandlerError as error:
            return write_error(error)

    def _verified(self, scope: Scope) -> str:
        if scope["method"] != "POST":
            raise bad_request(f"expected method POST, but got {scope['method'][:20]!r}")
        token = next((value for name, value in scope["headers"] if name.lower() == TOKEN.encode()), b"")
        try:
            return self._signer.verify(token.decode("latin-1"), datetime.now(UTC))
        except InvalidTokenError as error:
            raise HandlerError(f"header field {TOKEN}: {error}", type=HandlerErrorType.UNAUTHENTICATED) from error
