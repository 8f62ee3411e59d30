"""Server-sent events, as far as chat completions use them: bytes in, ``data`` payloads out."""

# One line, or one event, longer than this is not a chat completion.
MAX_LINE_BYTES = 8 * 1024 * 1024


class EventDecoder:
    """Incremental decoder; a chunk may end anywhere, also inside a UTF-8 sequence.

    Follows the WHATWG description as far as servers use it: lines end with LF or CRLF, several
    ``data`` lines of one event are joined by LF, lines that start with a colon are comments.
    """

    def __init__(self) -> None:
        # Pieces of the line that is not complete yet.
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Payloads completed by `chunk`.

        Raises:
            ValueError: A line or an event is longer than `MAX_LINE_BYTES`.
        """
        payloads: list[bytes] = []
        if b"\n" in chunk:
            first, *lines, rest = chunk.split(b"\n")
            self._end_line(first, payloads)
            for line in lines:
                self._line(line.removesuffix(b"\r"), payloads)
            self._held = sum(map(len, self._data))
        else:
            rest = chunk
        self._pieces.append(rest)
        self._held += len(rest)
        if self._held > MAX_LINE_BYTES:
            raise ValueError("a line of the stream is too long")
        return payloads

    def finish(self) -> list[bytes]:
        """Payloads that the end of the stream completes."""
        payloads: list[bytes] = []
        self._end_line(b"", payloads)
        self._line(b"", payloads)
        return payloads

    def _end_line(self, rest: bytes, payloads: list[bytes]) -> None:
        line = b"".join([*self._pieces, rest])
        self._pieces = []
        self._line(line.removesuffix(b"\r"), payloads)

    def _line(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            if self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
