"""``python -m embedded`` as a user runs it, on ports and a data folder of its own."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from embedded import demo_data
from embedded.ports import LOOPBACK, free_port
from embedded.processes import ROOT

MARK = "EVERTURN_TEST_MARK"
UP_WITHIN = 90.0
SETTINGS = (
    "EVERTURN_PORT", "EVERTURN_POSTGRES_PORT", "EVERTURN_TEMPORAL_PORT",
    "EVERTURN_TEMPORAL_UI_PORT",
)  # fmt: skip


def distinct_ports() -> Iterator[str]:
    """Free ports, each another one: what was given back a moment ago may be given out again."""
    seen: set[int] = set()
    while True:
        port = free_port()
        if port not in seen:
            seen.add(port)
            yield str(port)


class EmbeddedCommand:
    """One run of the command; several may follow one another in one data folder.

    It serves a page of one line: what the page needs and does is tested elsewhere.

    Args:
        data_dir: The installation's folder.
        archives: Where the demo data's archive is kept between test runs; None runs without demo.
        settings: Further environment variables.
    """

    def __init__(
        self, data_dir: Path, archives: Path | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self._archives = archives
        self.settings = dict(zip(SETTINGS, distinct_ports(), strict=False)) | {
            "EVERTURN_DATA_DIR": str(data_dir),
            "EVERTURN_DEMO": "1" if archives else "0",
            "EVERTURN_PAGE_DIR": str(data_dir.with_suffix(".page")),
            MARK: str(uuid.uuid4()),
            **(settings or {}),
        }
        self.output_file = data_dir.with_suffix(".out")
        self.wrapper: list[str] = []
        # A test run that is killed takes it along.
        self.arguments = ["-m", "embedded", "--with-parent", str(os.getpid())]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.settings['EVERTURN_PORT']}"

    @property
    def ui_url(self) -> str:
        return f"http://{LOOPBACK}:{self.settings['EVERTURN_TEMPORAL_UI_PORT']}"

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    @property
    def logs(self) -> str:
        """The end of what the servers said."""
        logs = [(self.data_dir / "log" / f"{name}.log") for name in ("postgres", "temporal")]
        return "\n".join(log.read_text()[-3000:] for log in logs if log.exists())

    @property
    def password(self) -> str:
        """As the command prints it."""
        match = re.search(r"password +(\S+)", self.output)
        assert match, self.output
        return match[1]

    def pid_of(self, name: str) -> int:
        return int((self.data_dir / "run" / f"{name}.pid").read_text())

    def start(self) -> Self:
        """Start without waiting."""
        page = Path(self.settings["EVERTURN_PAGE_DIR"])
        page.mkdir(exist_ok=True)
        (page / "index.html").write_text("<title>Everturn</title>")
        if self._archives and (archive := self._archives / demo_data.ARCHIVE).exists():
            cache = self.data_dir / "demo-data"
            self.data_dir.mkdir(mode=0o700, exist_ok=True)
            cache.mkdir(exist_ok=True)
            shutil.copy(archive, cache)
        env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [*self.wrapper, sys.executable, *self.arguments],
                cwd=ROOT,
                env={**env, **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    async def until(
        self,
        condition: Callable[[], bool],
        *,
        within: float = 30.0,
        why: Callable[[], str] = lambda: "",
    ) -> float:
        """Wait for a condition; returns the seconds it took."""
        started = time.monotonic()
        while not condition():
            took = time.monotonic() - started
            assert took < within, f"not within {within} s: {why()}\n{self.output}\n{self.logs}"
            await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def until_up(self) -> Self:
        def up_or_ended() -> bool:
            assert self.process
            return "Everturn is up." in self.output or self.process.poll() is not None

        await self.until(up_or_ended, within=UP_WITHIN)
        assert self.process
        assert self.process.poll() is None, self.output
        cache = self.data_dir / "demo-data" / demo_data.ARCHIVE
        if self._archives and cache.exists():
            shutil.copy(cache, self._archives)
        return self

    async def ends(self, within: float = 30.0) -> int:
        """Wait for the command's end and return its exit code."""
        process = self.process
        assert process
        await self.until(lambda: process.poll() is not None, within=within)
        return process.returncode

    async def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            await self.ends()

    def signal(self, which: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(which)

    def processes(self) -> dict[int, str]:
        """Everything alive that this command started, directly or not."""
        mark = f"{MARK}={self.settings[MARK]}".encode()
        parents = dict(_parents())
        found = {pid for pid in parents if mark in _read(pid, "environ")}
        # PostgreSQL's own children write their title over their environment.
        found |= {pid for pid, parent in parents.items() if parent in found}
        return {pid: _read(pid, "cmdline").replace(b"\0", b" ").decode() for pid in found}

    async def __aenter__(self) -> Self:
        return await self.start().until_up()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _parents() -> Iterator[tuple[int, int]]:
    """Pid and parent of every process that is not a mere entry waiting for its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _read(int(entry.name), "stat")):
            state, parent = stat.rpartition(b")")[2].split()[:2]
            if state != b"Z":
                yield int(entry.name), int(parent)
