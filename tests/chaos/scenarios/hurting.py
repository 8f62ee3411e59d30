"""Sets A to E and M: parts are killed, stopped, cut off and slowed while people ask."""

import asyncio
import functools
from collections.abc import Sequence

from tests.chaos.faults import Kind, draw, play
from tests.chaos.load import Trial
from tests.chaos.scenarios.scenario import Run

WORKERS = [Kind("worker0", "kill"), Kind("worker1", "kill"), Kind("worker0", "term")]
WORKERS_ASLEEP = [Kind("worker0", "stop", (12, 16)), Kind("worker1", "stop", (4, 8))]
EDGES = [
    Kind("edge0", "kill"), Kind("edge1", "kill"), Kind("edge0", "term"),
    Kind("edge1", "stop", (3, 8)),
]  # fmt: skip
TEMPORAL = [
    Kind("temporal", "kill", (0.3, 2)), Kind("temporal", "stop", (3, 8)),
    Kind("edge-temporal", "refuse", (3, 6)), Kind("worker-temporal", "blackhole", (4, 8)),
    Kind("worker-temporal", "rst"),
]  # fmt: skip
POSTGRES = [
    Kind("postgres", "crash", (0.3, 2)), Kind("postgres", "stop", (3, 6)),
    Kind("edge-postgres", "rst"), Kind("worker-postgres", "rst"),
    Kind("edge-listen", "blackhole", (6, 9)), Kind("edge-postgres", "blackhole", (3, 6)),
    Kind("worker-postgres", "blackhole", (3, 6)), Kind("worker-postgres", "slow", (3, 6)),
    Kind("postgres", "unlisten"), Kind("edge-postgres", "refuse", (2, 4)),
    Kind("postgres", "crowd", (3, 6)),
]  # fmt: skip
BUS = {
    "postgres": [
        Kind("postgres", "unlisten"), Kind("edge-listen", "rst"),
        Kind("edge-listen", "blackhole", (6, 12)),
    ],
    "nats": [Kind("bus", "kill", (0.3, 3)), Kind("bus", "stop", (4, 12))],
}  # fmt: skip
MILD = [*WORKERS, *EDGES[:2], Kind("postgres", "unlisten"), Kind("worker-model", "rst")]


async def hurt(
    trial: Trial,
    run: Run,
    kinds: Sequence[Kind],
    *,
    turns: int,
    faults: int,
    rate: float,
    gap: float,
    persons: int = 2,
) -> None:
    """Ask `turns` questions, `rate` a second, while `faults` faults are played."""
    await trial.gather(persons)
    await trial.measure(run.of(4, 12, 20))
    span = max(turns / rate, gap * faults)
    trial.schedule = (
        draw(trial.rng, kinds, faults, span, gap) if run.schedule is None else run.schedule
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(play(trial.arena, trial.schedule))
        tasks.create_task(trial.load(turns, turns / span))


async def workers(trial: Trial, run: Run) -> None:
    """A: workers are killed at random moments (P01, P02)."""
    turns = run.of(40, 600, 3_000)
    await hurt(trial, run, WORKERS, turns=turns, faults=run.of(3, 30, 150), rate=4, gap=3)


async def edges(trial: Trial, run: Run) -> None:
    """B: edges are killed, asked to go, and hang (P03)."""
    turns = run.of(40, 300, 500)
    await hurt(trial, run, EDGES, turns=turns, faults=run.of(3, 20, 30), rate=4, gap=3)


async def temporal(trial: Trial, run: Run) -> None:
    """C: Temporal is killed, hangs, and cannot be reached (P05, P06, P36)."""
    turns = run.of(24, 200, 300)
    await hurt(trial, run, TEMPORAL, turns=turns, faults=run.of(2, 12, 20), rate=3, gap=8)


async def postgres(trial: Trial, run: Run) -> None:
    """D: PostgreSQL crashes, hangs, and cannot be reached (P07 to P09)."""
    turns = run.of(24, 200, 300)
    await hurt(trial, run, POSTGRES, turns=turns, faults=run.of(2, 16, 30), rate=3, gap=8)


async def bus(trial: Trial, run: Run) -> None:
    """E: the bus is cut, silenced and restarted (P09)."""
    turns = run.of(12, 150, 300)
    kinds = BUS[run.bus]
    await hurt(trial, run, kinds, turns=turns, faults=run.of(2, 12, 30), rate=3, gap=5)


async def asleep(trial: Trial, run: Run) -> None:
    """Workers hang longer than their heartbeat timeout and wake up again (P36)."""
    turns = run.of(12, 60, 120)
    kinds = WORKERS_ASLEEP
    await hurt(trial, run, kinds, turns=turns, faults=run.of(1, 6, 20), rate=3, gap=18)


async def soak(trial: Trial, run: Run, minutes: float = 60) -> None:
    """M: an hour of mild trouble at two turns a second (P34)."""
    seconds = minutes * 60
    before = _memory(trial)
    await hurt(trial, run, MILD, turns=int(seconds * 2), faults=int(seconds / 60), rate=2, gap=20)
    trial.figures["memory"] = f"{before / 2**20:.0f} → {_memory(trial) / 2**20:.0f} MiB"


short_soak = functools.partial(soak, minutes=5)


def _memory(trial: Trial) -> int:
    """Bytes of resident memory of all edges and workers."""
    system = trial.arena.system
    pids = [edge.child.pid for edge in system.edges] + [w.pid for w in system.workers]
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm") as statm:
            total += int(statm.read().split()[1]) * 4096
    return total
