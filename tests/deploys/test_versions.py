"""P23: a deploy with turns in flight. Each turn ends on the code it began with."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowHandle

from embedded.ports import free_port
from embedded.processes import Child
from tests.client import RoomClient
from tests.deploys.test_alerts import RULES, metrics_of
from tests.model_server import expected
from tests.system import System, Team, running
from workflows.types import turn_workflow_id

CHANGED = "tests.deploys.changed_worker"
IN_FLIGHT = 24
# Sixteen seconds: longer than it takes to start them all and to promote, also on a busy machine.
TOKENS = 320
ANSWER = f"#tool:list_datasources:{{}} #text:{TOKENS}:20"
FAILURES = "temporal_workflow_task_execution_failed"


@pytest.fixture(scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A Temporal of its own: what is current in a namespace concerns every worker of it."""
    async with running(tmp_path_factory.mktemp("deploys"), edges=1, workers=0) as system:
        yield system


@pytest.fixture(scope="module")
async def shared(system: System) -> Team:
    return await system.team()


@pytest.fixture
async def team(shared: Team) -> Team:
    return await shared.elsewhere()


@pytest.fixture(scope="module")
async def client(system: System) -> Client:
    return await Client.connect(system.temporal.address)


async def promote(system: System, build_id: str, within: float = 20) -> tuple[int, list[str]]:
    """``python -m worker promote``: its exit code and what it said."""
    env = system.environment(EVERTURN_BUILD_ID=build_id)
    child = system._start("promote", ["-m", "worker", "promote", "--within", str(within)], env)
    return await child.wait(), list(child.tail)


async def gone(worker: Child) -> float:
    """Ask a worker to go; the seconds it took."""
    started = time.monotonic()
    worker._process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(15):
        assert await worker.wait() == 0
    return time.monotonic() - started


async def ask_all(room: RoomClient, team: Team, marker: str, count: int) -> list[str]:
    conversations = await asyncio.gather(*(team.conversation() for _ in range(count)))
    acks = [await room.ask(each, f"{marker} {n} {ANSWER}") for n, each in enumerate(conversations)]
    assert {ack["type"] for ack in acks} == {"ack"}, acks
    return [ack["data"]["turn_id"] for ack in acks]


async def all_speak(room: RoomClient, turns: list[str]) -> None:
    """Wait until every turn has called its tool and begun its answer."""
    await room.until(
        lambda: {
            room.state.messages[key]["turn_id"] for key, held in room.state.texts.items()
            if held.text
        } >= set(turns),
        timeout=60,
    )  # fmt: skip


async def builds(client: Client, turn_id: str) -> set[str]:
    """Build ids of all workers that ran workflow tasks of a turn."""
    history = await handle(client, turn_id).fetch_history()
    return {
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        or event.workflow_task_completed_event_attributes.worker_deployment_version.partition(".")[
            2
        ]
        for event in history.events
        if event.HasField("workflow_task_completed_event_attributes")
    }


async def activity_processes(client: Client, turn_id: str) -> set[int]:
    """Process ids of all workers that finished activities of a turn."""
    history = await handle(client, turn_id).fetch_history()
    return {
        int(event.activity_task_started_event_attributes.identity.rpartition(":")[2])
        for event in history.events
        if event.HasField("activity_task_started_event_attributes")
    }


def handle(client: Client, turn_id: str) -> WorkflowHandle[Any, Any]:
    return client.get_workflow_handle(turn_workflow_id(turn_id))


async def scrape(port: int) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://127.0.0.1:{port}/metrics")).text


async def failures(port: int) -> dict[str, float]:
    """Failed workflow tasks of a worker by reason, from its own metrics."""
    found: dict[str, float] = {}
    for line in (await scrape(port)).splitlines():
        if line.startswith(FAILURES):
            reason = line.split('failure_reason="')[1].split('"')[0]
            found[reason] = found.get(reason, 0) + float(line.rpartition(" ")[2])
    return found


def text_of(room: RoomClient, turn_id: str) -> tuple[int, str]:
    """Epoch and text of a turn's answer."""
    (held,) = [
        held for key, held in room.state.texts.items()
        if room.state.messages[key]["turn_id"] == turn_id and held.text
    ]  # fmt: skip
    return held.epoch, held.text


