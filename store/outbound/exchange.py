"""One request and its answer, read as far as a limit on what comes out of decompression."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from store.outbound.transport import CONNECT_SECONDS

Headers = Sequence[tuple[str, str]]

ACCEPTED_CODINGS = "gzip, deflate"
IDLE_SECONDS = 30.0
_PIECE = 64 * 1024


class NotReached(Exception):
    """There is no connection; nothing of the request has left."""


class Broken(Exception):
    """The connection broke, or its answer is none, when the request may have been read."""


@dataclass(slots=True)
class Departure:
    """Whether something of a request may have reached its server."""

    sent: bool = False

    async def trace(self, event: str, _: dict[str, Any]) -> None:
        """For the transport's ``trace`` extension."""
        if event == "http11.send_request_headers.started":
            self.sent = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        body: Decompressed, at most as long as was asked for.
        truncated: There was more.
        coding: Compression that was left on, because it is not one we asked for.
    """

    status: int
    headers: Headers
    body: bytes
    truncated: bool = False
    coding: str = ""

    def header(self, name: str) -> str:
        """The first header of a lower-case name, else an empty text."""
        return next((value for key, value in self.headers if key == name), "")


async def exchange(
    transport: httpx2.AsyncBaseTransport,
    method: str,
    url: httpx2.URL,
    headers: Headers,
    content: bytes | None,
    *,
    limit: int,
    departure: Departure | None = None,
) -> Answer:
    """Send one request, follow nothing, keep nothing.

    Args:
        limit: Most bytes of body, counted after decompression.
        departure: Told when something may have been sent.

    Raises:
        store.net.AddressRefused: The host may not be reached.
        store.net.HostNotFound: It has no address.
        NotReached: No connection to it.
        Broken: It was asked, and gave no answer.
    """
    departure = departure or Departure()
    ours = [("Accept-Encoding", ACCEPTED_CODINGS), ("Connection", "close")]
    request = httpx2.Request(
        method,
        url,
        headers=[*headers, *ours],
        content=content,
        extensions={
            "timeout": {
                "connect": CONNECT_SECONDS,
                "read": IDLE_SECONDS,
                "write": IDLE_SECONDS,
                "pool": CONNECT_SECONDS,
            },
            "trace": departure.trace,
        },
    )
    try:
        response = await transport.handle_async_request(request)
        try:
            return await _read(response, limit)
        finally:
            await response.aclose()
    except (httpx2.HTTPError, httpx2.StreamError, OSError, EOFError) as error:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) or not departure.sent:
            raise NotReached(type(error).__name__) from None
        raise Broken(type(error).__name__) from None
    except zlib.error:
        raise Broken("the answer's compression is damaged") from None


async def _read(response: httpx2.Response, limit: int) -> Answer:
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in response.headers.raw
    ]
    codings = [
        part.strip().lower()
        for name, value in headers
        if name == "content-encoding"
        for part in value.split(",")
        if part.strip().lower() not in ("", "identity")
    ]
    inflating = _Inflating(codings[0]) if codings and codings[0] in _Inflating.KINDS else None
    left_on = codings if inflating is None else codings[1:]
    body, raw = bytearray(), 0
    truncated = False
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101 -- every async transport's is
    async for part in stream:
        raw += len(part)
        if inflating is None:
            body += part
        else:
            inflating.feed(part, body, limit)
        # Compressed bytes count as well: they may come to nothing, for ever.
        if len(body) > limit or raw > 2 * limit:
            truncated = True
            break
    if inflating is not None and not inflating.complete:
        truncated = True
    return Answer(response.status_code, headers, bytes(body[:limit]), truncated, ", ".join(left_on))


class _Inflating:
    """A decompressor that makes no more than it is asked for."""

    KINDS = ("gzip", "x-gzip", "deflate")

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._stream = zlib.decompressobj(31 if self._gzip else 15)
        self._fresh = True

    @property
    def complete(self) -> bool:
        """Whether the end of what was compressed has been seen."""
        return self._fresh or self._stream.eof

    def feed(self, data: bytes, into: bytearray, limit: int) -> None:
        """Append what `data` comes to, one byte more than `limit` in all at most."""
        while (room := min(_PIECE, limit + 1 - len(into))) > 0:
            try:
                made = self._stream.decompress(data, room)
            except zlib.error:
                if self._gzip or not self._fresh:
                    raise
                # Half of the servers mean raw deflate by it.
                self._stream, self._fresh = zlib.decompressobj(-15), False
                continue
            self._fresh = False
            into += made
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data = self._stream.unused_data
                if not self._gzip or not data:
                    return
                self._stream = zlib.decompressobj(31)
            elif not data and len(made) < room:
                return
