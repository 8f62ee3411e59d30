"""The one permission table: what each role may do in a project.

Roles of a project nest: an owner may all an editor may, an editor all a viewer may. A tenant admin
may everything in his tenant. Whoever is not in a project is told that it does not exist.
"""

from enum import IntEnum
from uuid import UUID

from sqlalchemy import ScalarSelect, case, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.errors import Forbidden, NotFound
from store.principal import Principal
from store.tables import Project, ProjectMember, User


class Role(IntEnum):
    """Roles in a project, least first."""

    VIEWER = 1
    EDITOR = 2
    OWNER = 3

    @property
    def wire(self) -> str:
        """The role's name in REST."""
        return self.name.lower()


async def role_in(session: AsyncSession, principal: Principal, project_id: UUID) -> Role | None:
    """The principal's role as the database has it now; None when the project is not his to see."""
    found = await session.scalar(
        select(role_column(principal.user_id, project_id)).where(Project.id == project_id)
    )
    return role_named(found)


def role_column(user_id: UUID, project_id: UUID) -> ScalarSelect[str | None]:
    """Expression for a person's role in a project: its name, or null for none."""
    membership = (
        select(ProjectMember.role)
        .where(ProjectMember.project_id == project_id, ProjectMember.user_id == User.id)
        .scalar_subquery()
    )
    return (
        select(case((User.role == "admin", Role.OWNER.wire), else_=membership))
        .where(User.id == user_id, User.active)
        .scalar_subquery()
    )


def role_named(name: str | None) -> Role | None:
    """The role behind a stored name."""
    return Role[name.upper()] if name else None


def check(role: Role | None, needed: Role) -> Role:
    """Hold a role against what an act needs.

    Raises:
        NotFound: No role at all.
        Forbidden: A role, but a lesser one.
    """
    if role is None:
        raise NotFound
    if role < needed:
        raise Forbidden(f"This needs the role {needed.wire} in the project; yours is {role.wire}.")
    return role


async def require(
    session: AsyncSession, principal: Principal, project_id: UUID, needed: Role
) -> Role:
    """`role_in` and `check` in one.

    Raises:
        NotFound: The project is not the principal's to see.
        Forbidden: His role there is too small.
    """
    return check(await role_in(session, principal, project_id), needed)
