"""Child processes: started tied to this one, read line by line, stopped in order.

A child never outlives its parent: the kernel signals it when the parent ends for any reason
(see ``launch``). That tie belongs to the *thread* that started the child, so start children from
the main thread.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

LAUNCHER = Path(__file__).with_name("launch.py")
ROOT = Path(__file__).resolve().parent.parent
MAX_LINE_BYTES = 16_384
TAIL_LINES = 25


class ChildEnded(Exception):
    """A child ended although it should run, or ended badly although it should end well."""

    def __init__(self, name: str, how: str, tail: Sequence[str]) -> None:
        lines = "\n".join(f"    {line}" for line in tail)
        super().__init__(f"{name} {how}" + (f"; its last lines:\n{lines}" if lines else ""))
        self.name = name


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run and how it likes to be ended."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path = ROOT
    pid_file: Path | None = None
    owned_folder: Path | None = None
    """For a program that refuses root: run as someone else, who owns this folder."""
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel when this process ends without having stopped the child."""
    grace: timedelta = timedelta(seconds=15)
    starts_others: bool = False
    """It starts processes of its own and may leave them behind; all end at once with it."""
    umask: int = 0o077

    @property
    def how(self) -> str:
        """What the launcher does."""
        return "stand-over" if self.starts_others else "become"


class Child:
    """One running child process."""

    def __init__(self, command: Command, hear: Callable[[str], None] | None = None) -> None:
        self.command = command
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._hear = hear
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._output, writer = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                [
                    sys.executable, "-I", "-S", str(LAUNCHER), command.how,
                    str(os.getpid()), str(int(command.death_signal)),
                    str(command.owned_folder or ""), *command.argv,
                ],
                env=command.env, cwd=command.cwd, stdin=subprocess.DEVNULL, stdout=writer,
                stderr=writer,
                # A terminal's Ctrl-C is for the parent, which stops the children in order.
                start_new_session=True, umask=command.umask,
            )  # fmt: skip
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(writer)
        if command.pid_file:
            with suppress(OSError):  # a full disk must not keep a service down
                command.pid_file.write_text(f"{self.pid}\n")
        self._loop.add_reader(self._output, self._read)
        threading.Thread(target=self._wait, name=f"wait-{command.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, the same before and after the launcher became the program."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.done()

    @property
    def how(self) -> str:
        """How it ended, for people."""
        code = self._ended.result()
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with code {code}"

    async def wait(self) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        return await asyncio.shield(self._ended)

    async def require_end(self) -> None:
        """Wait for its end.

        Raises:
            ChildEnded: with anything but 0.
        """
        if await self.wait() != 0:
            raise ChildEnded(self.command.name, self.how, self.tail)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """End it: politely within its grace, then by force together with its own children.

        Args:
            hurry: Once set, the grace is over.
        """
        if self.alive and not (hurry and hurry.is_set()):
            self._process.send_signal(self.command.stop_signal)
            impatience = asyncio.ensure_future((hurry or asyncio.Event()).wait())
            await asyncio.wait(
                (self._ended, impatience),
                timeout=self.command.grace.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            impatience.cancel()
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self.wait()

    def _wait(self) -> None:
        code = self._process.wait()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end, code)

    def _end(self, code: int) -> None:
        self._read()
        self._close_output()
        if self.command.pid_file:
            with suppress(OSError):
                self.command.pid_file.unlink()
        if not self._ended.done():
            self._ended.set_result(code)

    def _read(self) -> None:
        while self._output >= 0:
            try:
                data = os.read(self._output, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._close_output()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > MAX_LINE_BYTES:
                lines, self._rest = [*lines, self._rest], b""
            for line in lines:
                self._tell(line)

    def _tell(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode(errors="replace").rstrip()
        self.tail.append(text)
        if self._hear:
            self._hear(text)

    def _close_output(self) -> None:
        if self._output < 0:
            return
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._output = -1
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
