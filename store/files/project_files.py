"""The files of projects: one folder each, the same for edges and workers.

The folder is the truth: how full it is is measured when something is written, under the project's
lock, so that writers that come together never pass the limit together (docs/decisions/0022).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Protocol, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import delete, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from store import tenants
from store.database import Database
from store.errors import NotFound, Unavailable
from store.fault_points import reach
from store.files.errors import PathRefused, disk
from store.files.folder import Entry, Folder
from store.files.incoming import Incoming, sweep
from store.files.paths import Names
from store.limits import TenantLimits
from store.tables import FileRemoval, Project

log = structlog.get_logger(__name__)

THREADS = 8
# Transactions that write files hold a connection while the disk works.
WRITING_CONNECTIONS = 2
CHUNK_BYTES = 256 * 1024
MAX_REMOVALS = 200

T = TypeVar("T")
Also = Callable[[AsyncSession], Awaitable[object]]

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('files ' || :project, 0))")
_DUE = text("SELECT id, tenant_id, project_id, path FROM file_removals_due(:most)")


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


@dataclass(slots=True)
class OpenFile:
    """A file that is being read. Whatever is written meanwhile, it stays what it was."""

    entry: Entry
    _file: BufferedReader
    _files: "ProjectFiles"

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start` on, piece by piece."""
        while length > 0:
            read = partial(self._read, start, min(length, CHUNK_BYTES))
            chunk = await self._files.run_to_its_end(read)
            if not chunk:
                return  # somebody has cut it short, past us
            yield chunk
            start += len(chunk)
            length -= len(chunk)

    def _read(self, start: int, length: int, _stop: Event) -> bytes:
        self._file.seek(start)
        return self._file.read(length)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


class Receiver:
    """Takes a new content in, piece by piece."""

    def __init__(self, files: "ProjectFiles", incoming: Incoming) -> None:
        self._files = files
        self._pending = bytearray()
        self.incoming = incoming

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self.incoming.size + len(self._pending)

    async def write(self, data: bytes) -> None:
        """Take more of it."""
        self._pending += data
        if len(self._pending) >= CHUNK_BYTES:
            await self._flush()

    async def end(self) -> None:
        """That was all of it."""
        await self._flush()
        await self._files.run_to_its_end(lambda _stop: self.incoming.flush())

    async def _flush(self) -> None:
        data, self._pending = bytes(self._pending), bytearray()
        await self._files.run_to_its_end(lambda _stop: self.incoming.write(data))


