"""Sets BS and I: all edges restart under many sockets; very many sockets do nothing at all."""

from bench import sockets
from tests.chaos.load import Trial
from tests.chaos.scenarios.scenario import Run
from tests.system import Team

ROOMS = 20
BACK_WITHIN_SECONDS = 20.0
POOLED_CONNECTIONS = 10
MOST_KIB, MOST_ECHO_MS, MOST_CPU_PERCENT = 60.0, 100.0, 10.0


async def _rooms(trial: Trial) -> tuple[Team, list[str]]:
    sockets.allow_all_descriptors()
    team = await trial.arena.system.team(sockets_per_user=100_000)
    return team, [(await team.elsewhere(f"Room {n}")).project_id for n in range(ROOMS)]


async def storm(trial: Trial, run: Run) -> None:
    """BS: both edges go and come back; everybody is back soon, and the database lives (P04)."""
    team, rooms = await _rooms(trial)
    row = await sockets.storm(trial.arena.system, team, rooms, run.of(200, 1_000, 2_000))
    trial.figures |= {name: str(value) for name, value in row.items()}
    if row["back_95_percent_after_s"] > BACK_WITHIN_SECONDS:
        trial.extra.append(f"95 % were back after {row['back_95_percent_after_s']} s")
    # The arena's own edges are there all the while.
    most = POOLED_CONNECTIONS * (row["edges"] + len(trial.arena.system.edges))
    if row["database_connections_most"] > most:
        trial.extra.append(f"{row['database_connections_most']} connections, {most} are pooled")


async def idle(trial: Trial, run: Run) -> None:
    """I: thousands of sockets that only answer pings cost little and are all alive (P19)."""
    team, rooms = await _rooms(trial)
    row = await sockets.idle(trial.arena.system, team, rooms, run.of(500, 2_000, 10_000))
    trial.figures |= {name: str(value) for name, value in row.items()}
    for name, most in (
        ("kib_each", MOST_KIB), ("echo_p95_ms", MOST_ECHO_MS),
        ("idle_cpu_percent", MOST_CPU_PERCENT), ("files_left", 0),
    ):  # fmt: skip
        if row[name] > most:
            trial.extra.append(f"{name} is {row[name]}, at most {most}")
