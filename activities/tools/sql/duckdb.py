"""Queries on a project's files by DuckDB, each in a process of its own.

DuckDB reads files by name, loads extensions and is large: a query that finds a way around what it
is told finds itself in a process that has been given the descriptors of the datasource's files,
no environment, no right to write and little memory. Ending the process ends the query.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from activities.tools.sql.engine import MAX_COLUMNS, MAX_TABLES, QueryResult, Table, Target, limits
from activities.tools.sql.guard import MAX_QUERY_BYTES, refused
from activities.tools.tool import ToolError, ToolFailed, ToolRefused, ToolTooLarge, ToolUnavailable
from store.datasource.config import DuckdbConfig, parse_config
from store.datasource.duckdb import BoundFile, bound_files
from store.datasource.errors import InvalidConfig
from store.datasource.pools import Pools
from store.texts import clean

ROOT = Path(__file__).resolve().parents[3]
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_MESSAGE_CHARS = 1000
SPARE_FOR = timedelta(seconds=60)  # how long a process waits for a query that may come

_HEADER = struct.Struct("!II")
_START = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r});"
    "from activities.tools.sql.duckdb_process import main; main()"
)


class DuckdbProcess:
    """A process that waits for one query."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls) -> "DuckdbProcess":
        """Start one; it is ready when its imports are done."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", _START,
                stdin=theirs.fileno(), stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}, cwd="/", start_new_session=True,
                limit=MAX_ANSWER_BYTES,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    async def answer(self, job: Mapping[str, Any], files: list[BoundFile]) -> dict[str, Any]:
        """Its answer to a job.

        Raises:
            ToolUnavailable: It ended without one.
        """
        loop = asyncio.get_running_loop()
        text = json.dumps(job).encode()
        try:
            ready = await loop.sock_recv(self._channel, 1)
            if not ready:
                raise ConnectionError
            socket.send_fds(
                self._channel,
                [_HEADER.pack(len(text), len(files))],
                [file.descriptor for file in files],
            )
            await loop.sock_sendall(self._channel, text)
            found: dict[str, Any] = json.loads(await self._said())
        except (OSError, ValueError) as error:
            raise ToolUnavailable(
                "The query ended the process it ran in. Ask for less at once, or for simpler "
                "expressions."
            ) from error
        return found

    async def _said(self) -> bytes:
        output, data = self._process.stdout, b""
        while output is not None and len(data) <= MAX_ANSWER_BYTES:
            piece = await output.read(MAX_ANSWER_BYTES)
            if not piece:
                break
            data += piece
        return data

    async def end(self) -> None:
        """End it, whatever it does."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class DuckdbEngine:
    """Queries on datasources of kind ``duckdb``."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._spare: asyncio.Task[DuckdbProcess] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._retirement: asyncio.TimerHandle | None = None

    async def query(self, target: Target, query: str) -> QueryResult:
        """See `Engine.query`."""
        if "\0" in query:
            raise refused("text", "the query holds a NUL character.")
        if len(query.encode(errors="replace")) > MAX_QUERY_BYTES:
            raise refused("length", f"a query has at most {MAX_QUERY_BYTES // 1024} KiB.")
        began = time.monotonic()
        found = await self._run(target, {"query": clean(query), "skip": target.skip})
        return QueryResult(
            columns=[
                {"name": clean(column["name"]), "type": column["type"]}
                for column in found["columns"]
            ],
            rows=found["rows"],
            truncated=found["truncated"],
            more=found["more"],
            elapsed_ms=round((time.monotonic() - began) * 1000),
        )

    async def tables(self, target: Target, table: str | None) -> list[Table]:
        """See `Engine.tables`."""
        found = await self._run(target, {"most": 10 * MAX_TABLES})
        tables = {
            (row["schema"], row["name"]): Table(
                name=row["name"] if row["name"].isidentifier() and row["schema"] == "main"
                else row["quoted"],
                columns=row["columns"][:MAX_COLUMNS],
                row_estimate=row["size"],
            )
            for row in found["tables"]
            if table is None
            or table in {row["name"], row["quoted"], f"{row['schema']}.{row['name']}"}
        }  # fmt: skip
        for schema, name, kind, columns, target_table, target_columns in found["keys"]:
            known = tables.get((schema, name))
            if known is None:
                continue
            if kind == "PRIMARY KEY":
                known.primary_key = columns
            else:
                references = {"table": target_table, "columns": target_columns}
                known.foreign_keys.append({"columns": columns, "references": references})
        return list(tables.values())[: MAX_TABLES + 1]

    async def _run(self, target: Target, job: Mapping[str, Any]) -> dict[str, Any]:
        config = parse_config(target.source.kind, target.source.config)
        if not isinstance(config, DuckdbConfig):
            raise InvalidConfig("This datasource is not files for DuckDB.")
        async with (
            limits(target.within),
            self._pools.slot(target.source.tenant_id, target.within),
        ):
            with contextlib.ExitStack() as stack:
                files = await asyncio.get_running_loop().run_in_executor(
                    self._pools.threads, stack.enter_context, bound_files(target.folder, config)
                )
                process = await self._take()
                try:
                    described = [
                        {"table": f.table, "format": f.format, "compression": f.compression}
                        for f in files
                    ]
                    found = await process.answer({**job, "files": described}, files)
                finally:
                    self._end(process)
            if "error" in found:
                raise _tool_error(found["error"], found["message"])
            return found

    async def _take(self) -> DuckdbProcess:
        """A process; and another is started meanwhile, for the next."""
        spare, self._spare = self._spare, asyncio.create_task(DuckdbProcess.start())
        if self._retirement is None:
            self._pools.when_closed(self.close)
        else:
            self._retirement.cancel()
        self._retirement = asyncio.get_running_loop().call_later(
            SPARE_FOR.total_seconds(), self._retire
        )
        if spare is None:
            return await DuckdbProcess.start()
        return await spare

    async def close(self) -> None:
        """End every process."""
        if self._retirement is not None:
            self._retirement.cancel()
        self._retire()
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    def _retire(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._keep(_end_spare(spare))

    def _end(self, process: DuckdbProcess) -> None:
        self._keep(process.end())

    def _keep(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _end_spare(spare: "asyncio.Task[DuckdbProcess]") -> None:
    await (await spare).end()


def _tool_error(kind: str, message: str) -> ToolError:
    message = clean(message.partition("\n\nLINE ")[0])[:MAX_MESSAGE_CHARS]
    message = message.replace("/proc/self/fd/", "file ")
    match kind:
        case "refused":
            return ToolRefused(message)
        case "too_large":
            return ToolTooLarge(
                "The query needs more memory than one query has. Filter earlier, aggregate, or "
                "ask for fewer columns."
            )
        case _:
            return ToolFailed(message)
