"""Argument schemas that a stranger has written: bounded, shown to the model, held against calls.

Validation cannot be made slow or to fetch anything: references lead within the schema, regular
expressions are left to the server, and the work is counted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 24
MAX_WORK = 20_000
MAX_PROBLEMS = 5

# A backtracking expression, a list compared with itself, or a schema evaluated twice takes time
# that grows faster than what is counted; the server checks its arguments itself.
_LEFT_OUT = (
    "pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties",
    "format", "$dynamicRef",
)  # fmt: skip
# Model APIs refuse these at the top of a tool's parameters.
_NOT_AT_THE_TOP = frozenset(
    {"anyOf", "oneOf", "allOf", "not", "enum", "const", "if", "then", "else"}
)


class UnusableSchema(Exception):
    """The schema cannot be taken; the text says why."""


class TooMuchWork(Exception):
    """To hold arguments against the schema takes too long."""


def check(schema: Any) -> None:
    """Hold a schema against our bounds.

    Raises:
        UnusableSchema: It is too large, too deep, no schema, or refers to something outside.
    """
    if not isinstance(schema, dict):
        raise UnusableSchema("its schema is no object")
    if schema.get("type", "object") != "object":
        raise UnusableSchema("its arguments are no object")
    _check_depth(schema)
    try:
        size = len(orjson.dumps(schema))
    except (orjson.JSONEncodeError, TypeError):
        raise UnusableSchema("its schema is no JSON") from None
    if size > MAX_SCHEMA_BYTES:
        raise UnusableSchema(f"its schema is larger than {MAX_SCHEMA_BYTES // 1024} KiB")
    try:
        Draft202012Validator.check_schema(_without_expressions(schema))
    except (SchemaError, RecursionError, Unresolvable):
        raise UnusableSchema("its schema is no JSON Schema") from None


def _check_depth(schema: Mapping[str, Any]) -> None:
    waiting: list[tuple[Any, int]] = [(schema, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_SCHEMA_DEPTH:
            raise UnusableSchema(f"its schema is nested deeper than {MAX_SCHEMA_DEPTH}")
        if isinstance(item, Mapping):
            for name in ("$ref", "$dynamicRef"):
                target = item.get(name, "#")
                if isinstance(target, str) and not target.startswith("#"):
                    raise UnusableSchema("its schema refers to another document")
            waiting.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            waiting.extend((child, depth + 1) for child in item)


def _without_expressions(value: Any) -> Any:
    """The schema as it is checked: to check an expression is to compile it."""
    if isinstance(value, dict):
        return {
            key: _without_expressions(item)
            for key, item in value.items()
            if not (key == "pattern" and isinstance(item, str))
        }
    return [_without_expressions(item) for item in value] if isinstance(value, list) else value


def for_model(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as model APIs take it."""
    kept = {
        key: _with_items(value)
        for key, value in schema.items()
        if (key not in _NOT_AT_THE_TOP and not key.startswith("$")) or key == "$defs"
    }
    return {"type": "object", "properties": {}, **kept}


def _with_items(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _with_items(item) for key, item in value.items()}
        if kept.get("type") == "array" and "items" not in kept:
            kept["items"] = {}
        return kept
    return [_with_items(item) for item in value] if isinstance(value, list) else value


def problems(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """What is wrong with a call's arguments, in words for the model; nothing if they fit.

    Raises:
        TooMuchWork: It would take too long to say.
    """
    work = 0

    def counted(check: Any) -> Any:
        def run(validator: Any, value: Any, instance: Any, whole: Any) -> Iterator[ValidationError]:
            nonlocal work
            work += len(value) if isinstance(value, (list, dict)) else 1
            if work > MAX_WORK:
                raise TooMuchWork
            yield from check(validator, value, instance, whole) or ()

        return run

    known: dict[str, Any] = {
        keyword: counted(check)
        for keyword, check in Draft202012Validator.VALIDATORS.items()
        if keyword not in _LEFT_OUT
    }
    if "patternProperties" in orjson.dumps(schema).decode():
        # What is additional depends on expressions.
        known.pop("additionalProperties", None)
    left_out = dict.fromkeys((*_LEFT_OUT, "additionalProperties"), _nothing)
    kind = validators.extend(Draft202012Validator, {**left_out, **known})  # type: ignore[no-untyped-call]
    found = []
    try:
        for error in kind(schema, registry=Registry()).iter_errors(arguments):
            place = ".".join(str(part) for part in error.absolute_path)
            found.append(f"{place or 'arguments'}: {_words(error)}")
            if len(found) == MAX_PROBLEMS:
                break
    except (RecursionError, Unresolvable):
        raise TooMuchWork from None
    return found


def _nothing(*_: Any) -> Iterator[ValidationError]:
    return iter(())


def _words(error: ValidationError) -> str:
    # The library's own sentence repeats the value, which may be as long as arguments may be.
    match error.validator:
        case "required" | "additionalProperties" | "type" if len(error.message) <= 200:
            return str(error.message)
        case "enum" | "const":
            return f"is not one of {orjson.dumps(error.validator_value).decode()[:200]}"
        case _:
            return f"does not fit {error.validator} {str(error.validator_value)[:100]}"
