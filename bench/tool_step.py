"""What a tool step costs over the tool's own time.

Run as ``python -m bench.tool_step``. One edge, one worker, turns one after another, each of which
calls one tool. Times of the step come from the run's history (the server's clock), the tool's own
from its row. A query is asked without and with a cache. Milliseconds.
"""

import argparse
import asyncio
import json
import platform
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from temporalio.client import Client

from bench.turn_latency import RESULTS, percentile
from tests.system import System, Team, checked, running


async def step(client: Client, turn_id: str) -> tuple[float, float]:
    """How long a turn's ``run_tool`` took, in ms: since its start, and since it was scheduled."""
    scheduled: dict[int, Any] = {}
    began: dict[int, Any] = {}
    history = client.get_workflow_handle(f"turn-{turn_id}").fetch_history_events()
    async for event in history:
        at = event.event_time.ToDatetime(UTC)
        if event.HasField("activity_task_scheduled_event_attributes"):
            kind = event.activity_task_scheduled_event_attributes.activity_type.name
            if kind == "run_tool":
                scheduled[event.event_id] = at
        elif event.HasField("activity_task_started_event_attributes"):
            began[event.activity_task_started_event_attributes.scheduled_event_id] = at
        elif event.HasField("activity_task_completed_event_attributes"):
            number = event.activity_task_completed_event_attributes.scheduled_event_id
            if number in scheduled:
                return _ms(at - began[number]), _ms(at - scheduled[number])
    raise RuntimeError(f"no tool ran in {turn_id}")


def _ms(span: Any) -> float:
    return float(span.total_seconds() * 1000)


async def measure(system: System, team: Team, client: Client, text: str, turns: int) -> list[Any]:
    """Each turn's step over the tool's own time, in the worker and with the way there."""
    found = []
    async with team.room() as room:
        for _ in range(turns):
            ack = await room.ask(await team.conversation(), f"{text} #say:so")
            turn_id = ack["data"]["turn_id"]
            assert await room.turn(turn_id) == "completed"
            (own,) = await system.sql(
                "SELECT execution_time_ms FROM tool_executions WHERE turn_id = $1", UUID(turn_id)
            )
            found.append([took - own[0] for took in await step(client, turn_id)])
    return found


async def main(turns: int) -> dict[str, Any]:
    figures: dict[str, Any] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), edges=1, workers=1, durable=True) as system:
            client = await Client.connect(system.temporal.address)
            team = await system.team()
            source = await team.sqlite_shop()
            asked = {"datasource_id": source, "query": "SELECT * FROM items"}
            query = f"#tool:database_query:{json.dumps(asked, separators=(',', ':'))}"
            path = f"/api/projects/{team.project_id}/datasources/{source}"
            await measure(system, team, client, query, 10)  # everything warm
            for name, text, seconds in (
                ("list_datasources", "#tool:list_datasources:{}", 0),
                ("database_query", query, 0),
                ("database_query, cached", query, 3600),
            ):
                checked(await team.ada.patch(path, json={"cache_seconds": seconds}))
                taken = await measure(system, team, client, text, turns)
                for what, values in (
                    ("in the worker", [inside for inside, _ in taken]),
                    ("with dispatch", [whole for _, whole in taken]),
                ):
                    figures[name][what] = {
                        "p50": round(percentile(values, 0.5), 1),
                        "p95": round(percentile(values, 0.95), 1),
                    }
                print(name, json.dumps(figures[name]), flush=True)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "turns": turns,
        "over_the_tools_own_time_ms": figures,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=100)
    result = asyncio.run(main(parser.parse_args().turns))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tool_step.json").write_text(json.dumps(result, indent=1) + "\n")
