"""Setting a password by a link: accepted invitations and forgotten passwords; part of `auth`.

Nothing here sends e-mail. Whoever forgot his password says so here, the tenant's audit log shows
it, and an administrator makes the link (``POST /api/admin/users/{id}/link``).
"""

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from api import control
from api.auth import address_of
from api.bodies import Address, Body, Name, NewPassword
from api.invites import Invite, Purpose, opened
from api.sessions import SignedIn, begin_session, from_our_page, host_of
from api.state import CurrentEdge, Edge
from store import audit, people, tokens
from store.audit import Actor
from store.database import clock
from store.errors import NotFound
from store.tables import User

router = APIRouter(dependencies=[Depends(from_our_page)])

REQUESTED_TEXT = (
    "If this address has an account, its administrator now sees the request and can send a link."
)


class Acceptance(Body):
    """What an invited person is called, and his first password."""

    name: Name
    password: NewPassword


class ResetRequest(Body):
    """Whose password was forgotten."""

    email: Address


class Reset(Body):
    """The new password."""

    password: NewPassword


class Requested(BaseModel):
    """The same for every address."""

    detail: str


@router.post("/invites/{token}/accept")
async def accept_invite(
    token: str, body: Acceptance, request: Request, response: Response, edge: CurrentEdge
) -> SignedIn:
    """Take up an invitation: choose name and password, and be signed in."""
    invite = await _valid(edge, token, "invite")
    user = await _set_password(request, edge, invite, body.password, name=body.name)
    return await begin_session(request, response, edge, user, "invite.accept")


@router.post("/password-reset", status_code=202)
async def request_reset(body: ResetRequest, request: Request, edge: CurrentEdge) -> Requested:
    """Tell the administrator that a password was forgotten; the same answer for any address."""
    email, address = body.email.strip().lower(), address_of(request)
    account = f"reset {email}"
    await edge.throttle.check(account, address)
    await edge.throttle.failed(account, address)
    async with edge.database.session() as session:
        tenant_id = await people.tenant_of(session, host_of(request), email)
    if tenant_id is not None:
        async with edge.database.tenant_session(tenant_id) as session:
            user = await people.by_email(session, email)
            known = user is not None and user.active
            await audit.record(
                session, tenant_id, Actor(user.id if user else None, email, address),
                "password.forgotten", "user", user.id if user else None,
                outcome="allowed" if known else "refused",
                reason=None if known else "unknown_address",
            )  # fmt: skip
    return Requested(detail=REQUESTED_TEXT)


@router.post("/password-reset/{token}", status_code=204)
async def reset_password(token: str, body: Reset, request: Request, edge: CurrentEdge) -> None:
    """Set a new password by a link; every session of the person ends."""
    invite = await _valid(edge, token, "reset")
    await _set_password(request, edge, invite, body.password)


async def _valid(edge: Edge, token: str, purpose: Purpose) -> Invite:
    invite = opened(token, edge.keys, purpose)
    if invite is None:
        raise NotFound
    async with edge.database.tenant_session(invite.tenant_id) as session:
        if invite.expires_at <= await clock(session):
            raise NotFound
        # Before the hashing, which is the costly part.
        if not invite.fits(await people.get(session, invite.user_id)):
            raise NotFound
    return invite


async def _set_password(
    request: Request, edge: Edge, invite: Invite, password: str, *, name: str | None = None
) -> User:
    hashed = await edge.passwords.hash(password)
    async with edge.database.tenant_session(invite.tenant_id) as session:
        user = await people.get(session, invite.user_id, lock=True)
        if not invite.fits(user):
            raise NotFound
        user.password_hash = hashed
        user.name = name or user.name
        ended = await tokens.end_sessions(session, user.id)
        await audit.record(
            session, invite.tenant_id, Actor(user.id, user.email, address_of(request)),
            "password.set", "user", user.id, reason=invite.purpose,
        )  # fmt: skip
    await control.session_ended(edge.publisher, ended, "password_changed")
    return user
