"""Answers with the content of a file: an attachment of no type, streamed, whole or one range."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from store.files.project_files import OpenFile

# Nothing of it runs or loads anything, should a browser show it after all.
CSP = "sandbox; default-src 'none'; frame-ancestors 'none'"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file from `start` on; whether they answer a range that was asked for."""

    start: int
    length: int
    partial: bool = False


def span_of(asked: str | None, size: int) -> Span | None:
    """What a ``Range`` header asks for; anything but one range of bytes asks for all.

    Returns:
        None when nothing of the file is in the range.
    """
    matched = _RANGE.fullmatch(asked) if asked is not None and len(asked) < 64 else None
    if matched is None or matched.group() == "bytes=-":
        return Span(0, size)
    first, last = matched.groups()
    if not first:
        length = min(int(last), size)
        return Span(size - length, length, True) if length else None
    start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if last and int(last) < start:
        return Span(0, size)
    return Span(start, end - start + 1, True) if start < size else None


class Download(StreamingResponse):
    """A file on its way to somebody; it is closed when it has arrived, or nobody waits for it.

    Args:
        asked: The ``Range`` header.
        condition: The ``If-Range`` header: a range is of one content alone.
    """

    def __init__(self, opened: OpenFile, asked: str | None, condition: str | None) -> None:
        entry = opened.entry
        tag = f'"{entry.modified_ns:x}-{entry.size:x}"'
        span = span_of(asked if condition in (None, tag) else None, entry.size)
        name = quote(entry.names[-1], safe="")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Content-Security-Policy": CSP,
            "Accept-Ranges": "bytes",
            "ETag": tag,
        }
        status = 200
        if span is None:
            status, span = 416, Span(0, 0)
            headers["Content-Range"] = f"bytes */{entry.size}"
        elif span.partial:
            status = 206
            last = span.start + span.length - 1
            headers["Content-Range"] = f"bytes {span.start}-{last}/{entry.size}"
        headers["Content-Length"] = str(span.length)
        self._opened = opened
        super().__init__(
            opened.chunks(span.start, span.length),
            status_code=status,
            headers=headers,
            media_type="application/octet-stream",
        )

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._opened.close()
