"""A chat completion put together from the chunks of its stream.

Tolerates what servers really send: empty ``choices``, a missing ``[DONE]``, ``null`` fields,
surrogate pairs cut over two chunks, call fragments without an index. A stream that ends without a
``finish_reason`` was cut, and nothing of it may pass for an answer.
"""

import json
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

    def add(self, fragment: dict[str, Any]) -> None:
        """Take in one fragment."""
        self.call_id = self.call_id or _text(fragment.get("id"))
        function = fragment.get("function")
        if not isinstance(function, dict):
            return
        name = _text(function.get("name"))
        if name and not self.name:
            self.name = name[:MAX_NAME_CHARS]
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else ""
        if isinstance(arguments, dict):
            # Some servers send the object itself instead of its text.
            text = json.dumps(arguments)
        room = MAX_ARGUMENTS_CHARS - self.size
        self.arguments.append(text[:room])
        self.size += min(len(text), room)


def _text(value: Any) -> str:
    return clean(value) if isinstance(value, str) else ""


class Completion:
    """State of one streamed completion.

    Attributes:
        finish_reason: Empty until the server has said why it ended.
        truncated: The answer passed `MAX_ANSWER_CHARS`.
        usage: Token counts, where the server sent them.
    """

    def __init__(self) -> None:
        self.finish_reason = ""
        self.truncated = False
        self.done = False
        self.usage: dict[str, int] = {}
        self.model = ""
        self._calls: dict[int, CallParts] = {}
        self._length = 0
        self._held = ""

    def take(self, payload: bytes) -> str:
        """Take in one ``data`` payload.

        Returns:
            The text it adds to the answer; may be empty.

        Raises:
            Trouble: The payload is an error, or no chunk at all.
        """
        if payload.strip() == b"[DONE]":
            self.done = True
            return ""
        chunk = _parse(payload)
        if isinstance(chunk.get("model"), str):
            self.model = _text(chunk["model"])[:MAX_NAME_CHARS]
        self._take_usage(chunk.get("usage"))
        added = ""
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            # n is 1; whatever else a server adds is not ours.
            if isinstance(choice, dict) and choice.get("index", 0) in (0, None):
                added += self._take_choice(choice)
        return added

    def _take_choice(self, choice: dict[str, Any]) -> str:
        delta = choice.get("delta") or choice.get("message") or {}
        reason = choice.get("finish_reason")
        added = ""
        if isinstance(delta, dict):
            content = delta.get("content")
            if isinstance(content, str) and content:
                added = self._bounded(self._whole(content))
            fragments = delta.get("tool_calls")
            for fragment in fragments if isinstance(fragments, list) else ():
                if isinstance(fragment, dict):
                    self._take_call(fragment)
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
            added += self._bounded(clean(self._held))
            self._held = ""
        return added

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

    def _take_call(self, fragment: dict[str, Any]) -> None:
        index = fragment.get("index")
        if not isinstance(index, int):
            # Without an index a new id begins a new call, and anything else continues the last.
            last = max(self._calls, default=-1)
            call_id = _text(fragment.get("id"))
            begins = last < 0 or (call_id and call_id != self._calls[last].call_id)
            index = last + 1 if begins else last
        if index in self._calls or len(self._calls) < MAX_CALLS:
            self._calls.setdefault(index, CallParts()).add(fragment)

    def _take_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                value = usage.get(name)
                if isinstance(value, int) and 0 <= value < 2**31:
                    self.usage[name] = value

    @property
    def calls(self) -> list[CallParts]:
        """Tool calls in the order of their indexes."""
        return [self._calls[index] for index in sorted(self._calls)]

    @property
    def over(self) -> bool:
        """Whether nothing more of the stream matters."""
        return self.done or self.truncated

    def end(self) -> None:
        """Hold the stream's end against what was received.

        Raises:
            Trouble: The stream was cut before the server said why it ended.
        """
        if not self.finish_reason and not self.truncated:
            raise errors.unavailable("The model's answer was cut off.")


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            # Lone surrogates are legal in JSON text, and orjson refuses them.
            chunk = json.loads(payload)
        except (ValueError, RecursionError):
            raise errors.unavailable("The model's server sent something unreadable.") from None
    if not isinstance(chunk, dict):
        raise errors.unavailable("The model's server sent something unreadable.")
    error = chunk.get("error")
    if error:
        raise _stream_error(error)
    return chunk


def _stream_error(error: Any) -> Trouble:
    if isinstance(error, dict):
        code = error.get("code") or error.get("type") or ""
        return errors.of_stream_error(str(code), str(error.get("message") or ""))
    return errors.of_stream_error("", str(error))
