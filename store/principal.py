"""Who is asking: minted by the edge from a cookie, a token or a ticket, never from a payload."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in person.

    Attributes:
        session_id: Set for a browser session; ends with it.
        token_id: Set for an API token.
        scopes: What the credential allows; a browser session has all.
    """

    tenant_id: UUID
    user_id: UUID
    email: str
    name: str
    role: str
    installation_admin: bool
    session_id: UUID | None = None
    token_id: UUID | None = None
    expires_at: datetime | None = None
    scopes: frozenset[str] = frozenset({"read", "write", "admin"})

    @property
    def is_tenant_admin(self) -> bool:
        """Whether every project of the tenant is open to this person."""
        return self.role == "admin"
