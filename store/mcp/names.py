"""What the model calls the tools of an MCP server: ``mcp__<server>__<tool>``.

A name depends on its own server and tool alone, so that no other can change what a policy or an
approval is about. A server's part never holds ``__``, so a name can be read in one way only.
"""

import hashlib
import re

PREFIX = "mcp__"
MAX_NAME_CHARS = 64
MAX_SLUG_CHARS = 24

_NOT_PLAIN = re.compile(r"[^a-zA-Z0-9_-]+")
_RUNS = re.compile(r"_{2,}")


def slug_of(name: str) -> str:
    """A server's part of its tools' names."""
    plain = _RUNS.sub("_", _NOT_PLAIN.sub("_", name))[:MAX_SLUG_CHARS].strip("_-")
    return plain or "server"


def other_slug(name: str) -> str:
    """The same for a server whose `slug_of` another one has."""
    return f"{slug_of(name)[: MAX_SLUG_CHARS - 9].strip('_-')}_{_digest(name)}"


def call_name(slug: str, tool: str) -> str:
    """A tool's name for the model: its own where that is plain and fits, else a part and a hash."""
    room = MAX_NAME_CHARS - len(PREFIX) - len(slug) - 2
    plain = _NOT_PLAIN.sub("_", tool)
    if plain != tool or not 0 < len(plain) <= room:
        plain = f"{plain[: room - 9]}_{_digest(tool)}"
    return f"{PREFIX}{slug}__{plain}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
