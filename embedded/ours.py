"""Our own processes: migrations, demo model, edge and worker."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from embedded.environment import Environment
from embedded.ports import LOOPBACK
from embedded.processes import Child, ChildEnded, Command
from embedded.readiness import http_get, http_status, until_ready

READY_WITHIN = timedelta(seconds=90)
DEMO_MODEL_WITHIN = timedelta(seconds=30)


def migrations(environment: Environment) -> Command:
    """Bring the schema up to date."""
    return Command(
        name="migrations",
        argv=[sys.executable, "-m", "migrations", "upgrade"],
        env=environment.migrations(),
    )


def demo_model(environment: Environment, pid_file: Path) -> Command:
    """The model that answers as long as nobody named another."""
    port = str(environment.demo_model_port)
    return Command(
        name="model",
        argv=[sys.executable, "-m", "embedded.demo_model", "--host", LOOPBACK, "--port", port],
        env=environment.demo_model(),
        pid_file=pid_file,
        grace=timedelta(seconds=3),
    )


def process(
    environment: Environment, name: str, module: str, pid_file: Path, *, demo_data: bool
) -> Command:
    """Edge or worker."""
    return Command(
        name=name,
        argv=[sys.executable, "-m", module],
        env=environment.process(name, demo_data=demo_data),
        pid_file=pid_file,
    )


async def start(command: Command, hear: Callable[[str], None]) -> Child:
    """Start a process without waiting: its readiness shows at the edge."""
    return Child(command, hear)


async def start_demo_model(command: Command, port: int, hear: Callable[[str], None]) -> Child:
    """Start the demo model and wait until it answers.

    Raises:
        ChildEnded: it ended or never answered.
    """

    async def ready() -> bool:
        return await http_status(port, "/health") == 200

    child = Child(command, hear)
    try:
        await until_ready(child, ready, within=DEMO_MODEL_WITHIN)
    except BaseException:
        await child.stop()
        raise
    return child


async def until_usable(environment: Environment, edge: Child, worker: Child) -> None:
    """Wait until the edge says that it, the worker and all they need are ready.

    Raises:
        ChildEnded: one of the two ended, or they never became ready.
    """
    answer = b""

    async def ready() -> bool:
        nonlocal answer
        if not worker.alive:
            raise ChildEnded("worker", worker.how, worker.tail)
        status, answer = await http_get(
            environment.settings.port, "/api/health/ready", environment.edge_host
        )
        return status == 200

    try:
        await until_ready(edge, ready, within=READY_WITHIN)
    except ChildEnded as error:
        if not edge.alive or not worker.alive:
            raise
        tail = [f"it says: {answer.decode(errors='replace')}", *edge.tail]
        raise ChildEnded("edge", "was not ready in time", tail) from error