class ProjectFiles:
    """All project files of the installation, for one process.

    Args:
        files_dir: `Settings.files_root`.
    """

    def __init__(self, database: Database, files_dir: Path) -> None:
        self._database = database
        self._lane = database.lane(WRITING_CONNECTIONS)
        self._files_dir = files_dir.absolute()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    def close(self) -> None:
        """End; work that has not begun is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def folder(self, tenant_id: UUID, project_id: UUID) -> Folder:
        """A project's folder, for work in threads (`run`)."""
        return Folder(self._files_dir, tenant_id, project_id)

    async def run(self, work: Callable[[Event], T]) -> T:
        """Do blocking work in a thread; it is told by its event that nobody waits any more.

        Raises:
            Unavailable: The disk is in the way.
        """
        stop = Event()
        try:
            with disk():
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        finally:
            stop.set()

    async def run_to_its_end(self, work: Callable[[Event], T]) -> T:
        """As `run`, but the work is over when this returns or raises, also when cancelled.

        For work on descriptors, which must not be closed meanwhile, and on what a lock protects.
        """
        task = asyncio.ensure_future(self.run(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            raise

    # --- reading --------------------------------------------------------------------------------

    async def entries(
        self, tenant_id: UUID, project_id: UUID, *, prefix: str, after: Names | None, limit: int
    ) -> list[Entry]:
        """Files whose paths begin with `prefix`, in the order of their names.

        Args:
            after: Names of the last file of the page before.
        """
        folder = self.folder(tenant_id, project_id)

        def listed(stop: Event) -> list[Entry]:
            wanted = (
                entry
                for entry in folder.walk(stop)
                if entry.path.startswith(prefix) and (after is None or entry.names > after)
            )
            return list(islice(wanted, limit))

        return await self.run(listed)

    async def open(self, tenant_id: UUID, project_id: UUID, names: Names) -> OpenFile:
        """Open a file; the caller closes it.

        Raises:
            NotFound: There is none.
            PathRefused: A link or a device is there, or on the way.
        """
        folder = self.folder(tenant_id, project_id)

        def opened(_stop: Event) -> OpenFile:
            file, entry = folder.open(names)
            return OpenFile(entry, file, self)

        return await self._owned(opened)

    # --- writing --------------------------------------------------------------------------------

    async def check_room(
        self, tenant_id: UUID, project_id: UUID, names: Names, size: int, limits: TenantLimits
    ) -> None:
        """Hold a file that is announced against the limits, before any of it is taken.

        Raises:
            TooLarge: It would pass one.
            PathRefused: A link or a device is there, or on the way.
        """
        folder = self.folder(tenant_id, project_id)
        await self.run(lambda stop: folder.check_room(names, size, limits, stop))

    @asynccontextmanager
    async def receiving(self, *, durable: bool = True) -> AsyncIterator[Receiver]:
        """Take in a new content; it is gone afterwards unless `keep` put it in its place."""
        incoming = await self._owned(lambda _stop: Incoming(self._files_dir, durable=durable))
        try:
            yield Receiver(self, incoming)
        finally:
            incoming.close()

    async def keep(
        self,
        received: Receiver,
        tenant_id: UUID,
        project_id: UUID,
        names: Names,
        *,
        also: Also | None = None,
    ) -> Entry:
        """Put what was received in its place.

        Args:
            also: Checks and records in the same transaction, before anything is changed.

        Raises:
            NotFound: The project is gone.
            TooLarge: A limit would be passed; what was there before stays.
            Conflict: A folder stands there, or a file on the way.
            PathRefused: A link or a device is there, or on the way.
        """
        folder = self.folder(tenant_id, project_id)
        await received.end()
        reach("K13")
        async with self._locked(tenant_id, project_id) as session:
            limits = TenantLimits.of((await tenants.get(session)).limits)
            if also is not None:
                await also(session)
            return await self.run_to_its_end(
                lambda stop: folder.accept(received.incoming, names, limits, stop)
            )

    async def write(
        self,
        tenant_id: UUID,
        project_id: UUID,
        names: Names,
        data: bytes,
        *,
        durable: bool = True,
    ) -> Entry:
        """Give a file a new content; raises as `keep` does."""
        async with self.receiving(durable=durable) as received:
            await received.write(data)
            return await self.keep(received, tenant_id, project_id, names)

    async def delete(
        self, tenant_id: UUID, project_id: UUID, names: Names, *, also: Also | None = None
    ) -> Entry:
        """Delete a file.

        Raises:
            NotFound: There is none.
            PathRefused: A link or a device is there, or on the way.
        """
        folder = self.folder(tenant_id, project_id)
        async with self._locked(tenant_id, project_id) as session:
            if also is not None:
                await also(session)
            return await self.run_to_its_end(lambda _stop: folder.delete(names))

    # --- what is left behind ----------------------------------------------------------------------

    async def sweep(self) -> int:
        """Remove what writers that died have left; how many files."""
        return await self.run(lambda _stop: sweep(self._files_dir))

    async def carry_out_removals(self) -> bool:
        """Remove folders of projects that are gone, and results of conversations that are.

        Others may do the same at the same time.

        Returns:
            Whether there may be more to be done at once.
        """
        async with self._database.session() as session:
            due = (await session.execute(_DUE, {"most": MAX_REMOVALS})).all()
        done = 0
        for removal_id, tenant_id, project_id, path in due:
            try:
                await self._carry_out(removal_id, tenant_id, project_id, path)
                done += 1
            except Exception as exc:  # noqa: BLE001 -- one must not keep the rest waiting
                log.warning(
                    "files_not_removed", project_id=str(project_id), error=type(exc).__name__
                )
        return done == MAX_REMOVALS

    async def _carry_out(
        self, removal_id: UUID, tenant_id: UUID, project_id: UUID, path: str | None
    ) -> None:
        folder = self.folder(tenant_id, project_id)
        async with self._lane.tenant_session(tenant_id) as session:
            await session.execute(_LOCK, {"project": str(project_id)})
            await self.run_to_its_end(partial(_removed, folder, path))
            await session.execute(delete(FileRemoval).where(FileRemoval.id == removal_id))

    # --- means ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _locked(self, tenant_id: UUID, project_id: UUID) -> AsyncIterator[AsyncSession]:
        """A transaction in which nobody else writes files of the project, nor deletes it."""
        try:
            async with self._lane.tenant_session(tenant_id) as session:
                await session.execute(_LOCK, {"project": str(project_id)})
                exists = select(Project.id).where(Project.id == project_id)
                if await session.scalar(exists.with_for_update(read=True, key_share=True)) is None:
                    raise NotFound
                yield session
        except PoolTimeout as error:
            raise Unavailable("Too much is going on here; try again.", retry_after=1) from error

    async def _owned(self, opening: Callable[[Event], C]) -> C:
        """As `run`; what it opens is closed when nobody waits for it any more."""
        task = asyncio.ensure_future(self.run(opening))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_close_result)
            raise


def _close_result(task: "asyncio.Task[C]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _removed(folder: Folder, path: str | None, _stop: Event) -> None:
    if path is None:
        folder.remove()
        return
    # Somebody may have deleted it, or put something else there.
    with contextlib.suppress(NotFound, PathRefused):
        folder.delete(tuple(path.split("/")))
