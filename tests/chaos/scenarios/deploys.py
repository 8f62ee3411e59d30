"""Sets J and K: recorded histories replay (P23); suites that need a system of their own."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.chaos.load import Trial
from tests.chaos.scenarios.scenario import Run
from tests.histories.record import FOLDER
from workflows.turn import ConversationTurn


async def replays(trial: Trial, run: Run) -> None:
    """J: every recorded turn is replayed; a command that moved is an error."""
    paths = sorted(FOLDER.glob("*.json"))
    for path in paths:
        recorded = json.loads(path.read_text())
        history = WorkflowHistory.from_json(recorded.pop("workflow_id"), recorded)
        replay = await Replayer(workflows=[ConversationTurn]).replay_workflow(
            history, raise_on_replay_failure=False
        )
        if replay.replay_failure is not None:
            trial.extra.append(f"{path.stem}: {str(replay.replay_failure)[:160]}")
    trial.figures["histories"] = str(len(paths))


async def _suite(trial: Trial, run: Run, arguments: Sequence[str]) -> None:
    """Run tests in a process of their own, as large as this size is."""
    full = {"EVERTURN_LIMITS": "full"} if run.size else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests", *arguments, "-q", env={**os.environ, **full},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    lines = output.decode(errors="replace").splitlines()
    trial.figures["tests"] = lines[-1].strip("= ") if lines else "none"
    trial.extra += [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))]
    if process.returncode and not trial.extra:
        trial.extra.append(f"{' '.join(arguments)}: exit code {process.returncode}")


async def live_deploys(trial: Trial, run: Run) -> None:
    """JD: turns in flight over a deploy of code that does not fit them (P23)."""
    await _suite(trial, run, ["tests/deploys"])


async def limits(trial: Trial, run: Run) -> None:
    """K: clocks, full disks, giants, poison, long turns and long conversations (P24 to P28)."""
    await _suite(trial, run, ["tests/limits"])
