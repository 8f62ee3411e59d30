"""``python -m tests.histories.record``: record histories of the real system again.

Starts the whole system with the scripted model server, plays each scenario and writes the history
of every turn to ``tests/histories/<scenario>.json``. Run it when a workflow was changed in a way
that old histories need not survive (before a release, or behind `workflow.patched` the old ones
stay too); otherwise the committed ones prove that running turns survive the change.

What differs from machine to machine (process identities, stack traces) is taken out.
"""

import asyncio
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from temporalio.client import Client

from tests.system import System, checked, running
from workflows.types import tool_activity_id

FOLDER = Path(__file__).parent
MACHINE = {"identity": "worker", "workerInstanceKey": "", "stackTrace": ""}
PROCESS = re.compile(rf"\b\d+@[\w.-]+|{re.escape(socket.gethostname())}:\d+")
# In every message, so that its text would be found in a history; in no id.
MARK = "PLAINTEXT"

Scenario = Callable[[System], Awaitable[list[str]]]


def scrubbed(value: Any) -> Any:
    """A history without what names the machine it was made on."""
    match value:
        case dict():
            return {
                key: MACHINE[key] if key in MACHINE else scrubbed(item)
                for key, item in value.items()
            }
        case list():
            return [scrubbed(item) for item in value]
        case str():
            return PROCESS.sub("worker", value)
        case _:
            return value


async def _turn(system: System, text: str, **limits: int) -> list[str]:
    """Ask one question and wait for the end of its turn."""
    team = await system.team(**limits)
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"{MARK} {text}")
        turn_id = ack["data"]["turn_id"]
        await room.turn(turn_id, timeout=60)
    return [turn_id]


async def plain(system: System) -> list[str]:
    return await _turn(system, "#text:20")


async def tools(system: System) -> list[str]:
    """Two calls in parallel, and one of a tool that there is not."""
    return await _turn(
        system,
        f'#tool:list_datasources:{{}} #tool:list_datasources:{{}} #tool:none:{{"a":"{MARK}"}}',
    )


async def approval(system: System) -> list[str]:
    """Two calls that ask, of which one is approved and one denied."""
    team = await system.team()
    rules = {"items": [{"tool": "*", "policy": "ask"}]}
    await team.admin.put("/api/admin/tool-policies", json=rules)
    conversation = await team.conversation()
    async with team.room() as room:
        text = "#tool:list_datasources:{} #tool:list_datasources:{}"
        ack = await room.ask(conversation, f"{MARK} {text}")
        turn_id = ack["data"]["turn_id"]
        await room.until(
            lambda: room.state.turns.get(turn_id, {}).get("status") == "awaiting_approval"
        )
        for execution, word in zip(room.state.executions, ("approve", "deny"), strict=True):
            path = f"/api/tool-executions/{execution}/decision"
            await team.grace.post(path, json={"decision": word})
        await room.turn(turn_id)
    return [turn_id]


async def tool_failure(system: System) -> list[str]:
    """The tool answers with an error, which is a result like any other."""
    unknown = "00000000-0000-4000-8000-000000000000"
    return await _turn(
        system,
        f'#tool:database_query:{{"datasource_id":"{unknown}","query":"SELECT_\'{MARK}\'"}}',
    )


async def steps(system: System) -> list[str]:
    """The model never stops to call tools."""
    return await _turn(system, "#loop:list_datasources:{}", steps_per_turn=3)


async def retry(system: System) -> list[str]:
    """Busy, then an answer that breaks off, then an answer."""
    return await _turn(system, "#429:1:1 #text:9") + await _turn(system, "#cut:3 #text:9")


async def refused(system: System) -> list[str]:
    return await _turn(system, "#status:401")


async def stop(system: System) -> list[str]:
    team = await system.team()
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"{MARK} #text:2000:50")
        turn_id = ack["data"]["turn_id"]
        await room.until(lambda: any(len(t.text) > 50 for t in room.state.texts.values()))
        await room.send("stop_turn", {"turn_id": turn_id})
        await room.turn(turn_id)
    return [turn_id]


async def queued(system: System) -> list[str]:
    team = await system.team()
    conversation = await team.conversation()
    async with team.room() as room:
        asked = [
            await room.ask(conversation, f"{MARK} {text}")
            for text in ("#text:30:60", "#say:second")
        ]
        turns = [ack["data"]["turn_id"] for ack in asked]
        for turn_id in turns:
            await room.turn(turn_id)
    return turns


