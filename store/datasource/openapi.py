"""An OpenAPI document made into a list of operations that a model can read.

The document is a stranger's: bounded in size, depth and number, its references are followed within
it alone and not far, and of YAML only what JSON could say is read (no tags, no aliases).
"""

from collections.abc import Mapping
from typing import Any

import httpx2
import orjson
import yaml

from store.datasource.errors import InvalidConfig
from store.texts import clean, cut

MAX_DOCUMENT_BYTES = 2 * 1024 * 1024
MAX_STORED_BYTES = 256 * 1024
MAX_OPERATIONS = 400
MAX_PARAMETERS = 40
MAX_FIELDS = 40
MAX_SCHEMA_DEPTH = 3
MAX_TEXT_CHARS = 200
MAX_DEPTH = 64
METHODS = ("get", "head", "post", "put", "patch", "delete")
PLACES = ("path", "query", "header")


def operations_of(document: bytes, base: httpx2.URL) -> list[dict[str, Any]]:
    """Operations with paths as they are under `base`.

    Raises:
        InvalidConfig: It is no OpenAPI document.
    """
    root = _parsed(document)
    paths = root.get("paths") if isinstance(root, dict) else None
    if not isinstance(paths, dict) or not ("openapi" in root or "swagger" in root):
        raise InvalidConfig("config.openapi_url does not lead to an OpenAPI document.")
    prefix = _prefix(root, base)
    found: list[dict[str, Any]] = []
    left = MAX_STORED_BYTES
    for path, entry in paths.items():
        item = _resolved(root, entry)
        for method in METHODS:
            operation = item.get(method)
            if not isinstance(operation, dict):
                continue
            described = _operation(root, method, prefix + str(path), item, operation)
            left -= len(orjson.dumps(described)) + 1
            if left < 0 or len(found) >= MAX_OPERATIONS:
                return found
            found.append(described)
    return found


def _operation(
    root: Any, method: str, path: str, item: dict[str, Any], operation: dict[str, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {"method": method.upper(), "path": _text(path)}
    for name, key in (("operation", "operationId"), ("summary", "summary")):
        if isinstance(operation.get(key), str):
            described[name] = _text(operation[key])
    if "summary" not in described and isinstance(operation.get("description"), str):
        described["summary"] = _text(operation["description"])
    parameters = [*_list(item.get("parameters")), *_list(operation.get("parameters"))]
    by_name: dict[tuple[Any, Any], dict[str, Any]] = {}
    for parameter in (_resolved(root, one) for one in parameters[:MAX_PARAMETERS]):
        place, named = parameter.get("in"), parameter.get("name")
        if place in PLACES and isinstance(named, str):
            by_name[place, named] = _parameter(root, parameter)
        elif place == "body":  # Swagger 2
            described["body"] = _schema(root, parameter.get("schema"), MAX_SCHEMA_DEPTH)
    described["parameters"] = list(by_name.values())
    content = _resolved(root, operation.get("requestBody")).get("content")
    if isinstance(content, dict) and content:
        kind = "application/json" if "application/json" in content else next(iter(content))
        described["content_type"] = _text(str(kind))
        schema = _resolved(root, content[kind]).get("schema")
        described["body"] = _schema(root, schema, MAX_SCHEMA_DEPTH)
    return described


def _parameter(root: Any, parameter: dict[str, Any]) -> dict[str, Any]:
    schema = _resolved(root, parameter.get("schema", parameter))
    described: dict[str, Any] = {
        "name": _text(parameter["name"]),
        "in": parameter["in"],
        "required": parameter.get("required") is True or parameter["in"] == "path",
        "type": _text(str(schema.get("type", "string"))),
    }
    if isinstance(schema.get("enum"), list):
        described["enum"] = [_text(str(value)) for value in schema["enum"][:20]]
    if isinstance(parameter.get("description"), str):
        described["description"] = _text(parameter["description"])
    return described


def _schema(root: Any, schema: Any, depth: int) -> Any:
    """A schema as a sketch: ``{field: type}``, required ones with a star."""
    schema = _resolved(root, schema)
    properties = schema.get("properties")
    if isinstance(properties, dict) and depth > 0:
        required = _list(schema.get("required"))
        return {
            _text(str(name)) + ("*" if name in required else ""): _schema(root, value, depth - 1)
            for name, value in list(properties.items())[:MAX_FIELDS]
        }
    if schema.get("type") == "array" and depth > 0:
        return [_schema(root, schema.get("items"), depth - 1)]
    if isinstance(schema.get("enum"), list):
        return _text(" | ".join(str(value) for value in schema["enum"][:20]))
    return _text(str(schema.get("format") or schema.get("type") or "any"))


def _resolved(root: Any, value: Any) -> dict[str, Any]:
    """A mapping, after at most a few references within the document."""
    for _ in range(5):
        if not isinstance(value, dict):
            return {}
        reference = value.get("$ref")
        if not isinstance(reference, str):
            return value
        if not reference.startswith("#/"):
            return {}
        value = _pointed_at(root, reference)
    return {}


def _pointed_at(root: Any, reference: str) -> Any:
    value = root
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _prefix(root: dict[str, Any], base: httpx2.URL) -> str:
    """What stands between the base's path and the document's paths."""
    first = next(iter(_list(root.get("servers"))), None)
    url = first.get("url") if isinstance(first, Mapping) else root.get("basePath")
    if not isinstance(url, str) or "{" in url:
        return ""
    try:
        path = httpx2.URL("http://x/").join(url).path.rstrip("/")
    except (httpx2.InvalidURL, ValueError):
        return ""
    mine = base.path.rstrip("/")
    return path[len(mine) :] if path == mine or path.startswith(mine + "/") else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: str) -> str:
    return cut(clean(" ".join(value.split())), MAX_TEXT_CHARS)


def _parsed(document: bytes) -> Any:
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        pass
    try:
        return _yaml(document.decode())
    except (UnicodeDecodeError, yaml.YAMLError):
        raise InvalidConfig("The OpenAPI document is neither JSON nor YAML.") from None


def _yaml(text: str) -> Any:
    """What the first document says, with texts as texts; built from events, without recursion."""
    open_nodes: list[tuple[Any, str | None]] = []  # container, and the key that waits for a value
    result: Any = None
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        match event:
            case yaml.AliasEvent():
                raise InvalidConfig("The OpenAPI document uses YAML aliases; write them out.")
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(open_nodes) >= MAX_DEPTH:
                    raise InvalidConfig("The OpenAPI document is nested too deeply.")
                made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                open_nodes.append((made, None))
            case yaml.ScalarEvent():
                result = _put(open_nodes, _scalar(event))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                result = _put(open_nodes, open_nodes.pop()[0])
            case yaml.DocumentEndEvent():
                break
            case _:
                pass
    return result


def _put(open_nodes: list[tuple[Any, str | None]], value: Any) -> Any:
    """Put a finished value where it belongs."""
    if open_nodes:
        container, key = open_nodes[-1]
        if isinstance(container, list):
            container.append(value)
        elif key is None:
            open_nodes[-1] = (container, str(value))
        else:
            container[key] = value
            open_nodes[-1] = (container, None)
    return value


def _scalar(event: yaml.ScalarEvent) -> Any:
    plain = not event.style
    return {"true": True, "false": False}.get(event.value, event.value) if plain else event.value
