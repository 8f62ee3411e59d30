"""Frames from clients: parsed once, into types. Whatever is wrong gets a code and a sentence."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from store.limits import MAX_JSON_DEPTH
from store.texts import clean

MAX_ID_CHARS = 128
MAX_SUBSCRIBED = 1_000


class FrameError(Exception):
    """A frame that is answered with an error.

    Attributes:
        code: Stable code of docs/protocol.md §4.
        reply_to: The frame's own id, if it could be read.
    """

    def __init__(self, code: str, message: str, reply_to: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reply_to = reply_to


class Body(BaseModel):
    """Base of every frame's ``data``; a claim of identity in it is no field and is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    type: ClassVar[str]


class JoinProject(Body):
    """Enter a room."""

    type = "join_project"
    project_id: UUID
    after_seq: Annotated[int, Field(strict=True)] | None = None
    deltas: Literal["all", "none"] | list[UUID] = "all"

    @field_validator("deltas")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) > MAX_SUBSCRIBED:
            raise ValueError(f"at most {MAX_SUBSCRIBED} conversations")
        return value

    @property
    def wanted(self) -> list[str] | None:
        """Conversations whose deltas are wanted; None for all."""
        if self.deltas == "all":
            return None
        return [] if self.deltas == "none" else [str(item) for item in self.deltas]


class LeaveProject(Body):
    """Leave a room."""

    type = "leave_project"
    project_id: UUID


class UserMessage(Body):
    """Say something in a conversation."""

    type = "user_message"
    conversation_id: UUID
    project_id: UUID | None = None
    content: Annotated[str, Field(strict=True)]
    client_message_id: Annotated[str, Field(strict=True)] | None = None
    on_busy: Annotated[str, Field(strict=True)] | None = None


class StopTurn(Body):
    """Stop a turn."""

    type = "stop_turn"
    turn_id: UUID


class ToolDecision(Body):
    """Approve or deny a tool call that asks."""

    type = "tool_decision"
    tool_execution_id: UUID
    decision: Literal["approve", "deny"]
    arguments: dict[str, Any] | None = None
    note: Annotated[str, Field(strict=True)] | None = None
    scope: Literal["once", "turn", "conversation"] = "once"

    @field_validator("note")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        if value is not None and clean(value) != value:
            raise ValueError("a NUL character or half of a surrogate pair")
        return value


class Typing(Body):
    """Someone types in a conversation."""

    type = "typing"
    conversation_id: UUID


class Ping(Body):
    """Are you there?"""

    type = "ping"


Frame = JoinProject | LeaveProject | UserMessage | StopTurn | ToolDecision | Typing | Ping

BODIES: dict[str, type[Frame]] = {
    body.type: body
    for body in (JoinProject, LeaveProject, UserMessage, StopTurn, ToolDecision, Typing, Ping)
}


def parse(text: str) -> tuple[Frame, str | None]:
    """One frame.

    Returns:
        Its body and its ``id``.

    Raises:
        FrameError: ``bad_json``, ``unknown_type`` or ``invalid``.
    """
    try:
        envelope = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise FrameError("bad_json", "This frame is not JSON.") from None
    if _too_deep(envelope):
        raise FrameError("bad_json", f"At most {MAX_JSON_DEPTH} levels of nesting are read.")
    if not isinstance(envelope, dict):
        raise FrameError("unknown_type", "A frame is an object with a `type`.")
    reply_to = envelope.get("id")
    if not isinstance(reply_to, str) or len(reply_to) > MAX_ID_CHARS:
        reply_to = None
    kind = envelope.get("type")
    body = BODIES.get(kind) if isinstance(kind, str) else None
    if body is None:
        known = ", ".join(BODIES)
        raise FrameError("unknown_type", f"Known types are {known}.", reply_to)
    data = envelope.get("data", {})
    if not isinstance(data, dict):
        raise FrameError("invalid", "`data` is an object.", reply_to)
    try:
        return body.model_validate(data), reply_to
    except ValidationError as exc:
        what = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
            for error in exc.errors(include_input=False, include_url=False)[:5]
        )
        raise FrameError("invalid", what, reply_to) from None


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)
