"""A model's answer as it is put together from a stream: text, tool calls, usage, and why it ended.

What every kind of provider needs; `completion` and `response` read the payloads of theirs.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from activities import errors
from activities.errors import Trouble
from store.texts import clean

# Longest answer kept, in code points; more is cut and says so.
MAX_ANSWER_CHARS = 256 * 1024
# Longest arguments of one call, and most calls looked at; more is cut, and does not parse then.
MAX_ARGUMENTS_CHARS = 256 * 1024
MAX_CALLS = 256
MAX_NAME_CHARS = 255


@dataclass(slots=True)
class CallParts:
    """A tool call as its fragments come in."""

    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0

    def identify(self, call_id: Any, name: Any) -> None:
        """Take in an id and a name; the first of each counts."""
        self.call_id = self.call_id or text_of(call_id)
        self.name = self.name or text_of(name)[:MAX_NAME_CHARS]

    def add(self, text: str) -> None:
        """Append to the arguments, as far as there is room."""
        room = MAX_ARGUMENTS_CHARS - self.size
        self.arguments.append(text[:room])
        self.size += min(len(text), room)

    def replace(self, text: str) -> None:
        """Take the whole of the arguments in the place of what came in pieces."""
        self.arguments, self.size = [], 0
        self.add(text)


class Answer(ABC):
    """State of one streamed answer.

    Attributes:
        finish_reason: Empty until the server has said why it ended.
        truncated: The answer passed `MAX_ANSWER_CHARS`.
        usage: Token counts, where the server sent them.
        progress: Grows with everything that brings the answer forward, thinking aloud too; a
            comment, an empty delta or a repeated status does not.
        generation: Under which name the server can go on with this answer; empty where it cannot.
    """

    def __init__(self) -> None:
        self.finish_reason = ""
        self.truncated = False
        self.done = False
        self.usage: dict[str, int] = {}
        self.model = ""
        self.progress = 0
        self.generation = ""
        self._calls: dict[int, CallParts] = {}
        self._length = 0
        self._held = ""

    @abstractmethod
    def take(self, payload: bytes) -> str:
        """Take in one ``data`` payload.

        Returns:
            The text it adds to the answer; may be empty.

        Raises:
            Trouble: The payload is an error, or nothing this kind of server sends.
        """

    @property
    def calls(self) -> list[CallParts]:
        """Tool calls in the order of their indexes."""
        return [self._calls[index] for index in sorted(self._calls)]

    @property
    def over(self) -> bool:
        """Whether nothing more of the stream matters."""
        return self.done or self.truncated

    @property
    def cursor(self) -> int | None:
        """Number of the last event that the text so far covers; None: only the beginning is safe.

        From there the server can go on, given `generation`.
        """
        return None

    def end(self) -> None:
        """Hold the stream's end against what was received.

        Raises:
            Trouble: The stream was cut before the server said why it ended.
        """
        if not self.finish_reason and not self.truncated:
            raise errors.unavailable("The model's answer was cut off.")

    # --- for the kinds --------------------------------------------------------------------------

    def _grown(self, content: str) -> str:
        """Text as it may be shown: whole characters, within the limit."""
        if not content:
            return ""
        self.progress += 1
        return self._bounded(self._whole(content))

    def _rest(self) -> str:
        """What was held back, once nothing can follow it."""
        held, self._held = self._held, ""
        return self._bounded(clean(held))

    def _whole(self, content: str) -> str:
        """Join surrogate pairs that were cut over two chunks; hold a high one back."""
        content = self._held + content
        self._held = ""
        if "\ud800" <= content[-1] <= "\udbff":
            content, self._held = content[:-1], content[-1]
        if not content.isascii():
            joined = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            content = joined
        return clean(content)

    def _bounded(self, content: str) -> str:
        room = MAX_ANSWER_CHARS - self._length
        if len(content) > room:
            self.truncated = True
            content = content[:room]
        self._length += len(content)
        return content

    def _call(self, index: int) -> CallParts | None:
        """The call at an index, begun if there is room for another."""
        if index not in self._calls and len(self._calls) >= MAX_CALLS:
            return None
        return self._calls.setdefault(index, CallParts())

    def _take_usage(self, usage: Any, names: Mapping[str, str]) -> None:
        """Keep the counts of `usage` that are counts; `names` maps the server's to ours."""
        if isinstance(usage, dict):
            for theirs, ours in names.items():
                value = usage.get(theirs)
                if isinstance(value, int) and 0 <= value < 2**31:
                    self.usage[ours] = value

    def _take_model(self, model: Any) -> None:
        if isinstance(model, str):
            self.model = text_of(model)[:MAX_NAME_CHARS]


def text_of(value: Any) -> str:
    """A string as it may be stored; empty for anything else."""
    return clean(value) if isinstance(value, str) else ""


def arguments_text(arguments: Any) -> str:
    """A call's arguments; some servers send the object itself instead of its text."""
    if isinstance(arguments, dict):
        return json.dumps(arguments)
    return arguments if isinstance(arguments, str) else ""


def parse(payload: bytes) -> dict[str, Any]:
    """The object in a payload.

    Raises:
        Trouble: There is none, or it is an error.
    """
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            # Lone surrogates are legal in JSON text, and orjson refuses them.
            value = json.loads(payload)
        except (ValueError, RecursionError):
            raise errors.unavailable("The model's server sent something unreadable.") from None
    if not isinstance(value, dict):
        raise errors.unavailable("The model's server sent something unreadable.")
    return value


def trouble_of(error: Any) -> Trouble:
    """What an error object inside a stream means."""
    if isinstance(error, dict):
        code = error.get("code") or error.get("type") or ""
        return errors.of_stream_error(str(code), str(error.get("message") or ""))
    return errors.of_stream_error("", str(error))
