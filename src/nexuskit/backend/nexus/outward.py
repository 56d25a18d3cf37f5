"""The way out of this process: requests by HTTP, which go only where the configuration says.

Whoever may start a workflow may name a URL: that of a callback, or of an endpoint. So nothing is sent before host and
port were found in the configuration's list, and only to an address that came from one look at the name; see
`nexuskit.protocol.outbound`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from nexuskit.backend.errors import StartError
from nexuskit.protocol.allow_list import Destination
from nexuskit.protocol.errors import DestinationRefusedError, TransportError

if TYPE_CHECKING:
    import httpx

    from nexuskit.backend.configuration import Outbound
    from nexuskit.backend.settings import Limits
    from nexuskit.protocol.outbound import Resolver
    from nexuskit.protocol.values import HttpRequest, HttpResponse

_LIST = "'allow' in [outbound] of the backend's configuration"


class NoRoomError(TransportError):
    """As many requests as may be were under way all the time; nothing was sent."""


class Outward:
    """Sends requests.

    Attributes:
        callback_url: where the handlers of endpoints with a URL send completions.
    """

    def __init__(self, outbound: Outbound, base: str, client: httpx.AsyncClient | None, limits: Limits) -> None:
        self._allow = outbound.allow
        self._client = client
        self._max_answer = limits.PAYLOAD_SIZE
        self._room = asyncio.Semaphore(limits.OUTBOUND_IN_FLIGHT)
        self.callback_url = f"{outbound.public_url or base}/nexus/callback"

    @classmethod
    async def open(cls, outbound: Outbound, base: str, limits: Limits, resolver: Resolver | None = None) -> Outward:
        """Made ready to send.

        Args:
            outbound: what is configured.
            base: the URL of this backend's own HTTP address.
            limits: an answer has that of payloads; longer ones are not read.
            resolver: looks names up; as the system does by default.

        Raises:
            StartError: the configured authorities cannot be read.
        """
        if not outbound.allow.patterns:
            return cls(outbound, base, None, limits)
        # Here and not above: most backends send nothing, and an HTTP client with all that it imports takes its time.
        from nexuskit.protocol.outbound import certificates, guarded_client, resolve

        try:
            # Aside: it reads all the authorities there are.
            verify = await asyncio.to_thread(certificates, outbound.ca_file)
        except OSError as error:  # of what is no certificate, too
            raise StartError(f"The authorities {outbound.ca_file} cannot be read: {error}.") from error
        return cls(outbound, base, guarded_client(outbound.allow, resolver=resolver or resolve, verify=verify), limits)

    def check(self, url: str) -> None:
        """Refuse a URL to which requests may not go. What its name resolves to is looked at when one is sent.

        Raises:
            DestinationRefusedError: its message says what to add to the configuration.
        """
        destination = Destination.of(url)
        try:
            self._allow.check(destination)
        except DestinationRefusedError as error:
            message = f"{error}: it is named by {destination.pattern!r}, to be added to {_LIST}"
            raise DestinationRefusedError(message) from None

    async def send(self, request: HttpRequest, timeout: int) -> HttpResponse:
        """Send a request and read its answer; all of it takes at most that span (ns).

        Raises:
            DestinationRefusedError: it may not go there.
            NoRoomError: too many others are under way.
            TransportError: there was no answer, or none in time.
            ResponseTooLargeError: the answer is too long.
            LocalProtocolError: the URL is none.
        """
        self.check(request.target)
        if self._client is None:  # not with an empty list
            raise DestinationRefusedError(f"there is nothing in {_LIST}")
        from nexuskit.protocol.outbound import exchange

        left = timedelta(microseconds=timeout // 1000)
        if self._room.locked():
            left /= 2  # half of it to wait for its turn
        try:
            async with asyncio.timeout(left.total_seconds()):
                await self._room.acquire()
        except TimeoutError:
            raise NoRoomError("too many requests were under way all the time") from None
        try:
            return await exchange(self._client, request, timeout=left, max_response_bytes=self._max_answer)
        except DestinationRefusedError as error:
            raise DestinationRefusedError(f"{error} ({_LIST})") from None
        finally:
            self._room.release()

    async def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            await self._client.aclose()
