"""A chat completion put together from the chunks of its stream.

Tolerates what servers really send: empty ``choices``, a missing ``[DONE]``, ``null`` fields,
surrogate pairs cut over two chunks, call fragments without an index. A stream that ends without a
``finish_reason`` was cut, and nothing of it may pass for an answer.
"""

from typing import Any

from typing_extensions import override

from activities import errors
from activities.answer import Answer, arguments_text, parse, text_of, trouble_of

USAGE = {name: name for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
CALL_REASONS = frozenset({"tool_calls", "function_call"})


class Completion(Answer):
    """State of one streamed completion."""

    @override
    def take(self, payload: bytes) -> str:
        if payload.strip() == b"[DONE]":
            self.done = True
            return ""
        chunk = parse(payload)
        if chunk.get("error"):
            raise trouble_of(chunk["error"])
        self._take_model(chunk.get("model"))
        self._take_usage(chunk.get("usage"), USAGE)
        added = ""
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            # n is 1; whatever else a server adds is not ours.
            if isinstance(choice, dict) and choice.get("index", 0) in (0, None):
                added += self._take_choice(choice)
        return added

    @override
    def end(self) -> None:
        super().end()
        if self.finish_reason in CALL_REASONS and not self._calls:
            raise errors.unavailable("The model announced a tool call and sent none.")

    def _take_choice(self, choice: dict[str, Any]) -> str:
        delta = choice.get("delta") or choice.get("message") or {}
        reason = choice.get("finish_reason")
        added = ""
        if isinstance(delta, dict):
            for name, value in delta.items():
                if not isinstance(value, str) or name == "role":
                    continue
                if name in ("content", "refusal"):
                    # A model that declines says so in a field of its own.
                    added += self._grown(value)
                elif value:
                    self.progress += 1
            fragments = delta.get("tool_calls")
            for fragment in fragments if isinstance(fragments, list) else ():
                if isinstance(fragment, dict):
                    self._take_call(fragment)
        if isinstance(reason, str) and reason:
            self.progress += 1
            self.finish_reason = reason
            added += self._rest()
        return added

    def _take_call(self, fragment: dict[str, Any]) -> None:
        index = fragment.get("index")
        if not isinstance(index, int):
            # Without an index a new id begins a new call, and anything else continues the last.
            last = max(self._calls, default=-1)
            call_id = text_of(fragment.get("id"))
            begins = last < 0 or (call_id and call_id != self._calls[last].call_id)
            index = last + 1 if begins else last
        call, function = self._call(index), fragment.get("function")
        function = function if isinstance(function, dict) else {}
        arguments = arguments_text(function.get("arguments"))
        if arguments or function.get("name"):
            self.progress += 1
        if call is not None:
            call.identify(fragment.get("id"), function.get("name"))
            call.add(arguments)