async def steer(system: System) -> list[str]:
    """Joined while it answers: the answer becomes a step, and another one follows."""
    team = await system.team()
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"{MARK} #text:40:40")
        turn_id = ack["data"]["turn_id"]
        await room.until(lambda: any(len(t.text) > 50 for t in room.state.texts.values()))
        joined = await room.ask(conversation, f"{MARK} #say:joined", on_busy="steer")
        assert joined["data"]["turn_id"] == turn_id
        await room.turn(turn_id)
    return [turn_id]


async def places(system: System) -> list[str]:
    """Two turns of a tenant with one place, in conversations of their own."""
    team = await system.team(concurrent_turns=1)
    talks = [await team.conversation() for _ in range(2)]
    async with team.room() as room:
        asked = [await room.ask(talk, f"{MARK} #text:30:60") for talk in talks]
        turns = [ack["data"]["turn_id"] for ack in asked]
        for turn_id in turns:
            await room.turn(turn_id)
    return turns


async def paced(system: System) -> list[str]:
    """Beside another tenant at work: the fourth of a burst waits for its moment."""
    other = await system.team()
    async with other.room() as room:
        ack = await room.ask(await other.conversation(), f"{MARK} #say:here")
        await room.turn(ack["data"]["turn_id"])
    team = await system.team(shared_turns_per_second=1)
    talks = [await team.conversation() for _ in range(4)]
    async with team.room() as room:
        asked = [await room.ask(talk, f"{MARK} #text:60:10") for talk in talks]
        last = str(asked[-1]["data"]["turn_id"])
        await room.turn(last)
    return [last]


async def worker_killed(system: System) -> list[str]:
    """The worker dies in the middle of an answer and another one begins it again."""
    team = await system.team()
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"{MARK} #text:60:20")
        turn_id = ack["data"]["turn_id"]
        await room.until(lambda: any(len(t.text) > 50 for t in room.state.texts.values()))
        await system.restart_worker()
        await room.turn(turn_id, timeout=60)
    return [turn_id]


async def worker_killed_and_stopped(system: System) -> list[str]:
    """A stop while no worker is there to hear it."""
    team = await system.team()
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"{MARK} #text:2000:20")
        turn_id = ack["data"]["turn_id"]
        await room.until(lambda: any(len(t.text) > 50 for t in room.state.texts.values()))
        await system.kill(system.workers[0])
        await room.send("stop_turn", {"turn_id": turn_id})
        await system.restart_worker()
        await room.turn(turn_id, timeout=60)
    return [turn_id]


async def taken_over(system: System) -> list[str]:
    """A call on a queue that nobody serves: run anew by people, then skipped."""
    (worker,) = system.workers
    await system.kill(worker)
    core = await system.start_worker("--queues", "turns,model")
    team = await system.team()
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"{MARK} #tool:list_datasources:{{}}")
        turn_id = ack["data"]["turn_id"]
        await room.until(lambda: bool(room.state.executions))
        (call,) = room.state.executions
        path = f"/api/tool-executions/{call}/intervene"
        client = await Client.connect(system.temporal.address)

        async def runs(start: int) -> bool:
            run = await client.get_workflow_handle(f"turn-{turn_id}").describe()
            pending = run.raw_description.pending_activities
            return [each.activity_id for each in pending] == [tool_activity_id(call, start)]

        for start, action in enumerate(("retry", "skip"), 1):
            await system.until(partial(runs, start))
            checked(await team.ada.post(path, json={"action": action, "note": MARK}))
        await room.turn(turn_id, timeout=60)
    await system.kill(core)
    system.workers[:] = [await system.start_worker()]
    return [turn_id]


SCENARIOS: tuple[Scenario, ...] = (
    plain,
    tools,
    approval,
    tool_failure,
    steps,
    retry,
    refused,
    stop,
    queued,
    steer,
    places,
    paced,
    worker_killed,
    worker_killed_and_stopped,
    taken_over,
)


async def record(only: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), edges=1) as system:
            client = await Client.connect(system.temporal.address)
            for scenario in SCENARIOS:
                name = scenario.__name__
                if only and name not in only:
                    continue
                for number, turn_id in enumerate(await scenario(system), 1):
                    handle = client.get_workflow_handle(f"turn-{turn_id}")
                    await handle.result()
                    history = scrubbed((await handle.fetch_history()).to_json_dict())
                    path = FOLDER / f"{name}-{number}.json"
                    text = json.dumps({"workflow_id": handle.id} | history, indent=1)
                    path.write_text(text + "\n")
                    print(f"{path.name}: {len(history['events'])} events, {len(text)} bytes")


if __name__ == "__main__":
    asyncio.run(record(set(sys.argv[1:])))
    sys.stdout.flush()
    os._exit(0)
