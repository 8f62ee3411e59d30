"""Paths of project files: parsed once, into names. What is doubtful is refused, not repaired.

A path is relative to the project's folder, its names divided by ``/``. Names are data: anything
people and programs call a file is one, as long as it is one line, reads in one direction and means
the same on every system. They are kept in Unicode's composed form (NFC), so that one name has one
spelling.
"""

import re
import unicodedata
from typing import TypeAlias

from store.files.errors import PathRefused

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_DEPTH = 16

Names: TypeAlias = tuple[str, ...]
ROOT: Names = ()

# Controls, line separators, what turns the direction of writing, half characters, and `\`.
_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\\\\\ud800-\udfff]"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\s)")
_HOME = re.compile(r"~[A-Za-z0-9_.+-]*")
_OURSELVES = frozenset({"", ".", "/", "./"})


def normal(text: str) -> str:
    """The one spelling of a text that names may have."""
    return unicodedata.normalize("NFC", text)


def parse(path: str) -> Names:
    """The names of a file's path.

    Raises:
        PathRefused: It is not the path of a project file.
    """
    path = normal(path).removeprefix("./")
    if not path:
        raise PathRefused("path-empty", "name a file of the project.")
    if _CHARACTERS.search(path):
        raise PathRefused(
            "path-characters",
            "a path has no control characters, no backslash and nothing that turns its direction.",
        )
    if path.startswith("/"):
        raise PathRefused("path-absolute", "a path begins in the project's folder, without `/`.")
    names = tuple(path.split("/"))
    if _HOME.fullmatch(names[0]):
        raise PathRefused("path-home", "a path begins in the project's folder; `~` is none.")
    if _SCHEME.match(path):
        raise PathRefused("path-scheme", "a path has no drive and no scheme before it.")
    if ".." in names or "." in names:
        raise PathRefused("path-parent", "a path has no `.` and `..` in it.")
    if any(not name.strip() for name in names):
        raise PathRefused("path-empty", "a path has no empty names in it.")
    if len(names) > MAX_DEPTH:
        raise PathRefused("path-depth", f"a path has at most {MAX_DEPTH} names.")
    if max(len(name.encode()) for name in names) > MAX_NAME_BYTES:
        raise PathRefused("path-length", f"a name has at most {MAX_NAME_BYTES} bytes.")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise PathRefused("path-length", f"a path has at most {MAX_PATH_BYTES} bytes.")
    return names


def parse_folder(path: str | None) -> Names:
    """The names of a folder's path, which may end in ``/``; none for the project's own.

    Raises:
        PathRefused: It is not the path of a folder in the project.
    """
    if path is None or path in _OURSELVES:
        return ROOT
    return parse(path[:-1] if len(path) > 1 and path.endswith("/") else path)


def text_of(names: Names) -> str:
    """A path as it is written."""
    return "/".join(names)


def is_plain(name: str) -> bool:
    """Whether a name found on the disk can be asked for; what cannot be is not shown."""
    try:
        return parse(f"x/{name}")[1:] == (name,)
    except PathRefused:
        return False
