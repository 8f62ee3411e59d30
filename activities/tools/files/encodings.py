"""Which encoding a file's text is in, if it is text at all."""

import codecs

HEAD_BYTES = 64 * 1024

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_KINDS = (
    (b"SQLite format 3\0", "a SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
)


def encoding_of(head: bytes) -> str | None:
    """The encoding of a text by its first `HEAD_BYTES`; None for what is no text."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head or any(head.startswith(magic) for magic, _ in _KINDS):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def kind_of(head: bytes) -> str:
    """What a file is that is no text, in words."""
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return kind
    return "a binary file"
