"""The embedded Temporal: the real server with its Web UI, its state in one SQLite file.

    async with running() as temporal:
        await Client.connect(temporal.address)

Survives SIGKILL with its file; one process, so no protection against the loss of the machine.
"""

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from embedded.ports import LOOPBACK, free_port
from embedded.processes import Child, Command
from embedded.readiness import http_status, until_ready

START_WITHIN = timedelta(seconds=60)

DYNAMIC_CONFIG = {
    # History queues read 20 times a second by default: after 20 quick tasks every hop would
    # wait 45 ms.
    "history.transferProcessorMaxPollRPS": "5000",
    # Timers shorter than this fire this late: a retry after 50 ms would take 1 s by default.
    "history.timerProcessorMaxTimeShift": '"100ms"',
    # One partition: a single process gains nothing from more, and fairness is per partition.
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    # Tenants take turns by their fairness key instead of queueing behind one another's bursts.
    "matching.enableFairness": "true",
}
SQLITE_PRAGMAS = {"journal_mode": "wal", "synchronous": "normal"}
SEARCH_ATTRIBUTES = ("TenantId", "ProjectId", "ConversationId", "TurnStatus", "ToolName")


@dataclass(frozen=True, slots=True, kw_only=True)
class Temporal:
    """A running server. ``ui_port`` is None without the Web UI."""

    port: int
    ui_port: int | None
    http_port: int

    @property
    def address(self) -> str:
        """For ``Client.connect`` and ``EVERTURN_TEMPORAL_ADDRESS``."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def ui_url(self) -> str:
        """Base address of the Web UI; empty without it."""
        return f"http://{LOOPBACK}:{self.ui_port}" if self.ui_port else ""


def start_command(
    temporal: Temporal, *, db_file: Path | None = None, pid_file: Path | None = None
) -> Command:
    """The server's command: the one place that knows how Temporal is configured here."""
    program = Path(sys.executable).with_name("temporal")
    argv = [
        str(program), "server", "start-dev", "--ip", LOOPBACK, "--port", str(temporal.port),
        "--http-port", str(temporal.http_port), "--ui-disable-news-fetch",
    ]  # fmt: skip
    argv += ["--ui-port", str(temporal.ui_port)] if temporal.ui_port else ["--headless"]
    if db_file:
        argv += ["--db-filename", str(db_file)]
        for pragma, value in SQLITE_PRAGMAS.items():
            argv += ["--sqlite-pragma", f"{pragma}={value}"]
    for key, value in DYNAMIC_CONFIG.items():
        argv += ["--dynamic-config-value", f"{key}={value}"]
    for name in SEARCH_ATTRIBUTES:
        argv += ["--search-attribute", f"{name}=Keyword"]
    # The operator's own TEMPORAL_* profile is for clients of other servers; it must not leak in.
    env = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    env["TEMPORAL_VERSION_CHECK_DISABLED"] = "1"  # no calls home
    return Command(name="temporal", argv=argv, env=env, pid_file=pid_file)


async def start(
    command: Command, temporal: Temporal, hear: Callable[[str], None] | None = None
) -> Child:
    """Start the server and wait until its namespace answers.

    Raises:
        ChildEnded: it ended or never answered.
    """

    async def ready() -> bool:
        return await http_status(temporal.http_port, "/api/v1/namespaces/default") == 200

    child = Child(command, hear)
    try:
        await until_ready(child, ready, within=START_WITHIN)
    except BaseException:
        await child.stop()
        raise
    return child


@asynccontextmanager
async def running(
    db_file: Path | None = None, port: int | None = None, ui_port: int | None = None
) -> AsyncIterator[Temporal]:
    """A server for as long as the block runs.

    Args:
        db_file: Where its state is kept; in memory by default.
        port: Loopback port; a free one by default.
        ui_port: Port of the Web UI; without one there is none.
    """
    temporal = Temporal(port=port or free_port(), ui_port=ui_port, http_port=free_port())
    async with await start(start_command(temporal, db_file=db_file), temporal):
        yield temporal
