"""Links that let a person set his password: invitations and resets.

Nothing is stored. The link carries who it is for, until when it holds and a hash of the password
hash of the moment; setting a password changes that, so a link works once, and a newer password
ends every older link.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from store.secrets import SIGNATURE_BYTES, KeyRing
from store.settings import Settings
from store.tables import User

Purpose = Literal["invite", "reset"]
LIFETIMES: dict[Purpose, timedelta] = {"invite": timedelta(days=7), "reset": timedelta(days=1)}
# Where the page lets people choose their password.
PAGES: dict[Purpose, str] = {"invite": "/invite/", "reset": "/reset/"}
MAX_TOKEN_CHARS = 256
_FINGERPRINT_BYTES = 16
_BODY_BYTES = 16 + 16 + 8 + _FINGERPRINT_BYTES


@dataclass(frozen=True, slots=True)
class Invite:
    """A link's content, as signed."""

    purpose: Purpose
    tenant_id: UUID
    user_id: UUID
    expires_at: datetime
    fingerprint: bytes

    @classmethod
    def to(cls, user: User, purpose: Purpose, now: datetime) -> "Invite":
        """A link for somebody, from now on, by the database's clock."""
        return cls(
            purpose,
            user.tenant_id,
            user.id,
            now.replace(microsecond=0) + LIFETIMES[purpose],
            fingerprint(user.password_hash),
        )

    def token(self, keys: KeyRing) -> str:
        """The link's last part."""
        body = (
            self.tenant_id.bytes
            + self.user_id.bytes
            + int(self.expires_at.timestamp()).to_bytes(8, "big")
            + self.fingerprint
        )
        sealed = body + keys.sign(self.purpose, body)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def url(self, keys: KeyRing, origin: str) -> str:
        """The link itself."""
        return origin + PAGES[self.purpose] + self.token(keys)

    def fits(self, user: User | None) -> bool:
        """Whether the link still lets this person set his password."""
        return (
            user is not None and user.active and fingerprint(user.password_hash) == self.fingerprint
        )


def opened(token: str, keys: KeyRing, purpose: Purpose) -> Invite | None:
    """The link's content, which may have expired; None if it is not ours or for something else."""
    if len(token) > MAX_TOKEN_CHARS:
        return None
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    body, signature = sealed[:_BODY_BYTES], sealed[_BODY_BYTES:]
    if len(body) != _BODY_BYTES or len(signature) != SIGNATURE_BYTES:
        return None
    if not keys.verify(purpose, body, signature):
        return None
    expires_at = datetime.fromtimestamp(int.from_bytes(body[32:40], "big"), UTC)
    return Invite(purpose, UUID(bytes=body[:16]), UUID(bytes=body[16:32]), expires_at, body[40:])


def fingerprint(password_hash: str | None) -> bytes:
    """What tells one password hash from another, without being it."""
    return hashlib.sha256((password_hash or "").encode()).digest()[:_FINGERPRINT_BYTES]


def public_origin(settings: Settings) -> str:
    """Address under which people reach the page."""
    if settings.public_origins:
        return settings.public_origins[0].rstrip("/")
    return f"http://127.0.0.1:{settings.port}"
