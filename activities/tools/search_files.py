"""The tool that finds lines in the project's files."""

import asyncio
import time
from collections.abc import Iterator
from io import BufferedReader
from threading import Event
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from activities.tools.bounds import MAX_MODEL_BYTES, size
from activities.tools.files.encodings import HEAD_BYTES, encoding_of
from activities.tools.files.file_tool import FileTool
from activities.tools.files.outcome import FolderPath, tool_errors
from activities.tools.tool import Arguments, ToolContext
from store.errors import NotFound
from store.files.errors import PathRefused
from store.files.folder import Folder, Stopped
from store.files.paths import Names, parse_folder
from store.files.project_files import ProjectFiles
from store.texts import clean
from workflows.types import Effect

MAX_MATCHES = 200
MAX_QUERY_CHARS = 200
LINE_BYTES = 64 * 1024  # a longer line is searched in pieces
WIDE_BYTES = 4 * 1024 * 1024  # of a file in UTF-16
BOM = "\ufeff"
CONTEXT_CHARS = 120
# A search leaves the rest of its deadline to everything around it.
SEARCH_SECONDS = 7.0
SEARCHES = 3
_ROOM = MAX_MODEL_BYTES - 512
_BREATHE_EVERY = 1024 * 1024


class SearchFilesArguments(Arguments):
    """Arguments of search_files."""

    query: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_QUERY_CHARS,
            description="What to find, letter for letter; upper and lower case are the same.",
        ),
    ]
    path: FolderPath = None


class SearchFiles(FileTool[SearchFilesArguments]):
    """Plain text in text files; the rest is passed over."""

    name = "search_files"
    description = (
        "Finds the lines of the project's text files that contain a text, and shows each with its "
        "path and number. A search that was cut short says so: name a folder then, or more text."
    )
    arguments = SearchFilesArguments
    effect = Effect.READ

    def __init__(self, files: ProjectFiles) -> None:
        super().__init__(files)
        # Searches keep a thread and a core busy for seconds; reading and writing go on beside.
        self._searching = asyncio.Semaphore(SEARCHES)

    @override
    async def run(self, arguments: SearchFilesArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        with tool_errors(arguments.path):
            names = parse_folder(arguments.path)
            async with self._searching:
                return await self._in_folder(
                    context, lambda folder, stop: _search(folder, names, arguments.query, stop)
                )


def _search(folder: Folder, names: Names, query: str, stop: Event) -> dict[str, Any]:
    until = time.monotonic() + SEARCH_SECONDS
    wanted = query.casefold()
    matches: list[dict[str, Any]] = []
    left = _ROOM
    one = folder.entry(names) if names else None
    for entry in [one] if one else folder.walk(stop, names):
        try:
            file, _ = folder.open(entry.names)
        except (NotFound, PathRefused):
            continue  # gone meanwhile
        with file:
            for number, line in _lines(file, len(query.encode()), until, stop):
                if line is None:
                    return {"matches": matches, "truncated": True}
                place = line.casefold().find(wanted)
                if place < 0:
                    continue
                if matches and (matches[-1]["path"], matches[-1]["line"]) == (entry.path, number):
                    continue  # of a long line, the first is enough
                match = {"path": entry.path, "line": number, "text": _around(line, place)}
                left -= size(match) + 1
                if left < 0 or len(matches) == MAX_MATCHES:
                    return {"matches": matches, "truncated": True}
                matches.append(match)
    return {"matches": matches, "truncated": False}


def _lines(
    file: BufferedReader, overlap: int, until: float, stop: Event
) -> Iterator[tuple[int, str | None]]:
    """Lines with their numbers from 1; None when the time is over, nothing for what is no text."""
    head = file.read(HEAD_BYTES)
    encoding = encoding_of(head)
    if encoding is None:
        return
    file.seek(0)
    number, seen, rest = 1, 0, b""
    if encoding.startswith("utf-16"):
        text = file.read(WIDE_BYTES).decode(encoding, errors="replace")
        yield from enumerate(text.removeprefix(BOM).splitlines(), 1)
        return
    while raw := file.readline(LINE_BYTES):
        seen += len(raw)
        if seen > _BREATHE_EVERY:
            seen = 0
            if stop.is_set():
                raise Stopped
            if time.monotonic() > until:
                yield number, None
                return
            time.sleep(0.001)  # for those who share the interpreter
        line = (rest + raw).decode(encoding, errors="replace").rstrip("\r\n")
        yield number, line.removeprefix(BOM) if number == 1 else line
        if raw.endswith(b"\n"):
            number, rest = number + 1, b""
        else:
            rest = raw[-overlap:]


def _around(line: str, place: int) -> str:
    """A line, or what stands around the place of a longer one."""
    start = max(place - CONTEXT_CHARS, 0)
    end = place + CONTEXT_CHARS + MAX_QUERY_CHARS
    before, after = "…" if start else "", "…" if end < len(line) else ""
    return clean(f"{before}{line[start:end]}{after}")
