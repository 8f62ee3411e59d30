"""Which of a project's files DuckDB reads, and as what.

Nothing here opens them with DuckDB: that is done in a process of its own, see
`activities.tools.sql.duckdb`.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from store.datasource.config import DuckdbConfig
from store.datasource.errors import FileUnusable
from store.datasource.files import matching

MAX_FILES = 64

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".duckdb": "duckdb",
    ".ddb": "duckdb",
}
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class BoundFile:
    """One file.

    Attributes:
        table: How a query names it.
        format: csv, json, parquet or duckdb.
        compression: For csv and json; empty for none.
    """

    table: str
    format: str
    compression: str
    descriptor: int


def _format(name: str) -> tuple[str, str, str]:
    """Table name, format and compression that a file's name tells; the format empty if none."""
    path = PurePosixPath(name)
    compression = _COMPRESSED.get(path.suffix.lower(), "")
    if compression:
        path = PurePosixPath(path.stem)
    found = _FORMATS.get(path.suffix.lower(), "")
    return path.stem, "" if compression and found in {"parquet", "duckdb"} else found, compression


def _require_format(file: BoundFile, name: str) -> None:
    head = os.pread(file.descriptor, 12, 0)
    is_right = {
        "parquet": head.startswith(b"PAR1"),
        "duckdb": head[8:12] == b"DUCK",
    }.get(file.format, b"\0" not in head or bool(file.compression))
    if not is_right:
        raise FileUnusable(f"The file {name[:100]!r} is not what its name says it is.")


@contextlib.contextmanager
def bound_files(folder: Path, config: DuckdbConfig) -> Iterator[list[BoundFile]]:
    """The files of a datasource, open; blocks, so call it in a thread.

    Raises:
        FileUnusable: Missing, outside the folder, too many, or of no kind that can be read.
    """
    with matching(folder, config.path, MAX_FILES) as found:
        is_one = len(found) == 1
        files: list[BoundFile] = []
        names: set[str] = set()
        for name, descriptor in found.items():
            table, kind, compression = _format(name)
            if not kind or (kind == "duckdb" and not is_one):
                continue
            table = name if table.lower() in names else table
            names.add(table.lower())
            file = BoundFile(table, kind, compression, descriptor)
            _require_format(file, name)
            files.append(file)
        if not files:
            raise FileUnusable(
                "DuckDB reads files ending in .csv, .tsv, .json, .jsonl, .ndjson, .parquet and "
                "one .duckdb; there are none here."
            )
        yield files
