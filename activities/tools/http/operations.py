"""What an HTTP datasource offers, as `describe_schema` shows it."""

from collections.abc import Mapping
from typing import Any

import orjson

from activities.tools.tool import Datasource, ToolNotFound

# Short of what the model is shown, so that it is us who choose what is left out.
MAX_SHOWN_BYTES = 14 * 1024
NO_DOCUMENT = (
    "The datasource has no OpenAPI document that says what it offers. Requests go to paths under "
    "its base all the same."
)


def operations_shown(source: Datasource, wanted: str | None) -> dict[str, Any]:
    """All operations in short, or in full those of a path or with a name.

    Args:
        wanted: A path, the beginning of one, or an operation's id.

    Raises:
        ToolNotFound: There is none of that path or name.
    """
    if not source.operations:
        return {"operations": [], "truncated": False, "note": NO_DOCUMENT}
    chosen = [
        operation
        for operation in source.operations
        if wanted is None
        or operation["path"].startswith(wanted)
        or operation.get("operation") == wanted
    ]
    if not chosen:
        raise ToolNotFound(
            f"There is no operation {wanted!r} here. Call describe_schema without `table` to see "
            "all of them."
        )
    shown: list[Mapping[str, Any]] = []
    left = MAX_SHOWN_BYTES
    for operation in chosen:
        described = operation if wanted is not None else _short(operation)
        left -= len(orjson.dumps(described)) + 1
        if left < 0:
            break
        shown.append(described)
    return {"operations": shown, "truncated": len(shown) < len(chosen)}


def _short(operation: Mapping[str, Any]) -> dict[str, Any]:
    names = [
        parameter["name"] + ("*" if parameter["required"] else "")
        for parameter in operation["parameters"]
    ]
    return {
        "method": operation["method"],
        "path": operation["path"],
        **({"summary": operation["summary"]} if "summary" in operation else {}),
        **({"parameters": names} if names else {}),
    }
