"""Tool policies: what is allowed, what asks, what is denied; for a tenant and for a project."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, TenantAdmin, address_of
from api.bodies import Body, Items
from api.state import CurrentEdge
from store import access, audit, projects, rules, tenants
from store.access import Role
from store.audit import Actor
from store.rules import Rule

router = APIRouter(prefix="/api", tags=["tool policies"], route_class=AuditedRoute)

MAX_RULES = 200
MAX_EXPIRY_MINUTES = 7 * 24 * 60


class RuleItem(BaseModel):
    """One rule. A name is more specific than a glob, an effect than none."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    tool: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.*?-]+$")]
    effect: Literal["read", "idempotent", "once"] | None = None
    policy: Literal["allow", "ask", "deny"]
    approvers: Literal["editor", "owner", "admin"] = "editor"
    approvals: Annotated[int, Field(ge=1, le=2)] = 1
    not_asker: bool = False
    expires_minutes: Annotated[int, Field(ge=1, le=MAX_EXPIRY_MINUTES)] | None = None


class RuleList(Body):
    """All rules there are to be."""

    items: list[RuleItem] = Field(max_length=MAX_RULES)

    def rules(self) -> list[Rule]:
        """The rules themselves."""
        return [Rule(**item.model_dump()) for item in self.items]


def _answer(found: list[Rule]) -> Items[RuleItem]:
    return Items(items=[RuleItem.model_validate(rule) for rule in found])


@router.get("/admin/tool-policies")
async def list_tenant_rules(principal: TenantAdmin, edge: CurrentEdge) -> Items[RuleItem]:
    """The tenant's rules; without any, reading is allowed and the rest asks."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return _answer(await rules.of(session, None))


@router.put("/admin/tool-policies")
async def put_tenant_rules(
    body: RuleList, principal: TenantAdmin, request: Request, edge: CurrentEdge
) -> Items[RuleItem]:
    """Replace the tenant's rules."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await tenants.get(session, lock=True)
        await rules.replace(session, principal.tenant_id, None, body.rules())
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "tool_policies.set", "tenant", principal.tenant_id, reason=f"{len(body.items)} rules",
        )  # fmt: skip
        return _answer(await rules.of(session, None))


@router.get("/projects/{project_id}/tool-policies")
async def list_project_rules(
    project_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Items[RuleItem]:
    """The project's rules; the tenant's hold beside them."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.VIEWER)
        return _answer(await rules.of(session, project_id))


@router.put("/projects/{project_id}/tool-policies")
async def put_project_rules(
    project_id: UUID,
    body: RuleList,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> Items[RuleItem]:
    """Replace the project's rules; they may only tighten the tenant's (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        await projects.get(session, project_id, lock=True)
        rules.require_tighter(await rules.of(session, None), body.rules())
        await rules.replace(session, principal.tenant_id, project_id, body.rules())
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "tool_policies.set", "project", project_id,
            reason=f"{len(body.items)} rules", project_id=project_id,
        )  # fmt: skip
        return _answer(await rules.of(session, project_id))
