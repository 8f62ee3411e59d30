"""JSON schemas of arguments as models read them."""

from typing import Any

from pydantic import BaseModel


def parameters(arguments: type[BaseModel]) -> dict[str, Any]:
    """The schema of a tool's arguments: no titles, no null, nothing additional."""
    schema = arguments.model_json_schema()
    properties = {name: _plain(value) for name, value in schema.get("properties", {}).items()}
    plain: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": list(schema.get("required", [])),
        "additionalProperties": False,
    }
    if "$defs" in schema:
        plain["$defs"] = schema["$defs"]
    return plain


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Without pydantic's titles; an optional field is one that may be left out, not one of two."""
    plain = {key: item for key, item in value.items() if key not in {"title", "default"}}
    choices = [item for item in plain.get("anyOf", []) if item != {"type": "null"}]
    if len(choices) == 1:
        plain = {**choices[0], **{key: item for key, item in plain.items() if key != "anyOf"}}
    return plain
