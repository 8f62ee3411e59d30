"""What an MCP server answers to a call, as the model and people get it."""

from typing import TYPE_CHECKING, Any

from activities.tools.bounds import CUT_MARK
from store.texts import cut

if TYPE_CHECKING:
    from mcp_types import CallToolResult

MAX_ERROR_CHARS = 1_500
MAX_ATTACHMENTS = 50
MAX_FIELD_CHARS = 500
MAX_DEPTH = 64


def result_of(result: "CallToolResult") -> dict[str, Any]:
    """Its texts as one, its structured content as it is, and what else there is described."""
    texts, attachments = _parts(result)
    made: dict[str, Any] = {"text": "\n\n".join(texts)}
    if result.structured_content is not None:
        made["structured"] = _storable(result.structured_content)
    if attachments:
        made["attachments"] = attachments[:MAX_ATTACHMENTS]
    return made


def _storable(value: Any, depth: int = 1) -> Any:
    """Without what JSON allows and our tables do not: whole numbers of any size, any depth."""
    if isinstance(value, (dict, list)) and depth > MAX_DEPTH:
        return CUT_MARK
    match value:
        case dict():
            return {key: _storable(item, depth + 1) for key, item in value.items()}
        case list():
            return [_storable(item, depth + 1) for item in value]
        case int() if not -(2**63) <= value < 2**63:
            return cut(hex(value), MAX_FIELD_CHARS)
        case _:
            return value


def failure_text(result: "CallToolResult") -> str:
    """What the tool says went wrong."""
    texts, _ = _parts(result)
    return cut("\n".join(texts).strip() or "The tool failed and did not say why.", MAX_ERROR_CHARS)


def _parts(result: "CallToolResult") -> tuple[list[str], list[dict[str, Any]]]:
    texts: list[str] = []
    attachments: list[dict[str, Any]] = []
    for block in result.content:
        match block.type:
            case "text":
                texts.append(block.text)
            case "image" | "audio":
                attachments.append(_described(block.type, block.mime_type, block.data))
            case "resource":
                resource = block.resource
                found = {"type": "resource", "uri": cut(str(resource.uri), MAX_FIELD_CHARS)}
                if hasattr(resource, "text"):
                    # The content of a file, as often as not: what was asked for.
                    texts.append(resource.text)
                else:
                    found |= _described("resource", resource.mime_type or "", resource.blob)
                attachments.append(found)
            case "resource_link":
                attachments.append(
                    {
                        "type": "link",
                        "uri": cut(str(block.uri), MAX_FIELD_CHARS),
                        "name": cut(block.name, MAX_FIELD_CHARS),
                    }
                )
    return texts, attachments


def _described(kind: str, mime_type: str, base64: str) -> dict[str, Any]:
    return {
        "type": kind,
        "mime_type": cut(mime_type, MAX_FIELD_CHARS),
        "size": len(base64.rstrip("=")) * 3 // 4,
    }
