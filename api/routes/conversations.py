"""Conversations and their messages."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal
from api.bodies import DEFAULT_PAGE, Body, Items, Limit, Name
from api.state import CurrentEdge
from store import access, conversations, messages, rooms
from store.access import Role
from store.errors import Unavailable
from store.shapes import ConversationShape, MessageShape
from store.turns import DEFAULT_TITLE

router = APIRouter(prefix="/api", tags=["conversations"], route_class=AuditedRoute)


class ConversationBody(Body):
    """A conversation as it is created."""

    title: Name = DEFAULT_TITLE


class RenameBody(Body):
    """What of a conversation may be changed."""

    title: Name


class MessageBody(Body):
    """A user message; `client_message_id` makes sending it again harmless."""

    content: str
    client_message_id: str | None = None
    on_busy: str | None = None


class Accepted(BaseModel):
    """The message is stored and its turn is certain to run."""

    message_id: UUID
    turn_id: UUID
    status: str
    duplicate: bool


class MessagePage(Items[MessageShape]):
    """Messages, oldest first, and the event number of the project that they reflect."""

    seq: Annotated[int, Field(description="Fold room events above this number onto the page.")]


@router.get("/projects/{project_id}/conversations")
async def list_conversations(
    project_id: UUID,
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    cursor: UUID | None = None,
    limit: Limit = DEFAULT_PAGE,
) -> Items[ConversationShape]:
    """Conversations of a project, newest first, each with its live turn's status."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.VIEWER)
        items, following = await conversations.page(session, project_id, before=cursor, limit=limit)
    return Items(items=items, next_cursor=str(following) if following else None)


@router.post("/projects/{project_id}/conversations", status_code=201)
async def create_conversation(
    project_id: UUID, body: ConversationBody, principal: CurrentPrincipal, edge: CurrentEdge
) -> ConversationShape:
    """Begin a conversation."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return await conversations.create(session, principal, project_id, body.title)


@router.get("/conversations/{conversation_id}")
async def get_conversation(
    conversation_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> ConversationShape:
    """One conversation."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        row = await conversations.get(session, principal, conversation_id)
        return await conversations.shape_of(session, row)


@router.patch("/conversations/{conversation_id}")
async def rename_conversation(
    conversation_id: UUID, body: RenameBody, principal: CurrentPrincipal, edge: CurrentEdge
) -> ConversationShape:
    """Give a conversation another title."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return await conversations.rename(session, principal, conversation_id, body.title)


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete_conversation(
    conversation_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Response:
    """Delete a conversation with all its messages; what runs in it is stopped."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        open_turns = await conversations.delete(session, principal, conversation_id)
    await edge.turns.abandon(principal, open_turns)
    return Response(status_code=204)


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID,
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    before: Annotated[UUID | None, Query(description="A message; the page ends before it.")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> MessagePage:
    """The newest messages, or those before one; oldest first within the page."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        conversation = await conversations.get(session, principal, conversation_id)
        # The number first: an event that comes in between is folded again and changes nothing.
        seq = await rooms.head_of(session, conversation.project_id)
        if seq is None:
            raise Unavailable("The project's room is gone.")
        items, earlier = await messages.page(
            session, conversation_id, edge.links, before=before, limit=limit
        )
    return MessagePage(items=items, next_cursor=str(earlier) if earlier else None, seq=seq)


@router.post("/conversations/{conversation_id}/messages", status_code=202)
async def send_message(
    conversation_id: UUID, body: MessageBody, principal: CurrentPrincipal, edge: CurrentEdge
) -> Accepted:
    """Send a user message: the same pipeline as the socket's `user_message`."""
    receipt = await edge.turns.submit(
        principal, conversation_id, body.content, body.client_message_id, on_busy=body.on_busy
    )
    return Accepted(
        message_id=receipt.message_id,
        turn_id=receipt.turn_id,
        status=receipt.status,
        duplicate=receipt.duplicate,
    )
