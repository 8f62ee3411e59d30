"""Connections to one PostgreSQL datasource."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, cast

import asyncpg

from store.datasource.config import PostgresqlConfig
from store.datasource.errors import OwnDatabase, PoolBusy, RoleTooPowerful, Unreachable
from store.datasource.postgresql import connect, unreachable
from store.datasource.role import Identity, inspect_powers
from store.errors import Refusal

GIVE_BACK_WITHIN = timedelta(seconds=5)
_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class PostgresqlPool:
    """See `pools.ConnectionPool`."""

    def __init__(
        self,
        config: PostgresqlConfig,
        secret: str,
        private_hosts: Sequence[str],
        size: int,
        idle_seconds: float,
    ) -> None:
        self._size = size
        self._connections: asyncpg.Pool[Any] = asyncpg.create_pool(
            connect=partial(_connect, config=config, secret=secret, hosts=private_hosts),
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=idle_seconds,
            reset=_discard,
        )

    async def acquire(self, seconds: float) -> asyncpg.Connection:
        """See `pools.ConnectionPool`."""
        try:
            connections = await self._connections  # ready at first use; nothing connected yet
            return cast("asyncpg.Connection", await connections.acquire(timeout=seconds))
        except Refusal:
            raise
        except TimeoutError as error:
            if self._connections.get_size() < self._size:  # it was connecting
                raise Unreachable("The database did not answer in time.") from error
            raise PoolBusy(busy(self._size)) from error
        except _FAILURES as error:
            raise unreachable(error) from None

    async def problems(
        self, connection: asyncpg.Connection, own: Identity | None
    ) -> Sequence[RoleTooPowerful | OwnDatabase]:
        """See `pools.ConnectionPool`."""
        try:
            return await inspect_powers(connection, own)
        except _FAILURES as error:
            raise unreachable(error) from None

    async def give_back(self, connection: asyncpg.Connection) -> None:
        """See `pools.ConnectionPool`."""
        seconds = GIVE_BACK_WITHIN.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                # Waits until a cancelled query has ended at the server.
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
        except (*_FAILURES, TimeoutError):
            connection.terminate()
        with contextlib.suppress(*_FAILURES, TimeoutError):
            await self._connections.release(cast("Any", connection), timeout=seconds)

    async def close(self) -> None:
        """See `pools.ConnectionPool`."""
        try:
            async with asyncio.timeout(GIVE_BACK_WITHIN.total_seconds() + 60):
                await self._connections.close()
        except (*_FAILURES, TimeoutError):
            self._connections.terminate()


def busy(size: int) -> str:
    """What the model hears when all connections are in use."""
    return (
        f"All {size} connections to this datasource are in use. Try again when its queries have "
        "ended."
    )


async def _connect(
    *_: object, config: PostgresqlConfig, secret: str, hosts: Sequence[str], **options: Any
) -> asyncpg.Connection:
    return await connect(config, secret, hosts, **options)  # without the pool's empty URL


async def _discard(connection: asyncpg.Connection) -> None:
    # Settings, prepared statements, cursors, listeners, locks and temporary tables of the session.
    await connection.execute("DISCARD ALL")
