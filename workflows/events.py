"""The vocabulary of rooms: every durable event, its fields and its wire name.

An event is a row first (`store.rooms.append`) and a frame second. Field names are the wire's;
docs/protocol.md §4 describes them. Ids are UUIDs or their text; times are aware datetimes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ConversationChanged:
    """A conversation was created, renamed or otherwise updated; `conversation` is its shape."""

    type: ClassVar[str] = "conversation_updated"
    conversation: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConversationCreated(ConversationChanged):
    """A conversation began."""

    type: ClassVar[str] = "conversation_created"


@dataclass(frozen=True, slots=True)
class ConversationDeleted(ConversationChanged):
    """A conversation is gone, with all its messages."""

    type: ClassVar[str] = "conversation_deleted"


@dataclass(frozen=True, slots=True)
class MessageCreated:
    """A person's message was accepted."""

    type: ClassVar[str] = "message_created"
    message: dict[str, Any]
    client_message_id: str | None


@dataclass(frozen=True, slots=True)
class TurnStatusChanged:
    """A turn moved on, or says why it waits (`detail`)."""

    type: ClassVar[str] = "turn_status"
    turn_id: UUID
    conversation_id: UUID
    message_id: UUID
    status: str
    code: str | None = None
    detail: str | None = None
    by: UUID | None = None


@dataclass(frozen=True, slots=True)
class AssistantDone:
    """An assistant message reached its final text: `length` code points with this SHA-256."""

    type: ClassVar[str] = "assistant_response"
    conversation_id: UUID
    turn_id: UUID
    message_id: UUID
    epoch: int
    offset: int
    length: int
    sha256: str
    status: str
    finish_reason: str
    usage: dict[str, Any]
    created_at: datetime
    content: str = ""
    done: bool = True


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model asked for tools; each call starts as ``pending``."""

    type: ClassVar[str] = "tool_call"
    conversation_id: UUID
    turn_id: UUID
    message_id: UUID
    tool_calls: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ToolResultChanged:
    """A tool execution moved on; `result` is the bounded preview.

    Attributes:
        approval: What people were asked, and what they said.
        stalled: Why and since when it makes no progress; None while it does.
        intervention: What somebody did about it last.
    """

    type: ClassVar[str] = "tool_result"
    conversation_id: UUID
    turn_id: UUID
    tool_execution_id: UUID
    tool_call_id: str
    tool_name: str
    status: str
    attempt: int
    result: Any | None = None
    error: dict[str, str] | None = None
    execution_time_ms: int | None = None
    temporal_url: str | None = None
    approval: dict[str, Any] | None = None
    stalled: dict[str, Any] | None = None
    intervention: dict[str, Any] | None = None


RoomEvent = (
    ConversationChanged
    | ConversationCreated
    | ConversationDeleted
    | MessageCreated
    | TurnStatusChanged
    | AssistantDone
    | ToolCalled
    | ToolResultChanged
)

DURABLE_EVENT_TYPES: tuple[str, ...] = (
    "conversation_created",
    "conversation_updated",
    "conversation_deleted",
    "message_created",
    "turn_status",
    "assistant_response",
    "tool_call",
    "tool_result",
)
