"""Connections to one MySQL or MariaDB datasource.

A connection is used again only if its query was read to the end and the session was reset. One that
was left in the middle is closed, and ended at the server from another connection: closing alone
would let the query run on until it next writes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from store.datasource.config import MysqlConfig
from store.datasource.errors import OwnDatabase, PoolBusy, RoleTooPowerful, Unreachable
from store.datasource.mysql import (
    CONNECT_WITHIN,
    DRIVER_ERRORS,
    MysqlConnection,
    connect,
    end_at_server,
    unreachable,
)
from store.datasource.mysql_role import inspect_user
from store.datasource.postgresql_pool import busy
from store.datasource.role import Identity

GIVE_BACK_WITHIN = timedelta(seconds=5)


class MysqlPool:
    """See `pools.ConnectionPool`."""

    def __init__(
        self,
        config: MysqlConfig,
        secret: str,
        private_hosts: Sequence[str],
        size: int,
        idle_seconds: float,
    ) -> None:
        self._config = config
        self._secret = secret
        self._private_hosts = private_hosts
        self._size = size
        self._idle_seconds = idle_seconds
        self._free = asyncio.Semaphore(size)
        self._idle: deque[tuple[float, MysqlConnection]] = deque()  # the longest idle first
        self._closer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def acquire(self, seconds: float) -> MysqlConnection:
        """See `pools.ConnectionPool`."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise PoolBusy(busy(self._size)) from error
        try:
            while self._idle:
                _, connection = self._idle.pop()
                if not connection.is_broken:
                    return connection
                connection.close()
            left = timedelta(seconds=max(seconds - (time.monotonic() - started), 0.1))
            return await connect(
                self._config, self._secret, self._private_hosts, within=min(left, CONNECT_WITHIN)
            )
        except BaseException:
            self._free.release()
            raise

    async def problems(
        self, connection: MysqlConnection, own: Identity | None
    ) -> Sequence[RoleTooPowerful | OwnDatabase]:
        """See `pools.ConnectionPool`; our own database is never one of MySQL."""
        try:
            async with asyncio.timeout(CONNECT_WITHIN.total_seconds()):
                return (await inspect_user(connection)).problems
        except TimeoutError as error:
            raise Unreachable("The database did not answer in time.") from error
        except DRIVER_ERRORS as error:
            raise unreachable(error) from None

    async def give_back(self, connection: MysqlConnection) -> None:
        """See `pools.ConnectionPool`."""
        try:
            if await self._cleared(connection) and not self._is_closed:
                self._idle.append((time.monotonic(), connection))
                self._close_idle_later()
            else:
                await self._end(connection)
        finally:
            self._free.release()

    async def _cleared(self, connection: MysqlConnection) -> bool:
        """Whether nothing is left in the session."""
        if connection.is_broken or connection.is_reading:
            return False
        try:
            async with asyncio.timeout(GIVE_BACK_WITHIN.total_seconds()):
                await connection.query("ROLLBACK")
                await connection.reset()
        except (*DRIVER_ERRORS, TimeoutError):
            return False
        return True

    async def _end(self, connection: MysqlConnection) -> None:
        connection.close()
        await end_at_server(
            connection.address, self._config, self._secret, connection.id, GIVE_BACK_WITHIN
        )

    def _close_idle_later(self) -> None:
        if self._closer is None and self._idle:
            since = self._idle[0][0]
            self._closer = asyncio.get_running_loop().call_later(
                max(since + self._idle_seconds - time.monotonic(), 0.0), self._close_idle
            )

    def _close_idle(self) -> None:
        self._closer = None
        oldest = time.monotonic() - self._idle_seconds
        while self._idle and self._idle[0][0] <= oldest:
            self._idle.popleft()[1].close()
        self._close_idle_later()

    async def close(self) -> None:
        """See `pools.ConnectionPool`."""
        self._is_closed = True
        if self._closer is not None:
            self._closer.cancel()
        for _ in range(self._size):  # those in use come back first
            await self._free.acquire()
        while self._idle:
            self._idle.pop()[1].close()
