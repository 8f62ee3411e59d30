"""The one folder that holds everything an embedded installation remembers.

lock            held while a stack uses the folder
secrets.json    see ``keys``
postgres/       the database cluster
temporal.db     Temporal's state
log/            everything the children said since the last start
run/            their process ids, one file each
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from embedded.errors import CannotStart

SETTING = "EVERTURN_DATA_DIR"
MAX_LOG_CHARS = 20_000_000


class DataDir:
    """A data folder this process alone uses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.run = path / "run"
        for folder in (self.log, self.run):
            folder.mkdir(mode=0o700, exist_ok=True)
        for stale in self.run.glob("*.pid"):
            stale.unlink()

    @property
    def temporal_db(self) -> Path:
        """Temporal's state."""
        return self.path / "temporal.db"

    def pid_file(self, name: str) -> Path:
        """Where the process id of a child is found while it runs."""
        return self.run / f"{name}.pid"

    def log_file(self, name: str) -> "LogFile":
        """Where everything a child says is kept."""
        return LogFile(self.log / f"{name}.log")


class LogFile:
    """A child's lines. Starts anew with each start of the stack, and when it has grown long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._file = self._path.open("w", buffering=1, errors="replace")
        self._room = MAX_LOG_CHARS

    def write(self, line: str) -> None:
        """Append one line; the long file's predecessor is kept as ``….log.old``."""
        with suppress(OSError):  # a full disk: the children have more important things to write
            self._file.write(line + "\n")
            self._room -= len(line)
            if self._room < 0:
                self._file.close()
                self._path.replace(self._path.with_suffix(".log.old"))
                self._open()


@contextmanager
def locked(path: Path) -> Iterator[DataDir]:
    """Use the folder, alone; it is made when missing.

    Raises:
        CannotStart: it cannot be written, or another stack uses it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve()
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(
            f"{SETTING}: {path} cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 20).decode().strip() or "unknown"
            raise CannotStart(
                f"{SETTING}: {path} is used by another `make up` (process {holder});"
                " stop that one or choose another folder"
            ) from error
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield DataDir(path)
    finally:
        os.close(lock)
