"""Server-sent events, as far as chat completions use them: bytes in, ``data`` payloads out."""

# One line longer than this is not a chat completion.
MAX_LINE_BYTES = 8 * 1024 * 1024


class EventDecoder:
    """Incremental decoder; a chunk may end anywhere, also inside a UTF-8 sequence.

    Follows the WHATWG description: lines end with LF, CRLF or CR, several ``data`` lines of one
    event are joined by LF, lines that start with a colon are comments.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Payloads completed by `chunk`.

        Raises:
            ValueError: A line is longer than `MAX_LINE_BYTES`.
        """
        buffer = self._buffer + chunk
        lines = buffer.replace(b"\r\n", b"\n").split(b"\n")
        self._buffer = lines.pop()
        if len(self._buffer) > MAX_LINE_BYTES:
            raise ValueError("a line of the stream is too long")
        payloads: list[bytes] = []
        for line in lines:
            self._line(line.rstrip(b"\r"), payloads)
        return payloads

    def finish(self) -> list[bytes]:
        """Payloads that the end of the stream completes."""
        payloads: list[bytes] = []
        self._line(self._buffer.rstrip(b"\r"), payloads)
        self._line(b"", payloads)
        self._buffer = b""
        return payloads

    def _line(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            if self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
