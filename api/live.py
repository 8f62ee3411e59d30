"""The live side of a room as this edge has heard it: open turns and the texts that stream.

A fold of deltas and durable events under the rule every client follows (docs/protocol.md §4). What
it holds is exactly what its sockets have been sent, so a snapshot of it and the frames that come
after fit together without a seam.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

OPEN = frozenset({"queued", "running", "awaiting_approval"})
# Late deltas of a message that has ended are dropped; so many ended ones are remembered.
REMEMBERED_ENDINGS = 512


@dataclass(slots=True)
class LiveText:
    """A text that streams; ids are texts, as they are on the wire."""

    message_id: str
    conversation_id: str
    turn_id: str
    epoch: int = 0
    parts: list[str] = field(default_factory=list)
    length: int = 0
    held: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it so far."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""

    def set(self, epoch: int, text: str) -> None:
        """Replace epoch and text."""
        self.epoch, self.parts, self.length = epoch, [text], len(text)

    def apply(self, delta: dict[str, Any]) -> bool | None:
        """Fold one delta.

        Returns:
            True if it was applied, False if it is stale, None if text before it is missing.
        """
        epoch, offset, content = delta["epoch"], delta["offset"], delta["content"]
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            if offset > 0:
                return None
            self.set(epoch, "")
        if offset > self.length:
            return None
        if offset < self.length:
            self.set(epoch, self.text[:offset])
        self.parts.append(content)
        self.length += len(content)
        return True


@dataclass(slots=True)
class LiveTurn:
    """An open turn and the message that streams in it, if one does."""

    turn_id: str
    conversation_id: str
    status: str
    message_id: str | None = None


class LiveRoom:
    """Open turns and streaming texts of one project."""

    def __init__(self) -> None:
        self.turns: dict[str, LiveTurn] = {}
        self.texts: dict[str, LiveText] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def ended(self, message_id: str) -> bool:
        """Whether a message is known to have its final text."""
        return message_id in self._ended

    def text_for(self, delta: dict[str, Any]) -> LiveText:
        """The text a delta belongs to; a new one if it is the first."""
        message_id = delta["message_id"]
        text = self.texts.get(message_id)
        if text is None:
            text = LiveText(message_id, delta["conversation_id"], delta["turn_id"])
            self.texts[message_id] = text
            turn = self.turns.get(text.turn_id)
            if turn is not None:
                turn.message_id = message_id
        return text

    def fold(self, kind: str, data: dict[str, Any]) -> None:
        """Take in a durable event."""
        if kind == "turn_status":
            self._fold_turn(data)
        elif kind == "assistant_response" and data.get("done"):
            self.end(data["message_id"])
        elif kind == "conversation_deleted":
            gone = data["conversation"]["id"]
            for turn in [t for t in self.turns.values() if t.conversation_id == gone]:
                self.turns.pop(turn.turn_id)
            for text in [t for t in self.texts.values() if t.conversation_id == gone]:
                self.end(text.message_id)

    def _fold_turn(self, data: dict[str, Any]) -> None:
        turn_id, status = data["turn_id"], data["status"]
        if status not in OPEN:
            self.turns.pop(turn_id, None)
            for text in [t for t in self.texts.values() if t.turn_id == turn_id]:
                self.end(text.message_id)
        elif turn_id in self.turns:
            self.turns[turn_id].status = status
        else:
            turn = LiveTurn(turn_id, data["conversation_id"], status)
            # Deltas need no commit and may overtake the news of their own turn.
            for text in self.texts.values():
                if text.turn_id == turn_id:
                    turn.message_id = text.message_id
            self.turns[turn_id] = turn

    def end(self, message_id: str) -> None:
        """Forget a text that has ended; deltas of it that are still on their way are late."""
        text = self.texts.pop(message_id, None)
        if text is not None and text.turn_id in self.turns:
            turn = self.turns[text.turn_id]
            if turn.message_id == message_id:
                turn.message_id = None
        self._ended[message_id] = None
        if len(self._ended) > REMEMBERED_ENDINGS:
            self._ended.popitem(last=False)

    def snapshot(self) -> list[dict[str, Any]]:
        """``live`` of ``project_joined``."""
        entries = []
        for turn in self.turns.values():
            text = self.texts.get(turn.message_id) if turn.message_id else None
            entries.append(
                {
                    "conversation_id": turn.conversation_id,
                    "turn_id": turn.turn_id,
                    "status": turn.status,
                    "message_id": text.message_id if text else None,
                    "epoch": text.epoch if text else 0,
                    "content": text.text if text else "",
                    "offset": 0,
                }
            )
        return entries
