"""One project's folder on the disk. Everything here blocks: it runs in threads.

Every name of a path is opened relative to the folder before it and may not be a link, so what is
reached lies beneath the project's own folder, whatever changes meanwhile. What is neither a file
nor a folder is never opened.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from pathlib import Path
from threading import Event
from uuid import UUID

from store.errors import Conflict, NotFound, TooLarge, Unavailable
from store.files.errors import PathRefused
from store.files.incoming import Incoming
from store.files.paths import MAX_DEPTH, Names, is_plain, text_of
from store.limits import TenantLimits

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: opening a pipe would wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Deeper than any path of ours, for what an operator has put there.
_MAX_WALK_DEPTH = 4 * MAX_DEPTH
_CREATING_ATTEMPTS = 3
BUFFER_BYTES = 64 * 1024


def project_folder(files_dir: Path, tenant_id: UUID, project_id: UUID) -> Path:
    """Where a project's files are.

    Args:
        files_dir: `Settings.files_root`.
    """
    return files_dir / str(tenant_id) / str(project_id)


class Stopped(Exception):
    """Nobody waits for the work any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file.

    Attributes:
        size: Bytes.
    """

    names: Names
    size: int
    modified_ns: int

    @property
    def path(self) -> str:
        """Its path as it is written."""
        return text_of(self.names)

    @property
    def modified(self) -> datetime:
        """When its content was last written."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a folder holds: bytes of all files, and how many files and folders."""

    size: int
    entries: int


