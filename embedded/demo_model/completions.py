"""The objects of the chat completions protocol: requests checked, answers as whole or as chunks."""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedded.demo_model.script import Action

MODEL = "everturn-demo"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ARGUMENT_CHARS = 6  # per piece of a tool call, about a token of JSON
CHARS_PER_TOKEN = 4  # usage is an estimate: a script has no tokens


class BadRequest(Exception):
    """What OpenAI would refuse with 400; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def error_body(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI words it."""
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": param,
            "code": code,
        }
    }


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request; fields that steer sampling mean nothing to a script and are ignored."""

    model: str
    messages: list[Mapping[str, Any]]
    tools: list[str]
    stream: bool
    include_usage: bool
    prompt_tokens: int

    @classmethod
    def parse(cls, body: bytes) -> "Request":
        """Check a request's body.

        Raises:
            BadRequest: It is not what the protocol asks for.
        """
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest("We could not parse the JSON body of your request.") from error
        if not isinstance(value, dict):
            raise BadRequest("The body of the request must be a JSON object.")
        if not isinstance(value.get("model"), str) or not value["model"]:
            raise BadRequest("you must provide a model parameter", "model")
        if value.get("n") not in (None, 1):
            raise BadRequest("This model gives one choice.", "n")
        stream = value.get("stream") or False
        options = value.get("stream_options") or {}
        if not isinstance(stream, bool) or not isinstance(options, dict):
            raise BadRequest("'stream' is a boolean, 'stream_options' an object.", "stream")
        if options and not stream:
            raise BadRequest("'stream_options' is only allowed with 'stream'.", "stream_options")
        messages = _messages(value.get("messages"))
        return cls(
            model=value["model"],
            messages=messages,
            tools=[] if value.get("tool_choice") == "none" else _tools(value.get("tools")),
            stream=stream,
            include_usage=bool(options.get("include_usage")),
            prompt_tokens=len(body) // CHARS_PER_TOKEN + 1,
        )


def _messages(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value:
        raise BadRequest("'messages' must be an array of at least one message.", "messages")
    open_calls: set[str] = set()
    for position, message in enumerate(value):
        where = f"messages.[{position}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRequest(f"A message has a role of {', '.join(ROLES)}.", f"{where}.role")
        if not isinstance(message.get("content"), str | list | None):
            raise BadRequest("Content is a string or an array of parts.", f"{where}.content")
        if message["role"] == "tool":
            if str(message.get("tool_call_id")) not in open_calls:
                raise BadRequest(
                    "messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'.",
                    f"{where}.role",
                )
            open_calls.discard(str(message["tool_call_id"]))
            continue
        _require_answered(open_calls, where)
        open_calls = _call_ids(message.get("tool_calls"), where)
    _require_answered(open_calls, "messages")
    return value


def _require_answered(open_calls: set[str], where: str) -> None:
    if open_calls:
        raise BadRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            f"to each 'tool_call_id'. Missing: {', '.join(sorted(open_calls))}",
            where,
        )


def _call_ids(calls: Any, where: str) -> set[str]:
    ids = set()
    if not isinstance(calls, list | None):
        raise BadRequest("'tool_calls' is an array.", f"{where}.tool_calls")
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(call.get("id"), str):
            raise BadRequest("A tool call has an id and a function.", f"{where}.tool_calls")
        ids.add(call["id"])
    return ids


def _tools(value: Any) -> list[str]:
    if value is None:
        return []
    names = []
    for position, tool in enumerate(value if isinstance(value, list) else [None]):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str):
            raise BadRequest("A tool is a function with a name.", f"tools.[{position}].function")
        names.append(name)
    return names


def pieces(text: str) -> list[str]:
    """Text in word-like tokens that join to the same text."""
    return re.findall(r"\s*\S{1,12}|\s+$", text)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer to one request."""

    request: Request
    action: Action
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def finish_reason(self) -> str:
        """``tool_calls`` or ``stop``."""
        return "tool_calls" if self.action.calls else "stop"

    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls with ids of their own."""
        return [
            {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            }
            for call in self.action.calls
        ]

    def usage(self) -> dict[str, int]:
        """Estimated from lengths."""
        said = self.action.text + "".join(json.dumps(dict(c.arguments)) for c in self.action.calls)
        completion = len(said) // CHARS_PER_TOKEN + 1
        prompt = self.request.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def whole(self) -> dict[str, Any]:
        """The answer to a request without ``stream``."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.action.text or None,
            "refusal": None,
        }
        if self.action.calls:
            message["tool_calls"] = self.tool_calls()
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish_reason,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The same as a stream: role, text, calls in pieces, reason, usage if asked for."""
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(self.action.text):
            yield self._chunk({"content": piece})
        for index, call in enumerate(self.tool_calls()):
            function = call["function"]
            opening = {**call, "index": index, "function": {**function, "arguments": ""}}
            yield self._chunk({"tool_calls": [opening]})
            arguments = function["arguments"]
            for start in range(0, len(arguments), ARGUMENT_CHARS):
                part = {"arguments": arguments[start : start + ARGUMENT_CHARS]}
                yield self._chunk({"tool_calls": [{"index": index, "function": part}]})
        yield self._chunk({}, self.finish_reason)
        if self.request.include_usage:
            head = self._head("chat.completion.chunk")
            yield {**head, "choices": [], "usage": self.usage()}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.request.model,
            "system_fingerprint": "fp_scripted",
        }

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self.request.include_usage else chunk
