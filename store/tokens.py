"""What people sign in with: browser sessions, personal API tokens, socket tickets.

Only the SHA-256 of each is stored. Functions run within the tenant's transaction.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.database import clock
from store.errors import NotFound
from store.secrets import new_token
from store.tables import ApiToken, Session, SocketTicket
from store.texts import clean, cut

SESSION_PREFIX, API_TOKEN_PREFIX, TICKET_PREFIX = "evs", "evt", "evk"
TICKET_LIFETIME = timedelta(seconds=30)
MAX_USER_AGENT_CHARS = 255


async def open_session(
    session: AsyncSession,
    tenant_id: UUID,
    user_id: UUID,
    lifetime: timedelta,
    *,
    address: str | None,
    user_agent: str | None,
) -> str:
    """A new browser session.

    Returns:
        The cookie's value, which is nowhere else.
    """
    token, token_hash = new_token(SESSION_PREFIX)
    session.add(
        Session(
            tenant_id=tenant_id,
            user_id=user_id,
            token_hash=token_hash,
            address=address,
            user_agent=cut(clean(user_agent), MAX_USER_AGENT_CHARS) if user_agent else None,
            expires_at=await clock(session) + lifetime,
        )
    )
    await session.flush()
    return token


async def sessions_of(session: AsyncSession, user_id: UUID) -> Sequence[Session]:
    """A person's live sessions, newest first."""
    return (
        await session.scalars(
            select(Session)
            .where(Session.user_id == user_id, Session.expires_at > func.now())
            .order_by(Session.created_at.desc())
        )
    ).all()


async def end_sessions(
    session: AsyncSession, user_id: UUID, *, only: UUID | None = None, but: UUID | None = None
) -> Sequence[UUID]:
    """End a person's sessions: all, one, or all but the one he is using.

    Returns:
        The ids of those that ended.
    """
    statement = delete(Session).where(Session.user_id == user_id)
    if only is not None:
        statement = statement.where(Session.id == only)
    if but is not None:
        statement = statement.where(Session.id != but)
    return (await session.scalars(statement.returning(Session.id))).all()


async def add_ticket(
    session: AsyncSession, tenant_id: UUID, user_id: UUID, session_id: UUID | None
) -> str:
    """A ticket that opens one socket within `TICKET_LIFETIME`."""
    ticket, token_hash = new_token(TICKET_PREFIX)
    session.add(
        SocketTicket(
            token_hash=token_hash,
            tenant_id=tenant_id,
            user_id=user_id,
            session_id=session_id,
            expires_at=await clock(session) + TICKET_LIFETIME,
        )
    )
    await session.flush()
    return ticket


async def add_api_token(
    session: AsyncSession,
    tenant_id: UUID,
    user_id: UUID,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> tuple[ApiToken, str]:
    """A personal API token.

    Returns:
        Its row, and the token itself, which is nowhere else.
    """
    token, token_hash = new_token(API_TOKEN_PREFIX)
    row = ApiToken(
        tenant_id=tenant_id,
        user_id=user_id,
        name=name,
        token_hash=token_hash,
        scopes=list(scopes),
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    return row, token


async def api_tokens_of(session: AsyncSession, user_id: UUID) -> Sequence[ApiToken]:
    """A person's tokens, newest first; expired ones too, until he deletes them."""
    return (
        await session.scalars(
            select(ApiToken)
            .where(ApiToken.user_id == user_id)
            .order_by(ApiToken.created_at.desc(), ApiToken.id)
        )
    ).all()


async def drop_api_token(session: AsyncSession, user_id: UUID, token_id: UUID) -> None:
    """Revoke one token of a person.

    Raises:
        NotFound: It is not his.
    """
    dropped = await session.scalar(
        delete(ApiToken)
        .where(ApiToken.id == token_id, ApiToken.user_id == user_id)
        .returning(ApiToken.id)
    )
    if dropped is None:
        raise NotFound


async def drop_api_tokens(session: AsyncSession, user_id: UUID) -> None:
    """Revoke all tokens of a person."""
    await session.execute(delete(ApiToken).where(ApiToken.user_id == user_id))
