"""Turns, and the durable events of a room for clients without a socket."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal
from api.bodies import Items, Limit
from api.state import CurrentEdge
from store import access, rooms, turns
from store.access import Role
from store.shapes import TurnShape

router = APIRouter(prefix="/api", tags=["turns"], route_class=AuditedRoute)


class Event(BaseModel):
    """A durable event, as sockets get it."""

    type: str
    data: dict[str, Any]
    timestamp: int


class EventPage(Items[Event]):
    """Events above `after_seq`, in order.

    Attributes:
        seq: The room's head.
        recovered: Whether the log still has everything above `after_seq`; if not, state must be
            fetched anew.
    """

    seq: int
    recovered: bool


@router.get("/turns/{turn_id}")
async def get_turn(turn_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge) -> TurnShape:
    """One turn."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return TurnShape.of(await turns.get(session, principal, turn_id), edge.links)


@router.post("/turns/{turn_id}/stop")
async def stop_turn(turn_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge) -> TurnShape:
    """Stop a turn; what it has said so far is kept and marked."""
    return TurnShape.of(await edge.turns.stop(principal, turn_id), edge.links)


@router.get("/projects/{project_id}/events")
async def list_events(
    project_id: UUID,
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    after_seq: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Limit = 200,
) -> EventPage:
    """The durable events of a room above a number, as far as the log goes back."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.VIEWER)
        head = await rooms.head_of(session, project_id) or 0
        events = await rooms.read(session, project_id, after_seq, limit)
    items = [Event(type=event.type, data=event.data, timestamp=event.at) for event in events]
    more = bool(events) and events[-1].seq < head
    head = max(head, events[-1].seq) if events else head
    first = events[0].seq if events else head + 1
    return EventPage(
        items=items,
        next_cursor=str(events[-1].seq) if more else None,
        seq=head,
        recovered=first == after_seq + 1,
    )
