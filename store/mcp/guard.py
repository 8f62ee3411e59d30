"""What an MCP server may make us receive, counted where the bytes come in.

The SDK reads whole bodies and starts streams anew; none of that can be more than this lets through.
"""

from collections.abc import AsyncIterator, Callable
from typing import cast

import httpx2
from typing_extensions import override

# Of one conversation: all answers together, and the lines of its event streams.
MAX_BYTES = 4 * 1024 * 1024
MAX_LINES = 10_000
MAX_REQUESTS = 64
_GOODBYE_SECONDS = 1.0


class Guard(httpx2.AsyncBaseTransport):
    """Counts a conversation's requests and bytes, and ends it when they are too many.

    Args:
        inner: Makes the connections.
        stop: Ends the conversation; called once.

    Attributes:
        trouble: What was too much; empty while nothing was.
        status: The last status that was no success, of a request that carried a message.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, stop: Callable[[], None]) -> None:
        self._inner = inner
        self._stop = stop
        self._requests = 0
        self._bytes = 0
        self._lines = 0
        self.trouble = ""
        self.status = 0

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._requests += 1
        if self.trouble or self._requests > MAX_REQUESTS:
            raise self._trip(f"It had us ask more than {MAX_REQUESTS} times.")
        # A compressed body is larger than what is counted here.
        request.headers["accept-encoding"] = "identity"
        if request.method == "DELETE":
            seconds = dict.fromkeys(("connect", "read", "write", "pool"), _GOODBYE_SECONDS)
            request.extensions = {**request.extensions, "timeout": seconds}
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            await response.aclose()
            raise self._trip("It sent a compressed answer, which was not asked for.")
        if request.method == "POST" and response.status_code >= 300:
            self.status = response.status_code
        streams = "event-stream" in response.headers.get("content-type", "").lower()
        inner = cast("httpx2.AsyncByteStream", response.stream)
        response.stream = _Counted(inner, self, streams=streams)
        return response

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()

    def count(self, chunk: bytes, *, streams: bool) -> None:
        """Take note of what has come in.

        Raises:
            httpx2.ReadError: It is too much.
        """
        self._bytes += len(chunk)
        if self._bytes > MAX_BYTES:
            raise self._trip(f"It sent more than {MAX_BYTES // 1024 // 1024} MiB.")
        if streams:
            self._lines += chunk.count(b"\n")
            if self._lines > MAX_LINES:
                raise self._trip("It sent more events than anybody reads.")

    def _trip(self, trouble: str) -> httpx2.ReadError:
        if not self.trouble:
            self.trouble = trouble
            self._stop()
        return httpx2.ReadError(self.trouble)


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, guard: Guard, *, streams: bool) -> None:
        self._inner = inner
        self._guard = guard
        self._streams = streams

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._guard.count(chunk, streams=self._streams)
            yield chunk

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()
