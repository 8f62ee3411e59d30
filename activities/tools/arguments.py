"""A model's arguments: a text that may be anything, made into a tool's arguments or refused."""

import json
from typing import Any

from pydantic import ValidationError

from activities.tools.tool import Arguments, Tool, ToolError
from store.texts import clean, cut

MAX_ARGUMENT_BYTES = 256 * 1024
MAX_DEPTH = 32
_SHOWN_PROBLEMS = 5


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's schema; the text tells the model what to change."""

    code = "invalid_arguments"


def parse_arguments(tool: Tool[Any], raw_json_text: str) -> Arguments:
    """Arguments of `tool` from the text the model sent; nothing is guessed or converted.

    Raises:
        InvalidArguments: Not a JSON object, or not one that fits.
    """
    value = parse_object(tool.name, raw_json_text)
    try:
        arguments: Arguments = tool.parse(value)
    except ValidationError as error:
        raise InvalidArguments(_problems(tool, error)) from error
    return arguments


def parse_object(tool_name: str, text: str) -> dict[str, Any]:
    """The JSON object in a call's arguments, whatever tool it is for.

    Raises:
        InvalidArguments: There is none.
    """
    if len(text) > MAX_ARGUMENT_BYTES or len(text.encode(errors="replace")) > MAX_ARGUMENT_BYTES:
        raise InvalidArguments(f"Arguments have at most {MAX_ARGUMENT_BYTES // 1024} KiB.")
    if not text.strip():
        raise InvalidArguments(f"{tool_name} was called without arguments: send a JSON object.")
    try:
        value = json.loads(text, parse_constant=_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InvalidArguments(
            f"The arguments are not JSON: {error.msg} at character {error.pos + 1}. "
            "Send the whole object again."
        ) from error
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidArguments(
            f"The arguments are not usable: {cut(clean(reason), 200)}."
        ) from error
    if not isinstance(value, dict):
        names = {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
        raise InvalidArguments(
            f"The arguments must be a JSON object, not {names.get(type(value), 'a number')}."
        )
    _check_texts(value)
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of one text could take different ones of two equal keys.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _check_texts(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            if clean(item) != item:
                raise InvalidArguments(
                    "A text holds a NUL character or half of a surrogate pair. Leave it out."
                )
        elif isinstance(item, (dict, list)):
            if depth > MAX_DEPTH:
                raise InvalidArguments(f"Arguments are nested at most {MAX_DEPTH} deep.")
            children = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            waiting.extend((child, depth + 1) for child in children)


def _problems(tool: Tool[Any], error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False, include_context=False)
    parts = []
    for problem in found[:_SHOWN_PROBLEMS]:
        place = cut(clean(".".join(map(str, problem["loc"]))), 80) or "arguments"
        match problem["type"]:
            case "extra_forbidden":
                parts.append(f"{place}: there is no such field")
            case "missing":
                parts.append(f"{place}: is missing")
            case _:
                parts.append(f"{place}: {problem['msg']}")
    more = len(found) - _SHOWN_PROBLEMS
    if more > 0:
        parts.append(f"and {more} more")
    known = ", ".join(tool.arguments.model_fields) or "none"
    return f"The arguments do not fit {tool.name}. {'; '.join(parts)}. Its fields are: {known}."
