"""Files that are being received: beside all projects' folders, until they are whole.

A file is moved to its place in one step, so readers find the old content or the new. Whoever
writes one holds a lock on it for as long as he lives; what is not locked belongs to nobody any
more, and `sweep` removes it.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from uuid import uuid4

INCOMING = ".incoming"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Incoming:
    """A new content on its way. Blocks: use it in threads. Close it in any case.

    Args:
        files_dir: `Settings.files_root`.
        durable: Whether it must survive the loss of power once it is in its place.
    """

    def __init__(self, files_dir: Path, *, durable: bool = True) -> None:
        self.size = 0
        self.durable = durable
        self._moved = False
        self._folder = _open_folder(files_dir)
        try:
            self._name, self._file = _locked_file(self._folder)
        except BaseException:
            os.close(self._folder)
            raise

    def write(self, data: bytes) -> None:
        """Add to it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.size += len(data)

    def flush(self) -> None:
        """See that it is on the disk."""
        if self.durable:
            os.fsync(self._file)

    def move(self, folder: int, name: str) -> None:
        """Put it in its place, instead of what is there."""
        os.rename(self._name, name, src_dir_fd=self._folder, dst_dir_fd=folder)
        self._moved = True

    def close(self) -> None:
        """Let go of it; it is gone unless it was moved."""
        if self._file < 0:
            return
        if not self._moved:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folder)
        os.close(self._file)
        os.close(self._folder)
        self._file = self._folder = -1


def _open_folder(files_dir: Path) -> int:
    files_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(files_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(INCOMING, 0o700, dir_fd=held)
        return os.open(INCOMING, _FOLDER, dir_fd=held)
    finally:
        os.close(held)


def _locked_file(folder: int) -> tuple[str, int]:
    while True:
        name = uuid4().hex
        file = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:  # else a sweep came between
                return name, file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def sweep(files_dir: Path) -> int:
    """Remove what nobody writes any more; how many there were. Blocks."""
    removed = 0
    folder = _open_folder(files_dir)
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                file = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Not what has been moved to its place meanwhile.
                    os.unlink(name, dir_fd=folder)
                    removed += 1
                except BlockingIOError:
                    pass
                finally:
                    os.close(file)
    finally:
        os.close(folder)
    return removed