async def test_an_incompatible_deploy_without_versions_shows_in_the_metric_and_heals(
    system: System, team: Team, client: Client
) -> None:
    old = await system.start_worker()
    async with team.room() as room:
        turns = await ask_all(room, team, "unversioned", 3)
        await all_speak(room, turns)
        await gone(old)
        port = free_port()
        bad = await system.start_worker(module=CHANGED, EVERTURN_METRICS_PORT=str(port))

        async def noticed() -> bool:
            return (await failures(port)).get("NonDeterminismError", 0) > 0

        await system.until(noticed, timeout=60)
        # Everything the alarms look at is there, under the names they look for.
        edge_port = free_port()
        edge = await system.start_edge(EVERTURN_METRICS_PORT=str(edge_port))
        seen = await scrape(port) + await scrape(edge_port)
        await edge.child.stop()
        assert metrics_of(RULES) <= {re.split(r"[{ ]", line)[0] for line in seen.splitlines()}
        assert team.tenant_id not in seen
        assert 'everturn_open_turns{service_name="temporal-core-sdk",status="running"} 3' in seen
        assert not await room_has_ended(room, turns)
        # Stops are carried out all the same, although the run cannot hear them.
        await room.send("stop_turn", {"turn_id": turns[0]})
        assert await room.turn(turns[0], timeout=60) == "cancelled"
        await gone(bad)
        # Going back is enough; and going on to versions takes running turns along.
        first = await system.start_worker(EVERTURN_BUILD_ID="a", EVERTURN_PROMOTE="1")
        for turn_id in turns[1:]:
            assert await room.turn(turn_id, timeout=90) == "completed"
        assert "a" in await builds(client, turns[1])
        await gone(first)


async def room_has_ended(room: RoomClient, turns: list[str]) -> bool:
    return any(room.state.turns[turn]["status"] != "running" for turn in turns)


async def test_turns_in_flight_end_on_the_version_they_began_on(
    system: System, team: Team, client: Client
) -> None:
    old = [await system.start_worker(EVERTURN_BUILD_ID="a") for _ in range(2)]
    port = free_port()
    new = await system.start_worker(
        module=CHANGED, EVERTURN_BUILD_ID="b", EVERTURN_METRICS_PORT=str(port)
    )
    assert (await promote(system, "a"))[0] == 0
    async with team.room() as room:
        turns = await ask_all(room, team, "old", IN_FLIGHT)
        behind = (await room.ask(room_conversation(room, turns[0]), "behind #say:me"))["data"]
        await all_speak(room, turns)
        assert (await promote(system, "b"))[0] == 0
        assert not await room_has_ended(room, turns), "they are in flight"
        fresh = await ask_all(room, team, "new", 3)
        # One of the old ones goes at once: the other takes over, and nobody else.
        assert await gone(old[0]) <= 15
        for turn_id in (*turns, *fresh, behind["turn_id"]):
            assert await room.turn(turn_id, timeout=90) == "completed"
        for turn_id in (*turns, *fresh):
            epoch, text = text_of(room, turn_id)
            assert text == expected(epoch, TOKENS)
        assert {build for turn in turns for build in await builds(client, turn)} == {"a"}
        assert {build for turn in fresh for build in await builds(client, turn)} == {"b"}
        # What waited in an old turn's queue begins on the current version.
        assert await builds(client, behind["turn_id"]) == {"b"}
        workers = {pid for turn in turns for pid in await activity_processes(client, turn)}
        assert workers <= {worker.pid for worker in old}
        assert {pid for turn in fresh for pid in await activity_processes(client, turn)} == {
            new.pid
        }
        assert await failures(port) == {}
    await gone(old[1])
    await gone(new)


def room_conversation(room: RoomClient, turn_id: str) -> str:
    return str(room.state.turns[turn_id]["conversation_id"])


async def test_a_version_nobody_serves_is_not_promoted(system: System) -> None:
    code, said = await promote(system, "nobody", 1)
    assert code == 1
    assert "no worker of it has been seen" in said[-1]
    partly = await system.start_worker("--queues", "turns", EVERTURN_BUILD_ID="partly")
    code, said = await promote(system, "partly", 3)
    assert code == 1
    assert "no worker of it serves model" in said[-1]
    await partly.stop()
    code, said = await promote(system, "")
    assert code == 1
    assert "EVERTURN_BUILD_ID is empty" in said[-1]
