"""What an edge asks the database for every socket, for many sockets in one statement.

When all edges restart, thousands of clients are back within seconds. Each asks the same two
questions (whose credential is this, may he be in this room), and while one statement is on its way
the questions of all others collect for the next: two connections carry any storm. What cannot be
answered in time is refused with a moment to come back at, drawn by lot so that not all choose the
same one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import text

from api import problems
from store.access import Role, role_named
from store.database import Database
from store.errors import Unavailable
from store.limits import TenantLimits
from store.principal import Principal

log = structlog.get_logger(__name__)

MAX_BATCH = 500
MAX_WAITING = 5_000
PATIENCE_SECONDS = 5.0
# Whoever is refused comes back after a moment within this range.
RETRY_SECONDS = (1.0, 5.0)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_PRINCIPALS = text("SELECT * FROM find_principals(:sessions, :tokens)")
_MEMBERSHIPS = text("SELECT * FROM live_memberships(:projects, :users)")
_HEADS = text("SELECT * FROM room_heads(:projects)")


def overloaded() -> Unavailable:
    """The refusal of whoever cannot be served now."""
    return Unavailable(
        "The server is busy; try again shortly.",
        retry_after=random.uniform(*RETRY_SECONDS),  # noqa: S311 -- spreads, hides nothing
    )


class Batched(Generic[K, V]):
    """Answers questions in batches: while one is being asked, the next collects.

    An answer is never older than its question.

    Args:
        ask: Finds what there is for some keys.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._waiting: dict[K, asyncio.Future[tuple[V | None, Exception | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What there is for `key`.

        Raises:
            Unavailable: Too many ask, or the database is away or slow.
        """
        answer = self._waiting.get(key)
        if answer is None:
            if len(self._waiting) >= MAX_WAITING:
                raise overloaded()
            answer = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="lookups")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                # Others may wait for the same answer: who gives up does so for himself.
                value, error = await asyncio.shield(answer)
        except TimeoutError:
            raise overloaded() from None
        if error is None:
            return value
        if problems.away(error) is not None:
            raise overloaded() from None
        raise RuntimeError("a lookup failed") from error

    async def _run(self) -> None:
        try:
            while self._waiting:
                keys = list(islice(self._waiting, MAX_BATCH))
                asked = [(key, self._waiting.pop(key)) for key in keys]
                found: Mapping[K, V] = {}
                error: Exception | None = None
                try:
                    found = await self._ask(keys)
                except Exception as exc:  # noqa: BLE001 -- whoever asked hears of it
                    error = exc
                    log.warning("lookup_failed", error=type(exc).__name__, waiting=len(keys))
                for key, answer in asked:
                    answer.set_result((found.get(key), error))
        finally:
            self._task = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What somebody showed: the hash of a session's cookie, or of an API token."""

    kind: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """Whoever a credential belongs to, and the limits of his tenant."""

    principal: Principal
    limits: TenantLimits


class Lookups:
    """The questions that every connection asks.

    Attributes:
        credentials: Whose a credential is.
        roles: A person's role in a project, by ids of project and person.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.credentials: Batched[Credential, Known] = Batched(self._principals)
        self.roles: Batched[tuple[UUID, UUID], Role] = Batched(self.memberships)

    async def _principals(self, shown: Sequence[Credential]) -> Mapping[Credential, Known]:
        rows = await self._database.ask(
            _PRINCIPALS,
            {
                "sessions": [each.hash for each in shown if each.kind == "session"],
                "tokens": [each.hash for each in shown if each.kind == "token"],
            },
        )
        return {
            Credential("session" if row.session_id else "token", bytes(row.hash)): Known(
                principal_of_row(row), TenantLimits.of(row.limits)
            )
            for row in rows
        }

    async def memberships(
        self, asked: Sequence[tuple[UUID, UUID]]
    ) -> Mapping[tuple[UUID, UUID], Role]:
        """Roles in projects, by ids of project and person; whoever has none is absent."""
        rows = await self._database.ask(
            _MEMBERSHIPS,
            {"projects": [project for project, _ in asked], "users": [user for _, user in asked]},
        )
        found: dict[tuple[UUID, UUID], Role] = {}
        for row in rows:
            role = role_named(row.role)
            if role is not None:
                found[row.project_id, row.user_id] = role
        return found

    async def heads(self, projects: Sequence[UUID]) -> dict[UUID, int]:
        """Numbers of the newest events of some rooms."""
        rows = await self._database.ask(_HEADS, {"projects": list(projects)})
        return {row.project_id: row.head for row in rows}


def principal_of_row(row: Any) -> Principal:
    """The principal of a row of ``find_principals`` or ``take_socket_ticket``."""
    scopes = getattr(row, "scopes", None)
    return Principal(
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        email=row.email,
        name=row.name,
        role=row.role,
        installation_admin=row.installation_admin,
        session_id=row.session_id,
        token_id=getattr(row, "token_id", None),
        expires_at=row.expires_at,
        **({} if scopes is None else {"scopes": frozenset(scopes)}),
    )
