"""Recorded turns of the real system replay in today's workflows, and hold no texts."""

import ast
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from tests.histories.record import FOLDER, MARK, SCENARIOS
from tests.system import ADMIN_PASSWORD, CANARY_KEY, PASSWORD
from workflows.turn import ConversationTurn

FILES = sorted(FOLDER.glob("*.json"))
LARGEST_PAYLOAD = 4 * 1024
TURN = Path(__file__).parents[2] / "workflows" / "turn.py"


def read(path: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads(path.read_text())
    return history


def recorded(path: Path) -> WorkflowHistory:
    history = read(path)
    return WorkflowHistory.from_json(history.pop("workflow_id"), history)


def named(path: Path) -> str:
    return path.stem


def test_there_is_a_history_of_every_scenario() -> None:
    assert {path.stem.rpartition("-")[0] for path in FILES} == {
        scenario.__name__ for scenario in SCENARIOS
    }


@pytest.mark.parametrize("path", FILES, ids=named)
async def test_a_recorded_turn_replays(path: Path) -> None:
    await Replayer(workflows=[ConversationTurn]).replay_workflow(recorded(path))


def test_the_histories_tell_what_their_names_say() -> None:
    def events(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read(FOLDER / f"{name}.json")["events"]
        return found

    def activities(name: str) -> list[str]:
        return [
            event["activityTaskScheduledEventAttributes"]["activityType"]["name"]
            for event in events(name)
            if "activityTaskScheduledEventAttributes" in event
        ]

    def attempts(name: str) -> int:
        return max(
            event["activityTaskStartedEventAttributes"].get("attempt", 1)
            for event in events(name)
            if "activityTaskStartedEventAttributes" in event
        )

    def kinds(name: str) -> set[str]:
        return {event["eventType"].removeprefix("EVENT_TYPE_") for event in events(name)}

    reply, tool, finish = "generate_reply", "run_tool", "finish_turn"
    assert activities("plain-1") == [reply, finish]
    assert activities("tools-1") == [reply, tool, tool, reply, finish]
    assert activities("approval-1") == [reply, tool, tool, reply, finish]
    assert {"WORKFLOW_EXECUTION_SIGNALED", "TIMER_STARTED"} <= kinds("approval-1")
    assert activities("steps-1") == [reply, tool] * 3 + [finish]
    assert attempts("retry-1") == attempts("retry-2") == attempts("worker_killed-1") == 2
    assert "ACTIVITY_TASK_FAILED" in kinds("refused-1")
    for stopped in ("stop-1", "worker_killed_and_stopped-1"):
        assert "WORKFLOW_EXECUTION_CANCEL_REQUESTED" in kinds(stopped)
        assert activities(stopped) == [reply, finish]
    # Started, started anew by people, and left when they skipped it; no worker ever had it.
    review = "review_tool"
    assert activities("taken_over-1") == [reply, tool, review, tool, review, reply, finish]
    assert attempts("taken_over-1") == 1
    assert activities("steer-1") == [reply, reply, finish]
    for handed_on in ("queued-1", "places-1"):
        assert "CHILD_WORKFLOW_EXECUTION_STARTED" in kinds(handed_on)


# --- the replay would notice ---------------------------------------------------------------------


def changed(old: str, new: str) -> type:
    """`ConversationTurn` from a source in which something was changed."""
    source = TURN.read_text()
    assert source.count(old) == 1, old
    scope: dict[str, Any] = {"__name__": "changed_turn"}
    exec(compile(ast.parse(source.replace(old, new)), str(TURN), "exec"), scope)
    made: type = scope["ConversationTurn"]
    return made


CHANGES = {
    "an activity inserted at the beginning": (
        "            status, code = await self._loop(first)\n",
        (
            "            await self._generate(1)\n"
            "            status, code = await self._loop(first)\n"
        ),
    ),
    "the ending written twice": (
        "        if ended.next_turn is not None:\n            await start_turn",
        (
            "        await workflow.execute_activity_method(\n"
            "            TurnActivities.finish_turn, FinishInput(self._turn, status, code),\n"
            "            start_to_close_timeout=policies.DATABASE_ACTIVITY_TIMEOUT)\n"
            "        if ended.next_turn is not None:\n            await start_turn"
        ),
    ),
    "a search attribute that comes earlier": (
        "        ended = await workflow.execute_activity_method(",
        (
            "        workflow.upsert_search_attributes([TURN_STATUS.value_set(status)])\n"
            "        ended = await workflow.execute_activity_method("
        ),
    ),
    "a timer before the model call": (
        "    async def _generate(self, step: int) -> StepResult:\n",
        (
            "    async def _generate(self, step: int) -> StepResult:\n"
            "        await workflow.sleep(0.1)\n"
        ),
    ),
    "another activity in the model's place": (
        "            ModelActivities.generate_reply,\n",
        "            'generate_answer',\n",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["plain-1", "tools-1", "queued-1"])
async def test_a_changed_order_of_commands_fails_the_replay(change: str, name: str) -> None:
    replayer = Replayer(
        workflows=[changed(*CHANGES[change])], workflow_runner=UnsandboxedWorkflowRunner()
    )
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(recorded(FOLDER / f"{name}.json"))


async def test_tools_run_in_turn_instead_of_at_once_fail_the_replay() -> None:
    in_turn = changed(
        "        runs = [asyncio.create_task(self._run_tool(call)) for call in calls]\n",
        "        for call in calls:\n            await self._run_tool(call)\n        runs = []\n",
    )
    replayer = Replayer(workflows=[in_turn], workflow_runner=UnsandboxedWorkflowRunner())
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(recorded(FOLDER / "tools-1.json"))


# --- what a history may hold ---------------------------------------------------------------------


def strings(value: Any) -> Iterator[str]:
    """Every text of a history: keys, values, and what base64 hides."""
    match value:
        case str():
            yield value
            if len(value) % 4 == 0 and re.fullmatch(r"[A-Za-z0-9+/]{4,}={0,2}", value):
                yield base64.b64decode(value).decode(errors="replace")
        case dict():
            for key, item in value.items():
                yield key
                yield from strings(item)
        case list():
            for item in value:
                yield from strings(item)


def payloads(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        if isinstance(value.get("data"), str) and "metadata" in value:
            yield base64.b64decode(value["data"])
        for item in value.values():
            yield from payloads(item)
    elif isinstance(value, list):
        for item in value:
            yield from payloads(item)


# A token of the scripted answers, every text that was asked, what arguments are made of, secrets,
# what providers answer, and what tells one machine from another.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"‹e\d", MARK, r"#text", r"#say", "SELECT", "datasource_id", r'"query"', r"\\u2039",
            re.escape(CANARY_KEY), "CANARY", "sk-", re.escape(PASSWORD), re.escape(ADMIN_PASSWORD),
            "slow down", "Incorrect API key", "no datasource", "list: ", "127\\.0\\.0\\.1",
            "Traceback", r'File "', "@",
        ]
    ),
    re.IGNORECASE,
)  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_history_holds_texts_arguments_results_or_secrets(path: Path) -> None:
    seen = list(strings(read(path)))
    assert any("tenant_id" in text for text in seen), "payloads were decoded"
    for text in seen:
        assert not FORBIDDEN.search(text), text


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_payload_is_large(path: Path) -> None:
    sizes = [len(payload) for payload in payloads(read(path))]
    assert 0 < max(sizes) < LARGEST_PAYLOAD


def test_the_scan_finds_what_it_looks_for() -> None:
    hidden = base64.b64encode(json.dumps({"content": f"{MARK} one"}).encode()).decode()
    for text in (hidden, CANARY_KEY, "‹e1.0001›", '{"datasource_id": 1}'):
        found = strings({"payloads": [{"metadata": {}, "data": text}]})
        assert any(FORBIDDEN.search(piece) for piece in found), text
