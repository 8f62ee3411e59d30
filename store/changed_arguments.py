"""Arguments that people change before a call runs: held against the tool's schema, strictly."""

import math
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from store.errors import Invalid
from store.limits import MAX_JSON_DEPTH
from store.texts import clean, cut
from store.wire import encode

MAX_ARGUMENT_BYTES = 256 * 1024
CODE = "invalid_arguments"
_SHOWN_PROBLEMS = 5

# Other people's servers describe these tools: an expression of theirs could keep us busy for hours.
FOREIGN_PREFIX = "mcp__"
# JSON knows one kind of number; the tools' own models do not take 1.0 for an integer.
_Strict = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)
_WithoutPatterns = extend(  # type: ignore[no-untyped-call]
    _Strict, {"pattern": None, "patternProperties": None}
)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same text: `True` is not 1."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        other, option=orjson.OPT_SORT_KEYS
    )


def check_arguments(tool: str, schema: dict[str, Any] | None, value: dict[str, Any]) -> str:
    """JSON text of arguments that fit.

    What no schema can say, the tool's own model says when the call runs.

    Raises:
        Invalid: They do not fit, code ``invalid_arguments``; ``errors`` names what is wrong where.
    """
    errors = _unusable(value)
    if not errors and schema is not None:
        errors = _misfits(tool, schema, value)
    if errors:
        shown = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:_SHOWN_PROBLEMS])
        raise Invalid(f"The arguments do not fit {tool}. {shown}.", code=CODE, errors=errors[:20])
    return encode(value).decode()


def _misfits(tool: str, schema: dict[str, Any], value: Any) -> list[dict[str, str]]:
    kind = _WithoutPatterns if tool.startswith(FOREIGN_PREFIX) else _Strict
    try:
        # An empty registry: a schema that points elsewhere has nothing fetched for it.
        found = list(kind(schema, registry=Registry()).iter_errors(value))
    except (Unresolvable, RecursionError):
        return [{"field": "arguments", "message": "the tool's own schema cannot be followed"}]
    return [
        {
            "field": ".".join(["arguments", *map(str, each.absolute_path)]),
            "message": cut(clean(each.message), 200),
        }
        for each in sorted(found, key=lambda each: list(map(str, each.absolute_path)))
    ]


def _unusable(value: Any) -> list[dict[str, str]]:
    """What makes a JSON value unfit for any tool, whatever its schema."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        problem = None
        if isinstance(item, str) and clean(item) != item:
            problem = "a text holds a NUL character or half of a surrogate pair"
        elif isinstance(item, float) and not math.isfinite(item):
            problem = "a number is not finite"
        elif isinstance(item, int) and not -(2**63) <= item < 2**63:
            problem = "a whole number has more than 64 bits"
        elif isinstance(item, (dict, list)):
            if depth > MAX_JSON_DEPTH:
                problem = f"nested more than {MAX_JSON_DEPTH} deep"
            else:
                children = [*item, *item.values()] if isinstance(item, dict) else item
                waiting.extend((child, depth + 1) for child in children)
        if problem:
            return [{"field": "arguments", "message": problem}]
    if len(encode(value)) > MAX_ARGUMENT_BYTES:
        return [{"field": "arguments", "message": f"at most {MAX_ARGUMENT_BYTES // 1024} KiB"}]
    return []
