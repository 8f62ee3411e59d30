"""The tool calls of an answer as they are stored: named, and refused where they cannot run."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from activities.answer import Answer
from activities.tools.arguments import parse_arguments, parse_object
from activities.tools.registry import InvalidArguments, Toolbox
from activities.tools.tool import Datasources, Tool, ToolError
from store.limits import MAX_JSON_DEPTH
from store.questions import NewCall
from store.texts import clean, clean_json, cut
from workflows.types import Effect

MAX_TOOL_NAME_CHARS = 255
MAX_CALL_ID_CHARS = 128
CUT_OFF = "The answer reached its length limit, and this call was cut off. Send it again, shorter."


@dataclass(frozen=True, slots=True)
class AnsweredCalls:
    """Calls of one answer.

    Attributes:
        broken: Whether the arguments of any could not be read.
    """

    calls: Sequence[NewCall]
    broken: bool = False


async def calls_of(
    answer: Answer, toolbox: Toolbox, message_id: UUID, most: int, datasources: Datasources
) -> AnsweredCalls:
    """The calls of an answer; what cannot run is refused at once, with words for the model.

    Args:
        toolbox: What the model was offered.
        most: How many calls one answer may make.
        datasources: The project's, which may tell what a call does.
    """
    calls: list[NewCall] = []
    broken = False
    seen: set[str] = set()
    cut_short = answer.truncated or answer.finish_reason == "length"
    for place, parts in enumerate(answer.calls):
        arguments = clean("".join(parts.arguments))
        call_id = clean(parts.call_id)[:MAX_CALL_ID_CHARS] or f"call_{message_id.hex}_{place}"
        if call_id in seen:
            call_id = f"{call_id[:100]}_{place}"
        seen.add(call_id)
        name = clean(parts.name)[:MAX_TOOL_NAME_CHARS]
        tool = toolbox.get(name)
        refused = None
        try:
            parse_object(cut(name, 80) or "It", arguments)
        except InvalidArguments as error:
            broken = True
            refused = (InvalidArguments.code, CUT_OFF if cut_short else str(error))
        if refused is None and tool is None:
            known = ", ".join(sorted(spec["function"]["name"] for spec in toolbox.specs()))
            refused = (
                "unknown_tool",
                f"There is no tool {cut(name, 80)!r}. Known: {cut(known, 1_000)}.",
            )
        elif refused is None and place >= most:
            refused = ("refused", f"At most {most} tool calls in one step; ask for fewer.")
        calls.append(
            NewCall(
                call_id=call_id,
                name=name,
                arguments=arguments,
                parameters=_parameters(arguments),
                queue=tool.queue if tool else "",
                effect=await _effect(tool, arguments, datasources) if tool else Effect.READ,
                refused=refused,
                policy=tool.policy if tool else None,
                unfit=_unfit(tool, arguments) if tool and not refused else None,
                schema=tool.parameters() if tool and not refused else None,
            )
        )
    return AnsweredCalls(calls, broken)


def _unfit(tool: Tool[Any], arguments: str) -> str | None:
    """What is wrong with a call's arguments: people are not asked about a call that cannot run."""
    try:
        parse_arguments(tool, arguments)
    except InvalidArguments as error:
        return error.message
    return None


async def _effect(tool: Tool[Any], arguments: str, datasources: Datasources) -> Effect:
    """What a call may do; the strictest its tool has where that cannot be told."""
    try:
        return await tool.effect_of(parse_arguments(tool, arguments), datasources)
    except ToolError:
        return tool.effect


def _parameters(arguments: str) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        parsed = orjson.loads(arguments)
        if not _deeper_than(MAX_JSON_DEPTH, parsed):
            return clean_json(parsed)
    return arguments


def _deeper_than(depth: int, value: Any) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_deeper_than(depth - 1, item) for item in inner)
