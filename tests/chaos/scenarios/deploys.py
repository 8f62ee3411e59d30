"""Set J: recorded histories replay in today's workflows (P23)."""

import json

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
