"""P10–P15: a model in trouble, seen from the room; and an answer that outlives its worker."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.client import RoomClient, essence, fetch
from tests.faults.scene import Scene
from tests.faults.test_kills import never_mixed, speaking, text_of
from tests.model_server import expected
from tests.responses_server import ResponsesServer
from tests.system import checked


def details(room: RoomClient, turn_id: str) -> list[str | None]:
    """What the room was told of a turn, in order, once it ran."""
    return [
        heard["data"]["detail"] for heard in room.frames
        if heard["type"] == "turn_status" and heard["data"]["turn_id"] == turn_id
        and heard["data"]["status"] != "queued"
    ]  # fmt: skip


@pytest.fixture(scope="module")
async def upstream(scene: Scene) -> AsyncIterator[ResponsesServer]:
    async with ResponsesServer().running() as running:
        yield running


@pytest.fixture
async def responses(scene: Scene, upstream: ResponsesServer) -> AsyncIterator[ResponsesServer]:
    """The tenant's model speaks the Responses API while the test runs."""
    tenant = "/api/admin/tenant"
    mine = {"ai_api_url": upstream.url, "ai_api_key": "sk-their-own-0123456789"}
    changed = checked(
        await scene.team.admin.patch(tenant, json={"ai_api_kind": "responses", **mine})
    )
    assert changed["ai_api_kind"] == "responses"
    yield upstream
    back = {"ai_api_kind": "chat_completions", "ai_api_url": None}
    checked(await scene.team.admin.patch(tenant, json=back))


async def test_the_room_hears_what_is_happening(scene: Scene) -> None:
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        busy = await scene.ask(ada, "busy #429:1:2 #text:5")
        cut = await scene.ask(ada, "cut #cut:3 #text:5")
        broken = await scene.ask(ada, "broken #badjson")
        refused = await scene.ask(ada, "refused #status:401")
        for room in (ada, grace):
            assert await room.turn(busy) == "completed"
            assert await room.turn(cut) == "completed"
            assert await room.turn(broken) == "failed"
            assert await room.turn(refused) == "failed"
            assert details(room, busy) == [
                None, "The model is busy. Trying again in 2 s (attempt 2 of 6).", None, None,
            ]  # fmt: skip
            told = details(room, cut)
            assert told[0] is told[2] is told[3] is None
            assert "cut off" in str(told[1]) or "broke" in str(told[1])
            assert "could not be read" in str(details(room, broken)[-1])
            assert "administrator" in str(details(room, refused)[-1])
            assert text_of(room, busy) == text_of(room, cut) == expected(2, 5)
            never_mixed(room)
            assert essence(room.state) == essence(await fetch(scene.team.ada, room.project_id))
    calls = scene.system.model.calls_for("busy #429:1:2")
    assert calls[1].at - calls[0].at >= 2 - 0.1, "not earlier than told"
    _, messages = await scene.answer(broken)
    codes = [e["error"]["code"] for m in messages for e in m["tool_executions"]]
    assert codes == ["invalid_arguments"] * 3
    assert len(scene.system.model.calls_for("broken #badjson")) == 3


async def test_a_history_that_no_longer_fits(scene: Scene) -> None:
    async with scene.team.room("ada", 0) as ada:
        conversation = await scene.team.conversation()
        for number in range(4):
            turn_id = await scene.ask(ada, f"question {number} #say:{'x' * 200}", conversation)
            assert await ada.turn(turn_id) == "completed"
        turn_id = await scene.ask(ada, "long #ctx:5 #text:4", conversation)
        assert await ada.turn(turn_id) == "completed"
        assert "left out" in str(details(ada, turn_id)[1])
    _, (message,) = await scene.answer(turn_id)
    assert message["content"] == expected(2, 4)
    assert message["metadata"]["omitted_messages"] > 0
    assert len(scene.system.model.calls_for("long #ctx:5")) == 2


async def test_an_answer_outlives_its_worker(scene: Scene, responses: ResponsesServer) -> None:
    """The provider goes on while nobody listens; the next worker reads on, and it is paid once."""
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        killed = await scene.ask(ada, "outlived #text:150:15")
        cut = await scene.ask(ada, "cut off #cut:20 #text:60:40")
        await speaking(ada, killed, chars=250)
        await scene.kill(scene.system.workers[0])
        await scene.hire()
        for room in (ada, grace):
            assert await room.turn(killed, timeout=60) == "completed"
            assert await room.turn(cut, timeout=60) == "completed"
            assert text_of(room, killed) == expected(1, 150)
            assert text_of(room, cut) == expected(1, 60)
            never_mixed(room)
            assert room.refetched == room.rejoined == 0
    for question, turn_id in (("outlived #text", killed), ("cut off #cut", cut)):
        (paid,) = responses.of(question)
        assert len(paid.reads) >= 2
        assert paid.reads[1] is not None, "it was not read from its beginning"
        _, (message,) = await scene.answer(turn_id)
        assert message["epoch"] >= 2


async def test_a_stop_reaches_the_generation(scene: Scene, responses: ResponsesServer) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn_id = await scene.ask(ada, "stop it #text:2000:50")
        await speaking(ada, turn_id)
        await ada.send("stop_turn", {"turn_id": turn_id})
        assert await ada.turn(turn_id, timeout=10) == "cancelled"

        async def cancelled() -> bool:
            return responses.of("stop it #text")[0].cancelled

        await scene.system.until(cancelled, timeout=5)


async def test_tools_by_the_responses_api(scene: Scene, responses: ResponsesServer) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn_id = await scene.ask(ada, 'tools #tool:look:{"key":"r1","seconds":0} #text:3')
        assert await ada.turn(turn_id, timeout=20) == "completed"
    execution: dict[str, Any] = await scene.execution(turn_id)
    assert (execution["status"], execution["result"]["key"]) == ("completed", "r1")
