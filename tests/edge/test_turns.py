"""A turn as its room sees it, over real sockets, on two edges."""

import asyncio

import pytest

from tests.client import essence, fetch
from tests.model_server import expected
from tests.system import System, Team, checked


async def test_two_people_on_two_edges_see_the_same(system: System, team: Team) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, "hello #text:40:200")
        turn_id = ack["data"]["turn_id"]
        assert await ada.turn(turn_id) == "completed"
        assert await grace.turn(turn_id) == "completed"
        fresh = essence(await fetch(team.ada, team.project_id))
        assert essence(ada.state) == essence(grace.state) == fresh
        assert [text.text for text in ada.state.texts.values()] == [expected(1, 40)]
        assert ada.refetched == grace.refetched == ada.rejoined == 0
        deltas = [f for f in grace.frames if f["type"] == "assistant_response"]
        assert len(deltas) > 5, "it streams"


async def test_durable_events_are_numbered_without_a_gap(team: Team) -> None:
    conversation = await team.conversation()
    async with team.room() as room:
        for number in range(3):
            ack = await room.ask(conversation, f"number {number}")
            await room.turn(ack["data"]["turn_id"])
        answer = checked(await team.ada.get(f"/api/projects/{team.project_id}/events"))
        assert [item["data"]["seq"] for item in answer["items"]] == list(
            range(1, answer["seq"] + 1)
        )


async def test_a_resend_changes_nothing(system: System, team: Team) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as first:
        acks = await asyncio.gather(
            *(
                first.ask(conversation, "resent #say:yes", client_message_id="same")
                for _ in range(5)
            )
        )
        assert len({ack["data"]["turn_id"] for ack in acks}) == 1
        assert [ack["data"]["duplicate"] for ack in acks].count(False) == 1
        await first.turn(acks[0]["data"]["turn_id"])
        again = await first.ask(conversation, "resent #say:yes", client_message_id="same")
        assert again["data"]["duplicate"] is True
        other = await first.ask(conversation, "another", client_message_id="same")
        assert other["type"] == "error"
        assert other["data"]["code"] == "conflict"
        page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
        assert [m["role"] for m in page["items"]] == ["user", "assistant"]
        assert len(system.model.calls_for("resent #say:yes")) == 1


async def test_a_second_message_waits_and_runs_after(system: System, team: Team) -> None:
    conversation = await team.conversation()
    async with team.room("ada") as ada, team.room("grace", 1) as grace:
        first = await ada.ask(conversation, "first #text:30:60")
        second = await grace.ask(conversation, "second #say:two")
        assert second["data"]["status"] == "queued"
        assert await ada.turn(first["data"]["turn_id"]) == "completed"
        assert await ada.turn(second["data"]["turn_id"]) == "completed"
        page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
        assert [m["content"][:6] for m in page["items"]] == [
            "first ", expected(1, 30)[:6], "second", "two ",
        ]  # fmt: skip
        (prompt,) = [c.body["messages"] for c in system.model.calls_for("second #say:two")]
        assert [m["role"] for m in prompt] == ["system", "user", "assistant", "user"]


async def test_stop_keeps_the_partial_answer_and_hangs_up(system: System, team: Team) -> None:
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, "stop me #text:2000:50")
        turn_id = ack["data"]["turn_id"]
        await room.until(lambda: any(len(t.text) > 100 for t in room.state.texts.values()))
        await room.reply(await room.send("stop_turn", {"turn_id": turn_id}))
        assert await room.turn(turn_id, timeout=5) == "cancelled"
        (call,) = system.model.calls_for("stop me")
        await system.until(lambda: _true(call.disconnected), timeout=2)
        turn = checked(await team.ada.get(f"/api/turns/{turn_id}"))
        assert turn["code"] == "stopped"
        assert turn["stopped_by"] == team.people["ada"]
        page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
        answer = page["items"][1]
        assert answer["status"] == "stopped"
        assert answer["content"].startswith(expected(1, 5))
        assert essence(room.state) == essence(await fetch(team.ada, team.project_id))


async def _true(value: bool) -> bool:
    return value


@pytest.mark.parametrize("trouble", ["cut:3", "500:1", "429:1:1", "error200:1", "html:1"])
async def test_a_failed_attempt_is_made_again_and_never_mixed(team: Team, trouble: str) -> None:
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, f"try #text:9:100 #{trouble}")
        assert await room.turn(ack["data"]["turn_id"]) == "completed"
        assert [t.text for t in room.state.texts.values()] == [expected(2, 9)]
        assert room.refetched == 0
        notices = [
            f["data"]["detail"] for f in room.frames
            if f["type"] == "turn_status" and f["data"]["detail"]
        ]  # fmt: skip
        assert any("Trying again" in notice for notice in notices)


async def test_a_refused_key_is_said_and_never_shown(system: System, team: Team) -> None:
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, "refused #status:401")
        assert await room.turn(ack["data"]["turn_id"]) == "failed"
        turn = checked(await team.ada.get(f"/api/turns/{ack['data']['turn_id']}"))
        assert turn["code"] == "model_refused"
        assert "key" in turn["detail"]
        assert len(system.model.calls_for("refused #status:401")) == 1
        assert "CANARY" not in str(room.frames) + str(turn) + "".join(system.logs)


async def test_text_is_counted_in_code_points(team: Team) -> None:
    conversation = await team.conversation()
    async with team.room() as room:
        for marker, text in (("#emoji", "a👩‍🚀née\u0301 🚀🚀 end"), ("#split", "x🚀y")):
            ack = await room.ask(conversation, marker)
            assert await room.turn(ack["data"]["turn_id"]) == "completed"
            assert text in {t.text for t in room.state.texts.values()}
        assert room.refetched == room.rejoined == 0