class Folder:
    """The folder of one project. It exists from the first file on.

    Args:
        files_dir: `Settings.files_root`.
    """

    def __init__(self, files_dir: Path, tenant_id: UUID, project_id: UUID) -> None:
        self._files_dir = files_dir
        self._own = (str(tenant_id), str(project_id))

    # --- reading --------------------------------------------------------------------------------

    def open(self, names: Names) -> tuple[BufferedReader, Entry]:
        """Open a file for reading.

        Raises:
            NotFound: There is none.
            PathRefused: A link or a device is on the way.
        """
        with self._folder(names[:-1]) as parent:
            status = _status(parent, names[-1])
            if status is None or stat.S_ISDIR(status.st_mode):
                raise NotFound
            _require_file(status)
            try:
                descriptor = os.open(names[-1], _FILE, dir_fd=parent)
            except OSError as error:
                raise NotFound from error
        file: BufferedReader = BufferedReader(FileIO(descriptor, "rb"), BUFFER_BYTES)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise NotFound
        return file, _entry(names, found)

    def entry(self, names: Names) -> Entry | None:
        """A file, if there is one; None for a folder as well.

        Raises:
            PathRefused: A link or a device is there, or on the way.
        """
        try:
            with self._folder(names[:-1]) as parent:
                status = _status(parent, names[-1])
        except NotFound:
            return None
        if status is None or stat.S_ISDIR(status.st_mode):
            return None
        _require_file(status)
        return _entry(names, status)

    def walk(self, stop: Event, below: Names = ()) -> Iterator[Entry]:
        """All files beneath a folder, by their names; links and devices are passed over.

        Raises:
            NotFound: There is no such folder (the project's own may be missing).
            PathRefused: A link is on the way to it.
            Stopped: `stop` was set.
        """
        try:
            with self._folder(below) as folder:
                for names, status in _walk(folder, below, stop):
                    if stat.S_ISREG(status.st_mode) and all(map(is_plain, names[len(below) :])):
                        yield _entry(names, status)
        except NotFound:
            if below:
                raise

    def usage(self, stop: Event) -> Usage:
        """What the folder holds, including what cannot be named."""
        size = entries = 0
        with contextlib.suppress(NotFound), self._folder(()) as folder:
            for _, status in _walk(folder, (), stop):
                entries += 1
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return Usage(size, entries)

    # --- writing; under the project's lock --------------------------------------------------------

    def check_room(self, names: Names, size: int, limits: TenantLimits, stop: Event) -> None:
        """Hold a new content of a file against the limits.

        Raises:
            TooLarge: It, or the project with it, would be larger than they allow.
            PathRefused: A link or a device is there, or on the way.
        """
        if size > limits.file_bytes:
            raise TooLarge(f"A file has at most {amount(limits.file_bytes)}.")
        old = self.entry(names)
        used = self.usage(stop)
        if used.size - (old.size if old else 0) + size > limits.project_files_bytes:
            raise TooLarge(
                f"The project's files are full: {amount(limits.project_files_bytes)} in all. "
                "Delete some first."
            )
        if old is None and used.entries + len(names) > limits.project_files:
            raise TooLarge(
                f"The project has its {limits.project_files} files and folders. Delete some first."
            )

    def accept(self, incoming: Incoming, names: Names, limits: TenantLimits, stop: Event) -> Entry:
        """Put what was received in its place, at once and as a whole.

        Raises:
            TooLarge: A limit would be passed; what was there before stays.
            Conflict: A folder stands there, or a file on the way.
            PathRefused: A link or a device is there, or on the way.
        """
        self.check_room(names, incoming.size, limits, stop)
        for _ in range(_CREATING_ATTEMPTS):
            # Whoever deletes the last file of a folder deletes the folder.
            with contextlib.suppress(FileNotFoundError), self._made(names[:-1]) as parent:
                status = _status(parent, names[-1])
                if status is not None and stat.S_ISDIR(status.st_mode):
                    raise Conflict(f"{text_of(names)!r} is a folder.")
                if status is not None:
                    _require_file(status)
                incoming.move(parent, names[-1])
                if incoming.durable:
                    os.fsync(parent)
                return _entry(names, os.stat(names[-1], dir_fd=parent, follow_symlinks=False))
        raise Unavailable("The project's files are changing. Try again.", retry_after=1)

    def delete(self, names: Names) -> Entry:
        """Delete a file, and the folders that are empty without it.

        Raises:
            NotFound: There is none.
            PathRefused: A link or a device is there, or on the way.
        """
        entry = self.entry(names)
        if entry is None:
            raise NotFound
        with self._folder(names[:-1]) as parent:
            os.unlink(names[-1], dir_fd=parent)
        for depth in range(len(names) - 1, 0, -1):
            try:
                with self._folder(names[: depth - 1]) as parent:
                    os.rmdir(names[depth - 1], dir_fd=parent)
            except (OSError, NotFound):
                break
        return entry

    def remove(self) -> None:
        """Delete the whole folder, of a project that is no more."""
        tenant, project = self._own
        with contextlib.suppress(FileNotFoundError):
            root = os.open(self._files_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                held = os.open(tenant, _FOLDER, dir_fd=root)
                try:
                    shutil.rmtree(project, dir_fd=held)
                finally:
                    os.close(held)
                with contextlib.suppress(OSError):  # others of the tenant's are left
                    os.rmdir(tenant, dir_fd=root)
            finally:
                os.close(root)

    # --- the way down -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _folder(self, names: Names) -> Iterator[int]:
        with self._way(names, create=False) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _made(self, names: Names) -> Iterator[int]:
        with self._way(names, create=True) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _way(self, names: Names, *, create: bool) -> Iterator[int]:
        if create:
            self._files_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            held = os.open(self._files_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound from error
        try:
            for name in (*self._own, *names):
                following = _enter(held, name, create=create)
                os.close(held)
                held = following
            yield held
        finally:
            os.close(held)


def _enter(parent: int, name: str, *, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError as error:
        if create:
            raise
        raise NotFound from error
    except OSError as error:
        status = _status(parent, name)
        if status is None:
            raise NotFound from error
        if stat.S_ISDIR(status.st_mode):
            raise
        _require_file(status)
        if create:
            raise Conflict(f"{name!r} is a file, and no folder.") from error
        raise NotFound from error


def _status(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _require_file(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise PathRefused("path-link", "a link is not followed, read or replaced.")
    if not stat.S_ISREG(status.st_mode):
        raise PathRefused("path-device", "only files and folders can be used.")


def _walk(folder: int, names: Names, stop: Event) -> Iterator[tuple[Names, os.stat_result]]:
    if stop.is_set():
        raise Stopped
    if len(names) > _MAX_WALK_DEPTH:
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inner = (*names, entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield inner, status
        if not stat.S_ISDIR(status.st_mode):
            continue
        try:
            held = os.open(entry.name, _FOLDER, dir_fd=folder)
        except OSError:
            continue
        try:
            yield from _walk(held, inner, stop)
        finally:
            os.close(held)


def _entry(names: Names, status: os.stat_result) -> Entry:
    return Entry(names, status.st_size, status.st_mtime_ns)


def amount(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.10g} {name}"
    return f"{size} bytes"
