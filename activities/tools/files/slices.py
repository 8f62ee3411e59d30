"""A piece of a text file, as much as the model is shown, cut between characters."""

from io import BufferedReader
from typing import Any

from activities.tools.bounds import MAX_MODEL_BYTES, size
from activities.tools.files.encodings import HEAD_BYTES, encoding_of, kind_of
from store.files.folder import Entry
from store.texts import clean

# What is beside the text: the path may be long, and written with escapes.
_ROOM = MAX_MODEL_BYTES - 4096
_LONGEST_CHARACTER = 4


def text_slice(file: BufferedReader, entry: Entry, offset: int, limit: int) -> dict[str, Any]:
    """Up to `limit` bytes of a file from byte `offset` on; blocks.

    Fewer, where the model is not shown more at once: `next_offset` is where the rest begins.
    """
    head = file.read(HEAD_BYTES)
    encoding = encoding_of(head)
    about = {"path": entry.path, "size": entry.size}
    if encoding is None:
        return {
            **about, "content": "", "truncated": False, "binary": True,
            "note": f"This is {kind_of(head)}: its content cannot be read as text.",
        }  # fmt: skip
    wide = encoding.startswith("utf-16")
    offset -= offset % 2 if wide else 0
    file.seek(offset)
    raw = file.read(min(limit, _ROOM) + _LONGEST_CHARACTER)
    if encoding == "utf-8" and offset:
        skipped = _continued(raw)
        raw, offset = raw[skipped:], offset + skipped
    whole = offset + len(raw) >= entry.size and len(raw) <= limit
    taken = len(raw) if whole else _boundary(raw, min(limit, _ROOM), encoding)
    if size(_decoded(raw[:taken], encoding)) > _ROOM:
        taken = _fitting(raw, taken, encoding)
    content = _decoded(raw[:taken], encoding)
    rest = offset + taken < entry.size
    return {
        **about, "content": content if offset else content.removeprefix("\ufeff"),
        "offset": offset, "next_offset": offset + taken if rest else None,
        "truncated": rest, "encoding": encoding,
    }  # fmt: skip


def _decoded(raw: bytes, encoding: str) -> str:
    return clean(raw.decode(encoding, errors="replace"))


def _continued(raw: bytes) -> int:
    """Bytes at the beginning that belong to a character before."""
    for place, byte in enumerate(raw[: _LONGEST_CHARACTER - 1]):
        if byte & 0xC0 != 0x80:
            return place
    return min(len(raw), _LONGEST_CHARACTER - 1)


def _boundary(raw: bytes, most: int, encoding: str) -> int:
    """The last place up to `most` (at least one character on) that cuts no character in two."""
    if len(raw) <= most:
        return len(raw)
    if encoding.startswith("utf-16"):
        most = max(most - most % 2, 2)
        # The high byte of the unit before the cut: half of a pair takes its other half along.
        high = raw[most - (1 if encoding.endswith("le") else 2)]
        return most + 2 if 0xD8 <= high <= 0xDB else most
    if encoding != "utf-8":
        return most
    for place in range(most, max(most - _LONGEST_CHARACTER, 0), -1):
        if raw[place] & 0xC0 != 0x80:
            return place
    # Not one whole character in so few bytes.
    for place in range(most + 1, len(raw)):
        if raw[place] & 0xC0 != 0x80:
            return place
    return len(raw)


def _fitting(raw: bytes, most: int, encoding: str) -> int:
    """As much as fits when written as JSON, whose escapes may make it several times as long."""
    low, high = 0, most
    while high - low > 64:
        middle = (low + high) // 2
        if size(_decoded(raw[:middle], encoding)) <= _ROOM:
            low = middle
        else:
            high = middle
    return _boundary(raw, max(low, _LONGEST_CHARACTER), encoding)
