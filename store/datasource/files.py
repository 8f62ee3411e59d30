"""A project's files, opened beneath its folder: no part of a path is a link, none leads out of it.

Whoever reads a file reads its descriptor: what is put in its place later changes nothing.
"""

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from store.datasource.errors import FileUnusable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: opening a pipe would wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def beneath(folder: Path, path: str) -> Iterator[int]:
    """Descriptor of the file or folder `path` of `folder`, reached without following a link.

    Raises:
        FileUnusable: There is none, or the path is not one within the folder.
    """
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise FileUnusable("A path names a file of the project, without `..` and a leading `/`.")
    held: list[int] = []
    try:
        held.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in parts[:-1]:
            held.append(os.open(part, _FOLDER, dir_fd=held[-1]))
        held.append(os.open(parts[-1], _FILE, dir_fd=held[-1]))
        yield held[-1]
    except OSError as error:
        raise FileUnusable("The project has no such file.") from error
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextlib.contextmanager
def matching(folder: Path, path: str, most: int) -> Iterator[dict[str, int]]:
    """Descriptors of the files that `path` means, by name: a file, a folder's files, a pattern's.

    Raises:
        FileUnusable: There are none, or more than `most`.
    """
    parent, _, last = path.rstrip("/").rpartition("/")
    pattern = last if "*" in last or "?" in last else None
    with contextlib.ExitStack() as stack:
        if pattern is None:
            descriptor = stack.enter_context(beneath(folder, path.rstrip("/")))
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                yield {last: descriptor}
                return
        elif parent:
            descriptor = stack.enter_context(beneath(folder, parent))
        else:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise FileUnusable("The project has no such file.")
        found: dict[str, int] = {}
        for name in sorted(os.listdir(descriptor)):
            if name.startswith(".") or not fnmatch.fnmatchcase(name, pattern or "*"):
                continue
            try:
                opened = os.open(name, _FILE, dir_fd=descriptor)
            except OSError:  # a link, or gone
                continue
            stack.callback(os.close, opened)
            if stat.S_ISREG(os.fstat(opened).st_mode):
                found[name] = opened
            if len(found) > most:
                raise FileUnusable(f"These are more than {most} files. Name fewer of them.")
        if not found:
            raise FileUnusable("The project has no such file.")
        yield found
