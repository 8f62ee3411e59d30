"""The one door to the data.

`Database.tenant_session` opens a transaction that sees one tenant's rows and nothing else: the
policies of ``migrations/`` compare every row with ``app.tenant_id``, which only this module sets.
Functions that must look across tenants (sign-in, housekeeping) are SECURITY DEFINER functions with
narrow results, called through `Database.session`, where no tenant is set and no row is visible.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from store.bus import Announce
from store.fault_points import reach
from store.wire import encode

# Every statement of the application's own is short; one that is not is a fault to be cut.
STATEMENT_TIMEOUT_MS = 15_000
# A refusal that comes quickly is better than a queue nobody sees.
POOL_TIMEOUT_SECONDS = 3.0
CONNECT_TIMEOUT_SECONDS = 5.0

_NOTICES = "notices"
_SET_TENANT = text("SELECT set_config('app.tenant_id', :tenant_id, true)")


def dumps(value: Any) -> str:
    """JSON text of a column."""
    return encode(value).decode()


async def clock(session: AsyncSession) -> datetime:
    """The database's wall clock: the one time that orders rows and ends sessions."""
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


def notices_of(session: AsyncSession) -> list[tuple[str, str]] | None:
    """Channels and payloads to be announced once the session's transaction has committed.

    None: nobody will, and the transaction sends its notices itself.
    """
    waiting: list[tuple[str, str]] | None = session.info.get(_NOTICES)
    return waiting


class Database:
    """A pool of connections as the application's role.

    Args:
        url: ``postgresql+asyncpg://…`` of the application's role.
        pool_size: Most connections this process opens.
        application_name: Shown in ``pg_stat_activity``.
        announce: Sends what a transaction has announced, after its commit; None where the
            transaction itself does (`store.bus.Publisher.announce`).
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        application_name: str,
        announce: Announce | None = None,
    ) -> None:
        self._announce = announce
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_pre_ping=False,
            # Parameters are people's texts; an error must not carry them into a log.
            hide_parameters=True,
            json_serializer=dumps,
            json_deserializer=orjson.loads,
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "command_timeout": STATEMENT_TIMEOUT_MS / 1000 + 5,
                "server_settings": {
                    "application_name": application_name,
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": "30000",
                    "timezone": "UTC",
                },
            },
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.pool_size = pool_size
        self._alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def in_use(self) -> int:
        """Connections that are lent out now, of `pool_size` at most."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, AsyncAdaptedQueuePool) else 0

    @asynccontextmanager
    async def tenant_session(self, tenant_id: UUID | str) -> AsyncIterator[AsyncSession]:
        """One transaction that sees `tenant_id`'s rows; commits on exit, rolls back on error."""
        async with self.session() as session:
            await session.execute(_SET_TENANT, {"tenant_id": str(tenant_id)})
            yield session

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """One transaction without a tenant: only SECURITY DEFINER functions show anything."""
        announce = self._announce
        notices: list[tuple[str, str]] | None = None if announce is None else []
        async with self._sessions(info={_NOTICES: notices}) as session:
            async with session.begin():
                yield session
            # At once: a cancel that comes while the connection is given back must not lose them.
            if announce is not None:
                if notices:
                    reach("K9")
                for channel, payload in notices or ():
                    announce(channel, payload)

    async def ask(self, statement: TextClause, parameters: dict[str, Any]) -> Sequence[Row[Any]]:
        """Rows of a statement that needs no tenant and no transaction: one round trip, not three.

        Only SECURITY DEFINER functions show anything, as in `session`.
        """
        async with self._alone.connect() as connection:
            return (await connection.execute(statement, parameters)).all()

    def lane(self, width: int) -> "Lane":
        """A part of the pool of its own for work that could use up all of it."""
        return Lane(self, width)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()


class Lane:
    """At most `width` of the pool's connections at a time; whoever comes then waits in line.

    The pool itself refuses whoever has waited for `POOL_TIMEOUT_SECONDS`. What comes by the
    thousand (every room of an edge, after the bus was cut) would be refused by the thousand, and
    would have everybody else refused as well.
    """

    def __init__(self, database: Database, width: int) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(width)

    @asynccontextmanager
    async def tenant_session(self, tenant_id: UUID | str) -> AsyncIterator[AsyncSession]:
        """As `Database.tenant_session`."""
        async with self._turns, self._database.tenant_session(tenant_id) as session:
            yield session
