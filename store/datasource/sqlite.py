"""Opening a project's SQLite file: beneath the project's folder, for reading, with small limits.

The file is one of the project's own (`files`). SQLite opens it by name; that it got the same file
is checked.
"""

import os
import sqlite3
import stat
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from store.datasource.config import SqliteConfig
from store.datasource.errors import FileUnusable
from store.datasource.files import beneath

MAX_VALUE_BYTES = 8 * 1024 * 1024  # one string, blob or row; SQLite answers "too big" beyond
MAX_PAGES_CACHED_KIB = 8 * 1024
_HEADER = b"SQLite format 3\0"
_WAL = 2  # bytes 18 and 19 of the header: write-ahead log instead of rollback journal

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 64 * 1024,
    sqlite3.SQLITE_LIMIT_COLUMN: 1000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SETTINGS = (
    "PRAGMA query_only = ON",
    # The schema is the file's author's: it may not call functions that do anything.
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",  # a file cut short while mapped would end the process
    f"PRAGMA cache_size = -{MAX_PAGES_CACHED_KIB}",
)


def _needs_no_log(descriptor: int, real: Path) -> bool:
    header = os.pread(descriptor, 20, 0)
    if not header.startswith(_HEADER):
        raise FileUnusable("The file is not a SQLite database.")
    log = real.with_name(real.name + "-wal")
    return header[18] == _WAL and not (log.exists() and log.stat().st_size)


def open_file(folder: Path, config: SqliteConfig) -> sqlite3.Connection:
    """Open the file for reading; blocks, so call it in a thread.

    Args:
        folder: `store.files.folder.project_folder`.
        config: Names the file.

    Raises:
        FileUnusable: Missing, outside the folder, or not a database.
    """
    real = folder.resolve() / PurePosixPath(config.path)
    with beneath(folder, config.path) as descriptor:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnusable("The project has no such file.")
        # A database in WAL mode whose log is gone is complete, but opening it would make an empty
        # log beside it: reading must not write. Otherwise the file may change while it is read.
        immutable = int(_needs_no_log(descriptor, real))
        uri = f"file:{quote(str(real))}?mode=ro&immutable={immutable}"
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                uri, uri=True, timeout=2, isolation_level=None, check_same_thread=False
            )
            for limit, value in _LIMITS.items():
                connection.setlimit(limit, value)
            for statement in _SETTINGS:
                connection.execute(statement)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            now = real.stat(follow_symlinks=False)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise FileUnusable("The file cannot be opened as a SQLite database.") from error
        if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
            connection.close()
            raise FileUnusable("The file was replaced while it was opened. Try again.")
        return connection
