"""What the server knows after some frames: the other side of the folding rule.

Not a client: it reads a whole stream, in order and complete, and tells what REST, a snapshot and a
client that folded everything have to say. Recorded answers of the real REST hold it to account.
"""

import copy
import hashlib
import json
from typing import Any

from tests.client import OPEN


class Truth:
    """A project after the first `count` frames of a recorded stream."""

    def __init__(self, recorded: dict[str, Any], count: int) -> None:
        before = copy.deepcopy(recorded["before"])
        self.seq: int = recorded["joined"]["seq"]
        self.conversations = {c["id"]: c for c in before["conversations"]}
        # Per conversation the turns in the order in which they were accepted.
        self.turns_of: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.turns: dict[str, dict[str, Any]] = {}
        for frame in copy.deepcopy(recorded["stream"][:count]):
            self._take(frame["type"], frame["data"])

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        self.seq = data.get("seq", self.seq)
        match kind:
            case "conversation_created" | "conversation_updated":
                self.conversations[data["conversation"]["id"]] = data["conversation"]
            case "conversation_deleted":
                del self.conversations[data["conversation"]["id"]]
            case "turn_status":
                self.turns[data["turn_id"]] = data
            case "message_created":
                self._add(data["message"])
                self.conversations[data["message"]["conversation_id"]]["updated_at"] = data[
                    "message"
                ]["created_at"]
            case "tool_call":
                self._call(self._answer(data), data)
            case "tool_result":
                (row,) = [e for m in self.messages.values() for e in m["tool_executions"]
                          if e["id"] == data["tool_execution_id"]]  # fmt: skip
                row.update({key: data[key] for key in row.keys() & data.keys() - {"id"}})
            case "assistant_response" if data["conversation_id"] in self.conversations:
                self._text(self._answer(data), data)

    def _add(self, message: dict[str, Any]) -> None:
        turns = self.turns_of.setdefault(message["conversation_id"], {})
        turn = turns.setdefault(message["turn_id"], [])
        # Pieces of text travel faster than events: an answer may come before its question.
        first = message["role"] == "user" and not any(m["role"] == "user" for m in turn)
        turn.insert(0 if first else len(turn), message)
        if first:
            # Turns stand in the order of their questions.
            turns[message["turn_id"]] = turns.pop(message["turn_id"])
        self.messages[message["id"]] = message

    def _answer(self, data: dict[str, Any]) -> dict[str, Any]:
        if data["message_id"] not in self.messages:
            self._add(
                {
                    "id": data["message_id"], "conversation_id": data["conversation_id"],
                    "turn_id": data["turn_id"], "role": "assistant", "author": None, "content": "",
                    "status": "streaming", "epoch": 0, "tool_calls": [], "tool_executions": [],
                    "metadata": {}, "created_at": "2026-01-01T00:00:00Z",
                }
            )  # fmt: skip
        return self.messages[data["message_id"]]

    def _text(self, message: dict[str, Any], data: dict[str, Any]) -> None:
        if data["done"]:
            message |= {key: data[key] for key in ("status", "epoch", "created_at")}
            message["metadata"] = {"finish_reason": data["finish_reason"]}
            assert digest(message["content"]) == data["sha256"], "the stream is not whole"
        elif message["status"] == "streaming" and data["epoch"] >= message["epoch"]:
            held = message["content"] if data["epoch"] == message["epoch"] else ""
            message["epoch"] = data["epoch"]
            message["content"] = held[: data["offset"]] + data["content"]

    def _call(self, message: dict[str, Any], data: dict[str, Any]) -> None:
        for call in data["tool_calls"]:
            message["tool_calls"].append({key: call[key] for key in ("id", "type", "function")})
            message["tool_executions"].append(
                {
                    "id": call["tool_execution_id"], "turn_id": data["turn_id"],
                    "message_id": data["message_id"], "tool_call_id": call["id"],
                    "tool_name": call["function"]["name"], "queue": call["queue"],
                    "effect": call["effect"],
                    "parameters": json.loads(call["function"]["arguments"]),
                    "status": "pending", "attempt": 0, "result": None, "error": None,
                    "execution_time_ms": None, "created_at": call["created_at"],
                    "temporal_url": None, "requires_approval": call["requires_approval"],
                    "approval": None,
                }
            )  # fmt: skip

    @property
    def open_turns(self) -> list[dict[str, Any]]:
        return [t for t in self.turns.values()
                if t["status"] in OPEN and t["conversation_id"] in self.conversations]  # fmt: skip

    def streaming(self, turn_id: str) -> dict[str, Any] | None:
        """The message that streams in a turn."""
        return next(
            (m for m in self.messages.values()
             if m["turn_id"] == turn_id and m["status"] == "streaming"), None
        )  # fmt: skip

    def live(self) -> list[dict[str, Any]]:
        """`live` of ``project_joined``."""
        entries = []
        for turn in self.open_turns:
            message = self.streaming(turn["turn_id"])
            entries.append(
                {
                    "conversation_id": turn["conversation_id"], "turn_id": turn["turn_id"],
                    "status": turn["status"], "message_id": message["id"] if message else None,
                    "epoch": message["epoch"] if message else 0,
                    "content": message["content"] if message else "", "offset": 0,
                }
            )  # fmt: skip
        return entries

    def _placed(self, conversation_id: str) -> list[list[dict[str, Any]]]:
        turns = list(self.turns_of.get(conversation_id, {}).values())
        return sorted(turns, key=lambda turn: turn[0]["role"] != "user")

    def rest(self) -> dict[str, Any]:
        """What REST answers: the conversations, and the messages of each."""
        listed = []
        for conversation in self.conversations.values():
            of = [t for t in self.open_turns if t["conversation_id"] == conversation["id"]]
            of.sort(key=lambda turn: turn["status"] == "queued")
            live = {key: of[0][key] for key in ("turn_id", "status")} if of else None
            listed.append(conversation | {"live": live})
        listed.sort(key=lambda c: (c["updated_at"], c["id"]), reverse=True)
        messages = {
            key: [m for turn in self._placed(key) for m in turn] for key in self.conversations
        }
        return {"seq": self.seq, "conversations": listed, "messages": messages}

    def state(self) -> dict[str, Any]:
        """What a client that folded everything holds, in the canonical form."""
        rest = self.rest()
        turns = {
            t["turn_id"]: {"conversation_id": t["conversation_id"], "status": t["status"],
                           "detail": t["detail"]}
            for t in self.open_turns
        }  # fmt: skip
        return {"seq": self.seq, **shown(rest), "open_turns": turns}


def shown(rest: dict[str, Any]) -> dict[str, Any]:
    """The canonical form of what REST answers."""
    return {
        "conversations": {c["id"]: c["title"] for c in rest["conversations"]},
        "messages": {
            key: [
                {
                    "id": m["id"], "role": m["role"], "turn_id": m["turn_id"],
                    "status": m["status"], "epoch": m["epoch"], "text": m["content"],
                    "sha256": digest(m["content"]),
                    "tools": [
                        {name: e.get(name) for name in
                         ("id", "tool_call_id", "tool_name", "status", "attempt", "result",
                          "error", "execution_time_ms", "approval")}
                        for e in m["tool_executions"]
                    ],
                }
                for m in found
            ]
            for key, found in rest["messages"].items()
        },
    }  # fmt: skip


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
