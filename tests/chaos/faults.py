"""What can be done to a part, when and for how long: drawn from a seed, to be done again."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.chaos.arena import RESTART_SECONDS, Arena, Injected

MOST_CONNECTIONS = 500


@dataclass(frozen=True)
class Kind:
    """A way to hurt a part.

    Attributes:
        part: A process (``worker0``) or a link (``worker-model``).
        action: ``kill``, ``term``, ``stop`` (SIGSTOP), ``crash`` (``pg_ctl stop -m immediate``),
            ``unlisten`` (ends only the LISTEN backends), ``crowd`` (takes every connection the
            server still has), or a link's ``blackhole``, ``refuse``, ``rst``, ``slow``.
        seconds: Least and greatest time until it is undone.
    """

    part: str
    action: str
    seconds: tuple[float, float] = (RESTART_SECONDS, RESTART_SECONDS)


@dataclass(frozen=True)
class Fault:
    """One entry of a schedule; seconds from its beginning."""

    at: float
    part: str
    action: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:.1f}s {self.action} {self.part} {self.seconds:.1f}s"


def draw(
    rng: random.Random, kinds: Sequence[Kind], count: int, span: float, gap: float
) -> list[Fault]:
    """A schedule of `count` faults within `span` seconds, each at least `gap` after the last."""
    faults = []
    at = 0.0
    slack = max(0.0, span - gap * count) / max(count, 1)
    for _ in range(count):
        kind = rng.choice(kinds)
        at += rng.uniform(0, slack)
        faults.append(Fault(at, kind.part, kind.action, rng.uniform(*kind.seconds)))
        at += gap
    return faults


async def play(arena: Arena, schedule: Sequence[Fault]) -> None:
    """Do what the schedule says; overlapping faults run side by side."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for fault in schedule:
            await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
            tasks.create_task(inflict(arena, fault))


async def inflict(arena: Arena, fault: Fault) -> None:
    """Hurt a part and undo it after the fault's time."""
    began = time.monotonic()
    try:
        if "-" in fault.part:
            await _hurt_link(arena, fault)
        elif fault.action == "stop":
            await arena.signal(fault.part, signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            await arena.signal(fault.part, signal.SIGCONT)
        elif fault.action == "unlisten":
            await arena.system.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'everturn-listen'"
            )
        elif fault.action == "crowd":
            await _crowd(arena, fault.seconds)
        else:
            await _end(arena, fault)
    finally:
        arena.injected.append(Injected(f"{fault.action} {fault.part}", began, time.monotonic()))


async def _end(arena: Arena, fault: Fault) -> None:
    """Let a process end in some way, and start it again."""
    child = arena.child(fault.part)
    if not child.alive:
        return
    signum = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "crash": signal.SIGQUIT}
    await arena.signal(fault.part, signum[fault.action])
    await child.wait()
    await asyncio.sleep(fault.seconds)
    await arena.restart(fault.part)


async def _crowd(arena: Arena, seconds: float) -> None:
    """Hold every connection that PostgreSQL gives, so that nobody else gets a new one."""
    held: list[asyncpg.Connection[Any]] = []
    try:
        while len(held) < MOST_CONNECTIONS:
            held.append(await asyncpg.connect(arena.system.postgres.app_dsn, timeout=5))
    except (OSError, TimeoutError, asyncpg.PostgresError):
        pass
    try:
        # Those who have a connection keep it; everybody is made to ask for a new one.
        await arena.system.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name IN ('edge', 'worker')"
        )
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
            while len(held) < MOST_CONNECTIONS:
                held.append(await asyncpg.connect(arena.system.postgres.app_dsn, timeout=5))
        await asyncio.sleep(seconds)
    finally:
        for connection in held:
            connection.terminate()


async def _hurt_link(arena: Arena, fault: Fault) -> None:
    link = arena.links[fault.part]
    match fault.action:
        case "blackhole":
            link.blackhole()
        case "refuse":
            await link.refuse()
            link.rst()
        case "rst":
            link.rst()
        case "slow":
            link.slow(delay=0.05, jitter=0.04)
    await asyncio.sleep(fault.seconds)
    link.heal()
    await link.accept()
