"""The bus is cut, killed, stopped, or simply says nothing, while a text streams (P09, P36).

Whatever happens to it, everybody ends with the exact text, and nobody looks at a page that has
stood still for longer than `STUCK_SECONDS`.
"""

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from embedded.processes import Child
from tests.client import RoomClient, essence, fetch
from tests.faults.scene import Scene
from tests.faults.test_kills import speaking, text_of
from tests.model_server import expected
from tests.nats_server import PASSWORD, NatsServer
from tests.system import TLS, Edge, System

STUCK_SECONDS = 8
TOKENS = 120


@pytest.fixture(scope="module", params=["system", "nats_system"], name="system")
def either_system(request: pytest.FixtureRequest) -> System:
    """Once over each bus."""
    system: System = request.getfixturevalue(request.param)
    return system


@pytest.fixture(scope="module")
async def scene(system: System, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Nothing here ends one of ours, so the systems of all other tests will do."""
    folder: Path = tmp_path_factory.mktemp("bus")
    scene = Scene(system, await system.team(), folder / "sink")
    scene.sink.touch()
    return scene


@pytest.fixture
def nats(system: System) -> NatsServer:
    assert system.nats is not None
    return system.nats


# PostgreSQL's own faults are in test_kills.
over_nats = pytest.mark.parametrize("system", ["nats_system"], indirect=True)


@asynccontextmanager
async def watched(*rooms: RoomClient) -> AsyncIterator[dict[RoomClient, float]]:
    """The longest silence of each, in seconds."""
    longest = dict.fromkeys(rooms, 0.0)

    async def watch(room: RoomClient) -> None:
        heard, since = len(room.frames), time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            longest[room] = max(longest[room], time.monotonic() - since)
            if len(room.frames) > heard:
                heard, since = len(room.frames), time.monotonic()

    tasks = [asyncio.create_task(watch(room)) for room in rooms]
    try:
        yield longest
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def streaming(
    scene: Scene, tokens: int = TOKENS, rate: int = 30
) -> AsyncIterator[tuple[RoomClient, RoomClient, str]]:
    """Two people on two edges hear a text; at the end both have all of it, and were never stuck."""
    ours = [*scene.system.workers, *(edge.child for edge in scene.system.edges)]
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        turn_id = await scene.ask(ada, f"bus {uuid.uuid4()} #text:{tokens}:{rate}")
        await speaking(ada, turn_id)
        await speaking(grace, turn_id)
        async with watched(ada, grace) as silences:
            yield ada, grace, turn_id
            for room in (ada, grace):
                assert await room.turn(turn_id, timeout=40) == "completed"
        for room in (ada, grace):
            assert text_of(room, turn_id) == expected(1, tokens)
            # The very end may fall into the silence: then its hash tells, and the text is fetched.
            assert room.refetched <= 1
            assert room.rejoined == 0
            assert room.close_code is None
            assert silences[room] < STUCK_SECONDS
            assert essence(room.state) == essence(await fetch(scene.team.ada, room.project_id))
        assert all(child.alive for child in ours)


async def dependencies(edge: Edge) -> dict[str, Any]:
    async with httpx.AsyncClient(verify=TLS) as http:
        answer = await http.get(f"{edge.url}/api/health/ready")
    return dict(answer.json()["dependencies"])


async def until_bus(scene: Scene, state: str) -> None:
    """Wait until every edge says so of the bus."""

    async def reached() -> bool:
        told = [await dependencies(edge) for edge in scene.system.edges]
        return all(each["bus"] == {"state": state} for each in told)

    await scene.system.until(reached, timeout=STUCK_SECONDS)


async def test_only_the_speaker_is_cut(scene: Scene) -> None:
    async with streaming(scene) as (ada, grace, turn_id):
        for chars in (200, 400):
            assert await scene.system.cut_bus("everturn-bus") >= 1
            for room in (ada, grace):
                await speaking(room, turn_id, chars)


async def test_both_sides_are_cut_again_and_again(scene: Scene) -> None:
    async with streaming(scene) as (ada, grace, turn_id):
        for chars in range(100, 800, 100):
            await scene.system.cut_bus("everturn-listen")
            await scene.system.cut_bus("everturn-bus")
            await speaking(ada, turn_id, chars)
            await speaking(grace, turn_id, chars)


async def test_growth_that_nobody_announced_is_found(scene: Scene) -> None:
    """As if the process had died between its commit and the notice."""
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        before = ada.state.seq
        await scene.system.sql(
            "WITH room AS (UPDATE rooms SET head = head + 1 WHERE project_id = $1"
            " RETURNING tenant_id, head)"
            " INSERT INTO room_events (project_id, seq, tenant_id, type, data)"
            " SELECT $1, head, tenant_id, 'turn_status', jsonb_build_object("
            " 'turn_id', 'x', 'status', 'completed') FROM room",
            uuid.UUID(scene.team.project_id),
        )
        for room in (ada, grace):
            await room.until(lambda room=room: room.state.seq == before + 1, STUCK_SECONDS)


@over_nats
async def test_the_server_is_killed_and_comes_back(scene: Scene, nats: NatsServer) -> None:
    async with streaming(scene) as (ada, grace, turn_id):
        assert nats.child is not None
        await scene.kill(nats.child)
        await until_bus(scene, "down")
        conversation = await scene.team.conversation()
        ack = await ada.ask(conversation, "while it is away #say:done")
        await scene.system.start_nats()
        await until_bus(scene, "up")
        heard = len(text_of(ada, turn_id))
        await speaking(ada, turn_id, heard + 50)
        for room in (ada, grace):
            assert await room.turn(ack["data"]["turn_id"]) == "completed"


@over_nats
async def test_the_server_is_away_until_the_end(scene: Scene, nats: NatsServer) -> None:
    """Neither the text nor its end is announced; an edge that starts now starts all the same."""
    assert nats.child is not None
    third: Child | None = None
    try:
        async with streaming(scene, tokens=210):
            await scene.kill(nats.child)
            edge = await scene.system.start_edge()
            third = edge.child
            told = await dependencies(edge)
            assert (told["bus"], told["database"]) == ({"state": "down"}, {"state": "up"})
    finally:
        await scene.system.start_nats()
        if third is not None:
            await scene.kill(third)
    await until_bus(scene, "up")


@over_nats
async def test_the_server_is_stopped(scene: Scene, nats: NatsServer) -> None:
    """It neither answers nor hangs up, and then speaks again of what is long over."""
    assert nats.child is not None
    async with streaming(scene, tokens=400):
        scene.send(nats.child, signal.SIGSTOP)
        try:
            await until_bus(scene, "down")
            await asyncio.sleep(6)
        finally:
            scene.send(nats.child, signal.SIGCONT)
        await until_bus(scene, "up")


@over_nats
async def test_its_password_is_in_no_log(scene: Scene, nats: NatsServer) -> None:
    said = "\n".join(scene.system.logs)
    assert "bus_connection_lost" in said
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said
