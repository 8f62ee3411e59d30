"""Rows of a CSV or TSV file, in the form of a query's result."""

import codecs
import csv
from collections.abc import Iterator
from io import BufferedReader
from threading import Event
from typing import Any

from activities.tools.bounds import MAX_MODEL_BYTES, size
from activities.tools.files.encodings import HEAD_BYTES, encoding_of
from activities.tools.tool import ToolFailed
from store.files.folder import Entry, Stopped
from store.texts import clean, cut

MAX_LINE_BYTES = 256 * 1024
MAX_CELL_CHARS = 2_000
MAX_COLUMNS = 500
_ROOM = MAX_MODEL_BYTES - 4096
_DELIMITERS = ",;\t|"
_STOP_EVERY = 1_000


def table_slice(
    file: BufferedReader, entry: Entry, offset: int, limit: int, stop: Event
) -> dict[str, Any]:
    """Up to `limit` rows after the first `offset` ones; the line above all is their header. Blocks.

    Raises:
        ToolFailed: It is no table.
    """
    head = file.read(HEAD_BYTES)
    encoding = encoding_of(head)
    if encoding is None or encoding.startswith("utf-16"):
        raise ToolFailed("This file is no table of text. Leave `table` out.")
    file.seek(0)
    reader = csv.reader(_lines(file, encoding), delimiter=_delimiter(entry, head, encoding))
    rows: list[list[str]] = []
    try:
        columns = [{"name": clean(cut(name, 200)), "type": "text"} for name in next(reader, [])]
        if len(columns) > MAX_COLUMNS:
            raise ToolFailed(f"A table has at most {MAX_COLUMNS} columns. Leave `table` out.")
        left = _ROOM - size(columns)
        following = None
        for number, cells in enumerate(row for row in reader if row):
            if number % _STOP_EVERY == 0 and stop.is_set():
                raise Stopped
            if number < offset:
                continue
            row = [clean(cut(cell, MAX_CELL_CHARS)) for cell in cells]
            left -= size(row) + 1
            if len(rows) >= limit or (left < 0 and rows):
                following = number
                break
            rows.append(row)
    except csv.Error as error:
        raise ToolFailed(f"This file is no table ({error}). Leave `table` out.") from error
    return {
        "path": entry.path, "size": entry.size, "columns": columns, "rows": rows,
        "row_count": len(rows), "offset": offset, "next_offset": following,
        "truncated": following is not None,
    }  # fmt: skip


def _lines(file: BufferedReader, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    first = True
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise ToolFailed("A line of this file is too long for a table. Leave `table` out.")
        text = decoder.decode(line)
        yield text.removeprefix("\ufeff") if first else text
        first = False


def _delimiter(entry: Entry, head: bytes, encoding: str) -> str:
    if entry.path.lower().endswith((".tsv", ".tab")):
        return "\t"
    line = head.decode(encoding, errors="replace").partition("\n")[0]
    return max(_DELIMITERS, key=line.count)
