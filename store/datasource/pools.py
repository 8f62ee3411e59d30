"""Connections to datasources: one pool per (datasource, version), bounded per tenant.

A tenant's slow queries use up the tenant's own slots and nobody else's. Idle connections close by
themselves, and a changed datasource gets a new pool. Every connection is given back with nothing
left in it, also when its task was cancelled: the query is ended at the server first.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg

from store.datasource.config import Config, MysqlConfig, PostgresqlConfig, Source, parse_config
from store.datasource.errors import InvalidConfig, OwnDatabase, PoolBusy, RoleTooPowerful
from store.datasource.mysql import MysqlConnection
from store.datasource.mysql_pool import MysqlPool
from store.datasource.postgresql_pool import PostgresqlPool
from store.datasource.role import Identity

PER_DATASOURCE = 4
PER_TENANT = 8
IDLE = timedelta(seconds=60)
SLOT_WITHIN = timedelta(seconds=10)  # leaves most of a 30 s deadline to the query itself
ROLE_HOLDS = timedelta(seconds=60)  # how long a role is believed to be what it was

C = TypeVar("C")


class ConnectionPool(Protocol[C]):
    """Connections to one version of one datasource."""

    async def acquire(self, seconds: float) -> C:
        """A connection with nothing in it.

        Raises:
            Refusal: There is none, in words for people.
        """
        ...

    async def problems(
        self, connection: C, own: Identity | None
    ) -> Sequence[RoleTooPowerful | OwnDatabase]:
        """Why its role may not be used any more."""
        ...

    async def give_back(self, connection: C) -> None:
        """Take a connection whatever state it is in; nothing of it goes on at the server."""
        ...

    async def close(self) -> None:
        """Close once its running queries have ended."""
        ...


@dataclass(slots=True)
class _Held:
    version: int
    pool: ConnectionPool[Any]
    role_checked: float = float("-inf")
    users: int = 0
    used: float = 0.0


@dataclass(slots=True)
class _Slots:
    semaphore: asyncio.Semaphore
    users: int = 0


class Pools:
    """All pools of one process.

    Args:
        private_hosts: `Settings.private_hosts`.
        files_dir: `Settings.files_root`.
        own: Tells which database is ours, see `check.own_identity`; asked once, at first use.
            Without it, or while it fails, our database is still recognised by its tables.
    """

    def __init__(
        self,
        private_hosts: Sequence[str],
        files_dir: Path,
        own: Callable[[], Awaitable[Identity | None]] | None = None,
        *,
        per_datasource: int = PER_DATASOURCE,
        per_tenant: int = PER_TENANT,
        idle: timedelta = IDLE,
        slot_within: timedelta = SLOT_WITHIN,
    ) -> None:
        self.files_dir = files_dir
        self.private_hosts = tuple(private_hosts)
        self._own = own
        self._own_identity: Identity | None = None
        self._per_datasource = per_datasource
        self._per_tenant = per_tenant
        self._idle = idle.total_seconds()
        self._slot_within = slot_within
        self._pools: dict[UUID, _Held] = {}
        self._slots: dict[UUID, _Slots] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: list[Callable[[], Awaitable[None]]] = []
        # Not the loop's default threads: files being read slowly must not hold up anything else.
        self.threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="datasource")

    @contextlib.asynccontextmanager
    async def slot(self, tenant_id: UUID, within: timedelta) -> AsyncIterator[None]:
        """One of the tenant's places; for engines that need no connection as well.

        Raises:
            PoolBusy: None became free in time.
        """
        slots = self._slots.setdefault(tenant_id, _Slots(asyncio.Semaphore(self._per_tenant)))
        slots.users += 1
        try:
            try:
                async with asyncio.timeout(self._patience(within)):
                    await slots.semaphore.acquire()
            except TimeoutError as error:
                raise PoolBusy(
                    f"{self._per_tenant} queries are running for this tenant already and none "
                    "ended in time. Try again when they have, or ask for less."
                ) from error
            try:
                yield
            finally:
                slots.semaphore.release()
        finally:
            slots.users -= 1
            if not slots.users:
                self._slots.pop(tenant_id, None)

    def postgresql(
        self, source: Source, within: timedelta
    ) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection to `source`, outside a transaction, whose role was found acceptable.

        Args:
            source: The datasource.
            within: For waiting and connecting; the rest of the caller's deadline.

        Raises:
            InvalidConfig: Its config is not one of PostgreSQL.
            AddressNotAllowed: Its host may not be reached.
            RoleTooPowerful, OwnDatabase: It may not be used any more.
            Unreachable: No connection.
            PoolBusy: None free in time.
        """

        def make(config: Config) -> ConnectionPool[asyncpg.Connection]:
            if not isinstance(config, PostgresqlConfig):
                raise InvalidConfig("This datasource is not a PostgreSQL database.")
            return PostgresqlPool(
                config, source.secret, self.private_hosts, self._per_datasource, self._idle
            )

        return self._connection(source, within, make)

    def mysql(
        self, source: Source, within: timedelta
    ) -> contextlib.AbstractAsyncContextManager[MysqlConnection]:
        """The same for MySQL and MariaDB."""

        def make(config: Config) -> ConnectionPool[MysqlConnection]:
            if not isinstance(config, MysqlConfig):
                raise InvalidConfig("This datasource is not a MySQL or MariaDB database.")
            return MysqlPool(
                config, source.secret, self.private_hosts, self._per_datasource, self._idle
            )

        return self._connection(source, within, make)

    @contextlib.asynccontextmanager
    async def _connection(
        self, source: Source, within: timedelta, make: Callable[[Config], ConnectionPool[C]]
    ) -> AsyncIterator[C]:
        started = time.monotonic()
        async with self.slot(source.tenant_id, within):
            held = self._pool(source, make)
            left = self._patience(within) - (time.monotonic() - started)
            held.users += 1
            try:
                connection: C = await held.pool.acquire(max(left, 0.1))
                try:
                    await self._check_role(held, connection)
                    yield connection
                finally:
                    await self._shielded(held.pool.give_back(connection))
            finally:
                held.users -= 1
                held.used = time.monotonic()

    def _patience(self, within: timedelta) -> float:
        """Seconds to wait for a connection: what is left must be worth having it."""
        return min(within / 2, self._slot_within).total_seconds()

    def _pool(self, source: Source, make: Callable[[Config], ConnectionPool[C]]) -> _Held:
        self._drop_unused()
        held = self._pools.get(source.id)
        if held is None or held.version != source.version:
            pool = make(parse_config(source.kind, source.config))
            if held is not None:
                self._retire(self._pools.pop(source.id))
            held = self._pools[source.id] = _Held(source.version, pool)
        held.used = time.monotonic()
        return held

    async def _check_role(self, held: _Held, connection: object) -> None:
        if time.monotonic() - held.role_checked < ROLE_HOLDS.total_seconds():
            return
        if self._own is not None and self._own_identity is None:
            self._own_identity = await self._own()
        for problem in await held.pool.problems(connection, self._own_identity):
            raise problem
        held.role_checked = time.monotonic()

    async def _shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run to the end whatever happens to the caller; the caller waits unless cancelled."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    def _drop_unused(self) -> None:
        oldest = time.monotonic() - self._idle
        for key in [
            key for key, held in self._pools.items() if not held.users and held.used < oldest
        ]:
            self._retire(self._pools.pop(key))

    def _retire(self, held: _Held) -> None:
        """Close once its running queries have ended."""
        task = asyncio.create_task(held.pool.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def when_closed(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have something else closed along with the pools."""
        self._closing.append(close)

    async def close(self) -> None:
        """Close everything; for the end of the process."""
        for close in self._closing:
            await close()
        for key in list(self._pools):
            self._retire(self._pools.pop(key))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.threads.shutdown(wait=False, cancel_futures=True)
