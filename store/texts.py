"""Text that is safe to store and to send: no NUL, no lone surrogates, bounded."""

import re
from typing import Any

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """Replace what PostgreSQL and strict JSON refuse: NUL and lone surrogates.

    Length in code points is kept, so offsets into the text stay true.
    """
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    if not text.isascii() and _LONE_SURROGATE.search(text):
        text = _LONE_SURROGATE.sub(REPLACEMENT, text)
    return text


def clean_json(value: Any) -> Any:
    """A JSON value that all readers of ours take: `clean` strings and keys, numbers that fit.

    A whole number of more than 64 bits becomes text: no JSON writer of ours takes it, and a browser
    would round it.
    """
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(str(key)): clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [clean_json(item) for item in value]
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
        case _:
            return value


def cut(text: str, limit: int) -> str:
    """At most `limit` code points of `text`, the last one an ellipsis if it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
