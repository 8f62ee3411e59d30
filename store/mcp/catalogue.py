"""What a server says of its tools, made into what we keep: bounded, cleaned, and hashed.

The hash covers all that was said of what a tool does, also what we cut: whoever approves it
approves that.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from store.mcp import schema
from store.texts import clean, clean_json, cut

MAX_TOOLS = 64
MAX_TOOL_NAME_CHARS = 128
MAX_DESCRIPTION_CHARS = 4_096
MAX_DESCRIPTION_BYTES = 32 * 1024
_SAID = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


@dataclass(frozen=True, slots=True)
class FoundTool:
    """A tool as its server describes it."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    hints: Mapping[str, bool]
    hash: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server has.

    Attributes:
        dropped: Tools that were not taken, each as ``{name, reason}``.
        legacy: Whether the server spoke a protocol that begins with ``initialize``.
    """

    tools: list[FoundTool] = field(default_factory=list)
    dropped: list[dict[str, str]] = field(default_factory=list)
    legacy: bool = False


def listing_of(said: Iterable[Mapping[str, Any]], *, legacy: bool, more: bool = False) -> Listing:
    """What we keep of a server's list.

    Args:
        said: Tools as they came, with the protocol's names.
        more: There were more than we wanted to read.
    """
    listing = Listing(legacy=legacy)
    seen: set[str] = set()
    for tool in said:
        name = tool["name"]
        if len(listing.tools) == MAX_TOOLS:
            more = True
            break
        reason = "there are two of that name" if name in seen else _refused(tool)
        seen.add(name)
        if reason:
            if len(listing.dropped) < MAX_TOOLS:
                listing.dropped.append({"name": cut(clean(name), 80), "reason": reason})
        else:
            listing.tools.append(_found(tool))
    if more:
        listing.dropped.append({"name": "…", "reason": f"at most {MAX_TOOLS} tools are taken"})
    return listing


def _refused(tool: Mapping[str, Any]) -> str:
    name, description = tool["name"], tool.get("description") or ""
    if not 0 < len(name) <= MAX_TOOL_NAME_CHARS or clean(name) != name:
        return f"its name does not have 1 to {MAX_TOOL_NAME_CHARS} characters"
    if len(description.encode(errors="replace")) > MAX_DESCRIPTION_BYTES:
        return f"its description is longer than {MAX_DESCRIPTION_BYTES // 1024} KiB"
    try:
        schema.check(tool.get("inputSchema"))
    except schema.UnusableSchema as unusable:
        return str(unusable)
    return ""


def _found(tool: Mapping[str, Any]) -> FoundTool:
    annotations = tool.get("annotations") or {}
    said = {name: tool.get(name) for name in _SAID}
    return FoundTool(
        name=tool["name"],
        description=cut(clean(tool.get("description") or tool["name"]), MAX_DESCRIPTION_CHARS),
        input_schema=clean_json(tool["inputSchema"]),
        hints={
            name: annotations[name] for name in HINTS if isinstance(annotations.get(name), bool)
        },
        hash=hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest(),
    )
