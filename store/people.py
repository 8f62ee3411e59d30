"""People of a tenant: found, added, changed. Functions run within the tenant's transaction.

Addresses are stored in lower case; a tenant always keeps one active administrator.
"""

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from store.errors import Conflict, NotFound
from store.tables import Tenant, User

_FIND_TENANT = text("SELECT find_tenant(:host, :address)")


async def tenant_of(session: AsyncSession, host: str, email: str) -> UUID | None:
    """The tenant in which an address signs in at a host; works without a tenant set."""
    found: UUID | None = await session.scalar(_FIND_TENANT, {"host": host, "address": email})
    return found


async def by_email(session: AsyncSession, email: str) -> User | None:
    """The person with this address, active or not."""
    return await session.scalar(select(User).where(User.email == email.lower()))


async def get(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> User:
    """A person of the tenant.

    Raises:
        NotFound: There is none.
    """
    how = {"key_share": True} if lock else None
    row = await session.get(User, user_id, with_for_update=how, populate_existing=lock)
    if row is None:
        raise NotFound
    return row


async def page(
    session: AsyncSession, *, after: tuple[str, UUID] | None, limit: int, active_only: bool = False
) -> Sequence[User]:
    """People in the order of their addresses, one more than `limit` if there are more."""
    query = select(User).order_by(User.email, User.id).limit(limit + 1)
    if active_only:
        query = query.where(User.active)
    if after is not None:
        query = query.where(tuple_(User.email, User.id) > tuple_(*after))
    return (await session.scalars(query)).all()


async def add(
    session: AsyncSession,
    tenant_id: UUID,
    email: str,
    name: str,
    role: str,
    *,
    password_hash: str | None = None,
    installation_admin: bool = False,
) -> User:
    """A new person.

    Raises:
        Conflict: The address is taken in this tenant.
    """
    user_id = await session.scalar(
        insert(User)
        .values(
            id=uuid4(),
            tenant_id=tenant_id,
            email=email.lower(),
            name=name,
            role=role,
            password_hash=password_hash,
            installation_admin=installation_admin,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "email"])
        .returning(User.id)
    )
    if user_id is None:
        raise Conflict("Somebody with this e-mail address is here already.")
    return await session.get_one(User, user_id)


async def lock_admins(session: AsyncSession) -> None:
    """Let no other transaction change who administers the tenant until this one ends."""
    # Weaker than FOR UPDATE: rows that merely refer to the tenant can still be written.
    await session.execute(select(Tenant.id).with_for_update(key_share=True))


async def require_an_admin(session: AsyncSession) -> None:
    """Make sure the tenant can still be administered; call after the change, under `lock_admins`.

    Raises:
        Conflict: Nobody would be left.
    """
    await session.flush()
    left = await session.scalar(
        select(func.count()).select_from(User).where(User.role == "admin", User.active)
    )
    if not left:
        raise Conflict(
            "This is the tenant's last administrator. Make somebody else one first, then try again."
        )
