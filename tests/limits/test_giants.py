"""P26: giant payloads at each hop are capped with a named error, and never reach Temporal."""

import json

import httpx
import pytest
from temporalio.client import Client

from store.limits import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from tests.client import RoomClient
from tests.limits.conftest import FULL
from tests.limits.giant_model import GiantModel, told
from tests.limits.histories import must_be_small
from tests.system import System, Team, checked

KIB, MIB = 1024, 1024 * 1024
BIG = 64 * MIB if FULL else 4 * MIB


@pytest.fixture
async def team(giants: Team) -> Team:
    return await giants.elsewhere()


async def answered(room: RoomClient, team: Team, content: str, status: str = "completed") -> str:
    ack = await room.ask(await team.conversation(), content)
    assert ack["type"] == "ack", ack
    turn_id = str(ack["data"]["turn_id"])
    assert await room.turn(turn_id, timeout=40) == status
    return turn_id


def said(room: RoomClient, turn_id: str) -> str:
    return "".join(
        held.text for key, held in room.state.texts.items()
        if room.state.messages[key]["turn_id"] == turn_id
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, MAX_MESSAGE_BYTES])
async def test_a_message_of_any_allowed_size(team: Team, temporal: Client, size: int) -> None:
    async with team.room() as room:
        turn_id = await answered(room, team, "m" * size)
        await must_be_small(temporal, turn_id)
        assert room.refetched == 0


async def test_a_message_that_is_too_large_is_named(team: Team) -> None:
    conversation = await team.conversation()
    path = f"/api/conversations/{conversation}/messages"
    async with team.room() as room:
        ack = await room.ask(conversation, "m" * (MAX_MESSAGE_BYTES + 1))
        assert ack["data"]["code"] == "too_large"
        assert str(MAX_MESSAGE_BYTES) in ack["data"]["message"]
        body = {"content": "m" * (MAX_MESSAGE_BYTES + 1), "client_message_id": "m"}
        assert (await team.ada.post(path, json=body)).status_code == 413
        # A neighbour's socket does not notice what happens to this one.
        async with team.room("grace", 1) as grace:
            await room.raw(json.dumps({"type": "ping", "data": {"x": "p" * MAX_FRAME_BYTES}}))
            assert await room.until(lambda: room.close_code) == 1009
            await answered(grace, team, "as ever #say:fine")


async def test_a_body_that_is_too_large_is_named_and_not_read(system: System, team: Team) -> None:
    path = f"/api/conversations/{await team.conversation()}/messages"
    sent = 0

    async def endless() -> object:
        nonlocal sent
        while sent < BIG:
            sent += 65_536
            yield b"x" * 65_536  # type: ignore[misc]

    headers = {"Content-Type": "application/json"}
    try:
        answer = await team.ada.post(path, content=endless(), headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    except httpx.WriteError:
        assert sent < BIG  # the server hung up on it
    headers["Content-Length"] = str(BIG)
    answer = await team.ada.post(path, content=b"{}" + b" " * (BIG - 2), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("size", [1, 200 * KIB, MIB])
@pytest.mark.parametrize("kind", ["chunk", "chunks"])
async def test_an_answer_of_any_size(team: Team, temporal: Client, kind: str, size: int) -> None:
    async with team.room() as room, team.room("grace", 1) as grace:
        turn_id = await answered(room, team, f"#{kind}:{size}")
        await grace.turn(turn_id)
        (message,) = [m for m in room.state.messages.values()
                      if m.get("turn_id") == turn_id and m["role"] == "assistant"]  # fmt: skip
        text = said(room, turn_id)
        assert len(text) == min(size, 256 * KIB)
        assert said(grace, turn_id) == text
        assert room.refetched == grace.refetched == 0
        stored = checked(
            await team.ada.get(f"/api/conversations/{message['conversation_id']}/messages")
        )
        assert stored["items"][-1]["content"] == text
        if size > 256 * KIB:
            assert stored["items"][-1]["metadata"]["truncated"] is True
        await must_be_small(temporal, turn_id)


async def test_a_line_that_never_ends_is_cut(team: Team, temporal: Client) -> None:
    """More than 8 MiB in one line of the model's stream: no answer, and a reason."""
    size = BIG if FULL else 9 * MIB
    async with team.room() as room:
        conversation = await team.conversation()
        ack = await room.ask(conversation, f"#chunk:{size}")
        turn_id = ack["data"]["turn_id"]

        def noticed() -> bool:
            return any(
                "unreadable" in (frame["data"].get("detail") or "")
                for frame in room.frames if frame["type"] == "turn_status"
            )  # fmt: skip

        await room.until(noticed, timeout=60)
        await room.send("stop_turn", {"turn_id": turn_id})
        assert await room.turn(turn_id, timeout=60) == "cancelled"
        await must_be_small(temporal, turn_id)


@pytest.mark.parametrize("size", [KIB, 250 * KIB, 300 * KIB, 2 * MIB])
async def test_arguments_of_any_size(
    team: Team, temporal: Client, giant: GiantModel, size: int
) -> None:
    marker = f"#args:{size} #say:told"
    async with team.room() as room:
        turn_id = await answered(room, team, marker)
        await must_be_small(temporal, turn_id)
        (execution,) = list(room.state.executions.values())
        assert execution["error"]["code"] == "invalid_arguments"
        (result,) = told(giant.calls_for(marker)[-1])
        assert "invalid_arguments" in result["content"]
        assert len(result["content"]) < 16 * KIB
        assert max(len(json.dumps(frame)) for frame in room.frames) < 400 * KIB


async def test_results_of_any_size(team: Team, temporal: Client, giant: GiantModel) -> None:
    source = await team.sqlite_shop()
    size = 8 * MIB if FULL else 2 * MIB
    for query in (
        f"SELECT hex(zeroblob({size // 2})) AS big",
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
            " SELECT i, hex(zeroblob(500)) AS filler FROM n"
        ),
    ):
        marker = f'#tool:database_query:{{"datasource_id":"{source}","query":"{query}"}} #say:seen'
        async with team.room() as room:
            turn_id = await answered(room, team, marker)
            await must_be_small(temporal, turn_id)
            execution = list(room.state.executions.values())[-1]
            assert execution["status"] in {"completed", "failed"}, execution
            if execution["status"] == "failed":
                assert execution["error"]["code"] in {"too_large", "refused"}, execution["error"]
            assert len(json.dumps(execution["result"])) <= 40 * KIB
            (result,) = told(giant.calls_for(query)[-1])
            assert len(result["content"]) <= 20 * KIB


def test_temporal_was_never_given_too_much(system: System) -> None:
    assert not [line for line in system.logs if "TMPRL1103" in line]
