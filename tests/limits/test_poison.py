"""P28: texts that break things, and work that always fails: shown as failed, and only there."""

import asyncio
import time

import pytest
from temporalio.client import Client

from store.texts import clean
from tests.limits.giant_model import TEXTS
from tests.limits.histories import must_be_small
from tests.system import Team, checked


@pytest.fixture
async def team(giants: Team) -> Team:
    return await giants.elsewhere()


@pytest.mark.parametrize("name", sorted(TEXTS))
async def test_a_poisonous_answer_is_shown_as_it_is_stored(
    team: Team, temporal: Client, name: str
) -> None:
    async with team.room() as room, team.room("grace", 1) as grace:
        ack = await room.ask(await team.conversation(), f"#raw:{name}")
        turn_id = ack["data"]["turn_id"]
        for each in (room, grace):
            assert await each.turn(turn_id, timeout=40) == "completed"
            (held,) = each.state.texts.values()
            assert held.text == clean(TEXTS[name])
            assert each.refetched == each.rejoined == 0
        await must_be_small(temporal, turn_id)


@pytest.mark.parametrize("name", sorted(TEXTS))
async def test_a_poisonous_question_is_answered_or_refused(team: Team, name: str) -> None:
    async with team.room() as room:
        conversation = await team.conversation()
        if name in {"high", "low"}:
            # No JSON at all: not even its id can be read.
            data = {"conversation_id": conversation, "content": TEXTS[name]}
            await room.send("user_message", data)
            assert (await room.frame("error"))["data"]["code"] == "bad_json"
        elif name == "nul":
            ack = await room.ask(conversation, TEXTS[name])
            assert ack["data"]["code"] == "invalid", ack
        else:
            ack = await room.ask(conversation, TEXTS[name][:10_000])
            assert await room.turn(ack["data"]["turn_id"], timeout=40) == "completed"
            page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
            assert page["items"][0]["content"] == TEXTS[name][:10_000]
        # The socket and the conversation go on.
        again = await room.ask(conversation, "and now #say:fine")
        assert await room.turn(again["data"]["turn_id"], timeout=40) == "completed"


async def test_what_always_fails_ends_readable_and_alone(team: Team) -> None:
    """A model that always says no, beside neighbours who do not notice."""

    async def neighbours() -> list[float]:
        took = []
        async with team.room("grace", 1) as grace:
            for number in range(6):
                conversation = await team.conversation()
                started = time.monotonic()
                ack = await grace.ask(conversation, f"neighbour {number} #say:fine")
                assert await grace.turn(ack["data"]["turn_id"], timeout=40) == "completed"
                took.append(time.monotonic() - started)
        return sorted(took)

    quiet = await neighbours()
    async with team.room() as room:
        poisoned = [
            (await room.ask(await team.conversation(), f"poison {n} #status:{status}"))["data"]
            for n in range(4) for status in (400, 401, 404, 422)
        ]  # fmt: skip
        (beside,) = await asyncio.gather(neighbours())
        for ack in poisoned:
            assert await room.turn(ack["turn_id"], timeout=60) == "failed"
            turn = checked(await team.ada.get(f"/api/turns/{ack['turn_id']}"))
            assert turn["code"]
            assert len(turn["detail"]) > 10
            assert "CANARY" not in turn["detail"]
    # Generous: the machine is shared. Blocked neighbours would take as long as all the poison.
    assert beside[len(beside) // 2] < 5 * quiet[len(quiet) // 2] + 2
