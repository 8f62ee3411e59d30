"""What the tests of this folder do and look at."""

from typing import Any
from uuid import UUID

import httpx

from tests.client import RoomClient
from tests.faults.scene import Scene

CORE = ("turns", "model", "tools-database")
TOOLS = "tools-files"
# A hang is to be seen by everybody within this.
SEEN_WITHIN = 10.0


async def called(room: RoomClient, turn_id: str, status: str = "executing") -> str:
    """Wait until a turn's call is so far; its id."""

    def found() -> list[str]:
        state = room.state
        return [
            key
            for key, row in state.executions.items()
            if row["status"] == status and state.messages[row["message_id"]]["turn_id"] == turn_id
        ]

    await room.until(lambda: bool(found()), timeout=30)
    (execution_id,) = found()
    return execution_id


async def stalled(
    room: RoomClient, execution_id: str, reason: str, within: float = SEEN_WITHIN
) -> dict[str, Any]:
    """Wait until the room has heard that a call hangs."""

    def heard() -> bool:
        return (room.state.executions[execution_id].get("stalled") or {}).get("reason") == reason

    await room.until(heard, timeout=within)
    return dict(room.state.executions[execution_id]["stalled"])


async def act(
    http: httpx.AsyncClient, execution_id: str, action: str, expected: int = 200, **body: Any
) -> Any:
    path = f"/api/tool-executions/{execution_id}/intervene"
    answer = await http.post(path, json={"action": action, **body})
    assert answer.status_code == expected, answer.text
    return answer.json()


def told(scene: Scene, question: str) -> str:
    """What the model was told of a call, when it was asked the last time."""
    *_, last = scene.system.model.calls_for(question)
    (text,) = [m["content"] for m in last.body["messages"] if m["role"] == "tool"]
    return str(text)


async def audited(scene: Scene, execution_id: str) -> list[tuple[str, str, str | None]]:
    rows = await scene.system.sql(
        "SELECT action, outcome, reason FROM audit_log WHERE tool_execution_id = $1 ORDER BY at",
        UUID(execution_id),
    )
    return [tuple(row) for row in rows]


def look(key: str, seconds: float = 50, tool: str = "look") -> str:
    return f'#tool:{tool}:{{"key":"{key}","seconds":{seconds}}} #say:answered'
