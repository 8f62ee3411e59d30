"""An answer of the Responses API put together from the numbered events of its stream.

Events carry a ``sequence_number``; a background response can be read again from any of them. So
an answer may begin in the middle, with the text that was kept and the number it covers. What the
last event says of the whole decides: a text with a hole never passes for an answer.
"""

from typing import Any

from typing_extensions import override

from activities import errors
from activities.answer import Answer, arguments_text, parse, text_of, trouble_of
from store.texts import clean

USAGE = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}
# Between two messages of one response.
GAP = "\n\n"
_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_STATUSES = frozenset({"response.created", "response.queued", "response.in_progress", "keepalive"})
_ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_REASONS = {"max_output_tokens": "length"}


class Response(Answer):
    """State of one streamed response.

    Args:
        generation: Id of the response that is continued.
        text: What is known of it.
        cursor: The last event that `text` covers.
        background: Whether the server keeps it, so that it can be continued.
    """

    def __init__(
        self,
        *,
        generation: str = "",
        text: str = "",
        cursor: int | None = None,
        background: bool = True,
    ) -> None:
        super().__init__()
        self.generation = generation
        self._background = background
        self._cursor = cursor
        self._parts = [text] if text else []
        self._length = len(text)
        self._gap = False

    @property
    @override
    def cursor(self) -> int | None:
        # Calls, half a character and the gap before a message's first word are kept nowhere.
        return None if self._calls or self._held or self._gap else self._cursor

    @override
    def take(self, payload: bytes) -> str:
        if payload.strip() == b"[DONE]":
            # Other kinds of servers end with it; here the last event has said all there is.
            return ""
        event = parse(payload)
        kind = event.get("type")
        if kind == "error" or (kind is None and event.get("error")):
            self.generation = ""
            raise trouble_of(event.get("error") or event)
        number = event.get("sequence_number")
        if isinstance(number, int) and not isinstance(number, bool):
            if self._cursor is not None and number <= self._cursor and kind not in _ENDS:
                # Read before; whatever ends an answer counts in any case.
                return ""
            self._cursor = number
        added = self._take_event(kind, event)
        if added:
            self._parts.append(added)
        return added

    def _take_event(self, kind: Any, event: dict[str, Any]) -> str:
        response = event if event.get("object") == "response" else event.get("response")
        response = response if isinstance(response, dict) else {}
        status = _ENDS.get(kind) if kind is not None else response.get("status")
        if status in _ENDS.values():
            return self._end_of(str(status), response)
        if kind in _STATUSES:
            if self._background and not self.generation:
                self.generation = text_of(response.get("id"))
            self._take_model(response.get("model"))
            return ""
        if kind in _TEXT:
            return self._said(event.get("delta"))
        self.progress += 1
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._take_item(event.get("output_index"), event.get("item"), kind)
        elif kind == "response.function_call_arguments.delta":
            call = self._call(_index(event))
            if call is not None:
                call.add(arguments_text(event.get("delta")))
        elif kind == "response.function_call_arguments.done":
            call = self._call(_index(event))
            if call is not None:
                call.identify(None, event.get("name"))
                call.replace(arguments_text(event.get("arguments")))
        return ""

    def _said(self, delta: Any) -> str:
        if not isinstance(delta, str) or not delta:
            return ""
        if self._gap:
            self._gap = False
            delta = GAP + delta
        return self._grown(delta)

    def _take_item(self, index: Any, item: Any, kind: str) -> None:
        if not isinstance(item, dict):
            return
        if item.get("type") == "message" and kind == "response.output_item.added":
            self._gap = self._length > 0
        if item.get("type") == "function_call":
            call = self._call(index if isinstance(index, int) else len(self._calls))
            if call is not None:
                call.identify(item.get("call_id") or item.get("id"), item.get("name"))
                if item.get("arguments"):
                    call.replace(arguments_text(item["arguments"]))

    def _end_of(self, status: str, response: dict[str, Any]) -> str:
        self.progress += 1
        self._take_model(response.get("model"))
        self._take_usage(response.get("usage"), USAGE)
        if status == "failed":
            self.generation = ""
            raise trouble_of(response.get("error") or "failed")
        if status == "cancelled":
            self.generation = ""
            raise errors.unavailable("The model's server cancelled the answer.")
        output = response.get("output")
        output = output if isinstance(output, list) else []
        for index, item in enumerate(output):
            self._take_item(index, item, "response.output_item.done")
        added = self._rest() + self._missing(output)
        details = response.get("incomplete_details")
        reason = text_of(details.get("reason")) if isinstance(details, dict) else ""
        if status == "incomplete":
            self.finish_reason = _REASONS.get(reason, reason or "length")
        else:
            self.finish_reason = "tool_calls" if self._calls else "stop"
        self.done = True
        return added

    def _missing(self, output: list[Any]) -> str:
        """What the whole has beyond the pieces.

        Raises:
            Trouble: The pieces are not its beginning: some were lost or made up.
        """
        texts = [_text(item) for item in output]
        whole = clean(GAP.join(text for text in texts if text))
        have = "".join(self._parts)
        if not whole or whole == have:
            return ""
        if not whole.startswith(have):
            self.generation = ""
            raise errors.unavailable("The model's answer came with holes.")
        return self._bounded(whole[len(have) :])


def _index(event: dict[str, Any]) -> int:
    index = event.get("output_index")
    return index if isinstance(index, int) else 0


def _text(item: Any) -> str:
    """Text of a message among a response's output."""
    if not isinstance(item, dict) or item.get("type") != "message":
        return ""
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    return "".join(
        text_of(part.get("text")) or text_of(part.get("refusal"))
        for part in parts
        if isinstance(part, dict)
    )
