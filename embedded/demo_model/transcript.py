"""What the messages of a request say: the last question and what the tools answered to it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNREADABLE = {"error": {"code": "unreadable", "message": "the tool's answer was not readable JSON"}}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One tool call and its result."""

    name: str
    arguments: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The error it ended with, if it did."""
        error = self.result.get("error")
        if isinstance(error, str):
            return {"message": error}
        return error if isinstance(error, Mapping) else None


@dataclass(frozen=True, slots=True)
class Transcript:
    """The current question; what came before it is another turn's business."""

    question: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    def of(self, name: str) -> list[Exchange]:
        """The exchanges with one tool, oldest first."""
        return [exchange for exchange in self.exchanges if exchange.name == name]


def text_of(content: Any) -> str:
    """A message's text, whether it is a string or a list of parts."""
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = (part.get("text") for part in parts if isinstance(part, Mapping))
    text = "".join(text for text in texts if isinstance(text, str))
    return text.encode("utf-8", "replace").decode()  # half an emoji could not be sent back


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def read(messages: Sequence[Mapping[str, Any]]) -> Transcript:
    """Read the messages from the last one of a user on."""
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=None)
    if last is None:
        return Transcript()
    results = {
        message.get("tool_call_id"): text_of(message.get("content"))
        for message in messages[last:]
        if message.get("role") == "tool"
    }
    exchanges = []
    for message in messages[last:]:
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            if call.get("id") in results:
                arguments = _object(str(function.get("arguments") or "{}")) or {}
                result = _object(results[call["id"]]) or UNREADABLE
                exchanges.append(Exchange(str(function.get("name")), arguments, result))
    return Transcript(text_of(messages[last].get("content")).strip(), exchanges)
