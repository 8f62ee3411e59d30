"""What people say to tool calls that ask, and what need not ask again."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import AfterValidator, Field

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import Body, Items, storable
from api.state import CurrentEdge
from store import grants
from store.decisions import MAX_NOTE_CHARS, Word
from store.shapes import GrantShape, ToolExecutionShape

router = APIRouter(prefix="/api", tags=["decisions"])
audited = APIRouter(tags=["decisions"], route_class=AuditedRoute)

Note = Annotated[str, Field(max_length=MAX_NOTE_CHARS), AfterValidator(storable)]


class DecisionBody(Body):
    """A person's word about a call; without `arguments` it is about the model's own."""

    decision: Literal["approve", "deny"]
    arguments: dict[str, Any] | None = None
    note: Note | None = None
    scope: Literal["once", "turn", "conversation"] = "once"


class DecidedExecution(ToolExecutionShape):
    """The call as it is now; `duplicate` when this word changed nothing."""

    duplicate: bool


# The decision's own refusals are on record with the call they are about; see `api.decisions`.
@router.post("/tool-executions/{execution_id}/decision")
async def decide(
    execution_id: UUID,
    body: DecisionBody,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> DecidedExecution:
    """Approve or deny a call that asks."""
    word = Word(body.decision, body.arguments, body.note, body.scope)
    decided = await edge.decisions.decide(principal, execution_id, word, address_of(request))
    shape = ToolExecutionShape.of(decided.execution, edge.links)
    return DecidedExecution(**dict(shape), duplicate=decided.duplicate)


@audited.get("/conversations/{conversation_id}/tool-grants")
async def list_grants(
    conversation_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Items[GrantShape]:
    """What need not ask in this conversation."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return Items(items=await grants.of_conversation(session, principal, conversation_id))


@audited.delete("/tool-grants/{grant_id}", status_code=204)
async def withdraw_grant(grant_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge) -> None:
    """Have the tool ask again (editor)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await grants.withdraw(session, principal, grant_id)


router.include_router(audited)
