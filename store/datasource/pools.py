"""Connections to datasources: one pool per (datasource, version), bounded per tenant.

A tenant's slow queries use up the tenant's own slots and nobody else's. Idle connections close by
themselves, and a changed datasource gets a new pool. Every connection is given back rolled back and
discarded, also when its task was cancelled: the query is cancelled at the server first.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import asyncpg

from store.datasource.config import PostgresqlConfig, Source, parse_config
from store.datasource.errors import InvalidConfig, PoolBusy, Unreachable
from store.datasource.postgresql import connect, unreachable
from store.datasource.role import Identity, inspect_powers
from store.errors import Refusal

PER_DATASOURCE = 4
PER_TENANT = 8
IDLE = timedelta(seconds=60)
SLOT_WITHIN = timedelta(seconds=10)  # leaves most of a 30 s deadline to the query itself
ROLE_HOLDS = timedelta(seconds=60)  # how long a role is believed to be what it was
GIVE_BACK_WITHIN = timedelta(seconds=5)


@dataclass(slots=True)
class _Pool:
    version: int
    connections: "asyncpg.Pool[Any]"
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
        self._pools: dict[UUID, _Pool] = {}
        self._slots: dict[UUID, _Slots] = {}
        self._tasks: set[asyncio.Task[None]] = set()
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

    @contextlib.asynccontextmanager
    async def postgresql(
        self, source: Source, within: timedelta
    ) -> AsyncIterator[asyncpg.Connection]:
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
        started = time.monotonic()
        async with self.slot(source.tenant_id, within):
            pool = self._pool(source)
            left = self._patience(within) - (time.monotonic() - started)
            pool.users += 1
            try:
                connection = await self._acquire(pool, max(left, 0.1))
                try:
                    await self._check_role(pool, connection)
                    yield connection
                finally:
                    await self._shielded(self._give_back(pool, connection))
            finally:
                pool.users -= 1
                pool.used = time.monotonic()

    def _patience(self, within: timedelta) -> float:
        """Seconds to wait for a connection: what is left must be worth having it."""
        return min(within / 2, self._slot_within).total_seconds()

    def _pool(self, source: Source) -> _Pool:
        self._drop_unused()
        held = self._pools.get(source.id)
        if held is None or held.version != source.version:
            config = parse_config(source.kind, source.config)
            if not isinstance(config, PostgresqlConfig):
                raise InvalidConfig("This datasource is not a PostgreSQL database.")
            if held is not None:
                self._retire(self._pools.pop(source.id))
            connections = asyncpg.create_pool(
                connect=partial(
                    _connect, config=config, secret=source.secret, hosts=self.private_hosts
                ),
                min_size=0,
                max_size=self._per_datasource,
                max_inactive_connection_lifetime=self._idle,
                reset=_discard,
            )
            held = self._pools[source.id] = _Pool(source.version, connections)
        held.used = time.monotonic()
        return held

    async def _acquire(self, pool: _Pool, seconds: float) -> asyncpg.Connection:
        try:
            connections = await pool.connections  # ready at first use; nothing connected yet
            return cast("asyncpg.Connection", await connections.acquire(timeout=seconds))
        except Refusal:
            raise
        except TimeoutError as error:
            if pool.connections.get_size() < self._per_datasource:  # it was connecting
                raise Unreachable("The database did not answer in time.") from error
            raise PoolBusy(
                f"All {self._per_datasource} connections to this datasource are in use. Try "
                "again when its queries have ended."
            ) from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise unreachable(error) from None

    async def _check_role(self, pool: _Pool, connection: asyncpg.Connection) -> None:
        if time.monotonic() - pool.role_checked < ROLE_HOLDS.total_seconds():
            return
        if self._own is not None and self._own_identity is None:
            self._own_identity = await self._own()
        try:
            for problem in await inspect_powers(connection, self._own_identity):
                raise problem
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise unreachable(error) from None
        pool.role_checked = time.monotonic()

    async def _give_back(self, pool: _Pool, connection: asyncpg.Connection) -> None:
        seconds = GIVE_BACK_WITHIN.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                # Waits until a cancelled query has ended at the server.
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()
        with contextlib.suppress(
            OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError
        ):
            await pool.connections.release(cast("Any", connection), timeout=seconds)

    async def _shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run to the end whatever happens to the caller; the caller waits unless cancelled."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    def _drop_unused(self) -> None:
        oldest = time.monotonic() - self._idle
        for key in [
            key for key, pool in self._pools.items() if not pool.users and pool.used < oldest
        ]:
            self._retire(self._pools.pop(key))

    def _retire(self, pool: _Pool) -> None:
        """Close once its running queries have ended."""
        task = asyncio.create_task(_close(pool))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close everything; for the end of the process."""
        for key in list(self._pools):
            self._retire(self._pools.pop(key))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.threads.shutdown(wait=False, cancel_futures=True)


async def _connect(
    *_: object, config: PostgresqlConfig, secret: str, hosts: Sequence[str], **options: Any
) -> asyncpg.Connection:
    return await connect(config, secret, hosts, **options)  # without the pool's empty URL


async def _discard(connection: asyncpg.Connection) -> None:
    # Settings, prepared statements, cursors, listeners, locks and temporary tables of the session.
    await connection.execute("DISCARD ALL")


async def _close(pool: _Pool) -> None:
    try:
        async with asyncio.timeout(GIVE_BACK_WITHIN.total_seconds() + 60):
            await pool.connections.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.connections.terminate()
