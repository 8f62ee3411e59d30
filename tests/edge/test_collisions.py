"""Two messages at once: queued, refused, instead of each other, or joined into one turn."""

import asyncio
from typing import Any

import pytest

from tests.client import RoomClient, essence, fetch
from tests.model_server import expected
from tests.system import System, Team, checked


@pytest.fixture(scope="module")
async def ours(system: System) -> Team:
    return await system.team()


@pytest.fixture
async def team(ours: Team) -> Team:
    """A project nobody else uses."""
    return await ours.elsewhere()


async def speaking(room: RoomClient, turn_id: str, chars: int = 20) -> None:
    await room.until(
        lambda: any(
            len(held.text) >= chars and room.state.messages[key]["turn_id"] == turn_id
            for key, held in room.state.texts.items()
        )
    )


async def page(team: Team, conversation: str) -> list[dict[str, Any]]:
    path = f"/api/conversations/{conversation}/messages?limit=200"
    items: list[dict[str, Any]] = checked(await team.ada.get(path))["items"]
    return items


def prompts(system: System, text: str) -> list[list[dict[str, Any]]]:
    """What the model was shown, for requests that held `text` anywhere, without instructions."""
    return [
        call.body["messages"][1:]
        for call in system.model.calls
        if any(text in str(m.get("content")) for m in call.body["messages"])
    ]


async def agrees(room: RoomClient, team: Team) -> None:
    assert essence(room.state) == essence(await fetch(team.ada, team.project_id))


async def test_a_steered_message_joins_the_answer_that_streams(system: System, team: Team) -> None:
    """The answer it interrupted stays; the turn goes on and answers it too."""
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, "long answer #text:60:30")
        turn_id = ack["data"]["turn_id"]
        await speaking(grace, turn_id)
        steered = await grace.ask(
            conversation, "steer it #say:steered", on_busy="steer", client_message_id="s1"
        )
        assert steered["type"] == "ack"
        assert (steered["data"]["turn_id"], steered["data"]["status"]) == (turn_id, "running")
        again = await grace.ask(
            conversation, "steer it #say:steered", on_busy="steer", client_message_id="s1"
        )
        assert again["data"]["duplicate"] is True
        for field in ("turn_id", "message_id", "status"):
            assert again["data"][field] == steered["data"][field]
        other = await grace.ask(conversation, "other", on_busy="steer", client_message_id="s1")
        assert other["data"]["code"] == "conflict"
        for room in (ada, grace):
            assert await room.turn(turn_id) == "completed"
            await agrees(room, team)
        items = await page(team, conversation)
        assert [(m["role"], m["content"].strip()) for m in items] == [
            ("user", "long answer #text:60:30"),
            ("assistant", expected(1, 60)),
            ("user", "steer it #say:steered"),
            ("assistant", "steered"),
        ]
        assert {m["turn_id"] for m in items} == {turn_id}
        assert items[2]["metadata"] == {"after": items[1]["id"]}
        assert items[2]["author"]["name"] == "Grace"
        last = prompts(system, "steer it #say:steered")
        assert len(last) == 1
        assert [m["role"] for m in last[0]] == ["user", "assistant", "user"]
        turn = checked(await team.ada.get(f"/api/turns/{turn_id}"))
        assert (turn["steps"], turn["message_id"]) == (2, items[0]["id"])


async def test_a_steered_message_comes_after_the_results_of_the_step_it_met(
    system: System, team: Team
) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, "slow tools #tool:list_datasources:{} #text:5")
        turn_id = ack["data"]["turn_id"]
        path = f"/api/conversations/{conversation}/messages"
        body = {"content": "by REST #say:both", "client_message_id": "r1", "on_busy": "steer"}
        answer = await team.grace.post(path, json=body)
        assert answer.status_code == 202
        assert (answer.json()["turn_id"], answer.json()["status"]) == (turn_id, "running")
        for room in (ada, grace):
            assert await room.turn(turn_id) == "completed"
            await agrees(room, team)
    # Wherever it came in between, each prompt pairs its calls with their results.
    for prompt in prompts(system, "slow tools"):
        for place, message in enumerate(prompt):
            if message.get("tool_calls"):
                ids = [call["id"] for call in message["tool_calls"]]
                following = prompt[place + 1 : place + 1 + len(ids)]
                assert [m.get("tool_call_id") for m in following] == ids
    assert prompts(system, "by REST")[-1][-1]["content"] == body["content"]


async def test_a_call_that_is_made_again_sees_what_it_saw_and_the_next_sees_all(
    system: System, team: Team
) -> None:
    """A message that came during a failed attempt is seen once, by the step behind it."""
    conversation = await team.conversation()
    async with team.room() as ada:
        ack = await ada.ask(conversation, "fails first #500:1 #text:3")
        turn_id = ack["data"]["turn_id"]
        await ada.until(lambda: any("Trying again" in str(f["data"]) for f in ada.frames))
        steered = await ada.ask(conversation, "meanwhile #say:seen", on_busy="steer")
        assert steered["data"]["turn_id"] == turn_id
        assert await ada.turn(turn_id) == "completed"
        assert [m["content"].strip() for m in await page(team, conversation)] == [
            "fails first #500:1 #text:3", expected(2, 3), "meanwhile #say:seen", "seen",
        ]  # fmt: skip
        (only,) = prompts(system, "meanwhile #say:seen")
        assert [m["role"] for m in only] == ["user", "assistant", "user"]
        await agrees(ada, team)


async def test_steering_where_nothing_runs_is_asking(team: Team) -> None:
    conversation = await team.conversation()
    async with team.room() as ada:
        ack = await ada.ask(conversation, "alone #say:yes", on_busy="steer")
        assert await ada.turn(ack["data"]["turn_id"]) == "completed"
        ack = await ada.ask(conversation, "stopping #text:2000:20")
        first = ack["data"]["turn_id"]
        await speaking(ada, first)
        instead = await ada.ask(conversation, "instead #say:instead", on_busy="interrupt")
        # The running turn has been told to stop: nothing joins it any more.
        behind = await ada.ask(conversation, "behind #say:behind", on_busy="steer")
        assert len({first, instead["data"]["turn_id"], behind["data"]["turn_id"]}) == 3
        assert await ada.turn(first) == "cancelled"
        assert await ada.turn(behind["data"]["turn_id"]) == "completed"
        assert ada.state.turns[instead["data"]["turn_id"]]["status"] == "completed"
        await agrees(ada, team)


async def test_a_turn_without_a_step_left_is_not_joined(system: System) -> None:
    team = await system.team(steps_per_turn=1)
    conversation = await team.conversation()
    async with team.room() as ada:
        ack = await ada.ask(conversation, "last step #text:40:40")
        await speaking(ada, ack["data"]["turn_id"])
        behind = await ada.ask(conversation, "behind it #say:next", on_busy="steer")
        assert behind["data"]["status"] == "queued"
        assert behind["data"]["turn_id"] != ack["data"]["turn_id"]
        assert await ada.turn(ack["data"]["turn_id"]) == "completed"
        assert await ada.turn(behind["data"]["turn_id"]) == "completed"


@pytest.mark.parametrize(
    ("asked", "status"),
    [("stop it #text:2000:20", "cancelled"), ("give up #429:1:2 #status:401", "failed")],
)
async def test_a_turn_that_ends_keeps_what_joined_it(
    system: System, team: Team, asked: str, status: str
) -> None:
    """Stopped, or given up by the model: the message stays in its turn, and nothing is stuck."""
    conversation = await team.conversation()
    async with team.room("ada") as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, asked)
        turn_id = ack["data"]["turn_id"]
        if status == "cancelled":
            await speaking(ada, turn_id)
        else:
            await ada.until(lambda: any("Trying again" in str(f["data"]) for f in ada.frames))
        steered = await grace.ask(conversation, f"joins {status}", on_busy="steer")
        assert steered["data"]["turn_id"] == turn_id
        if status == "cancelled":
            await ada.send("stop_turn", {"turn_id": turn_id})
        assert await ada.turn(turn_id) == status
        items = await page(team, conversation)
        assert [m["id"] for m in items if m["role"] == "user"][-1] == steered["data"]["message_id"]
        assert {m["turn_id"] for m in items} == {turn_id}
        await agrees(ada, team)
        # The next question's prompt holds it, as what people said.
        ack = await ada.ask(conversation, f"and on {status} #say:on")
        assert await grace.turn(ack["data"]["turn_id"]) == "completed"
        (prompt,) = prompts(system, f"and on {status}")
        assert f"joins {status}" in [m["content"] for m in prompt]


@pytest.mark.parametrize("seed", range(3))
async def test_steering_at_the_very_end_is_never_lost(
    system: System, team: Team, seed: int
) -> None:
    """The race that matters: a message that arrives while an answer is being stored."""
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        for number in range(8):
            text = f"race {seed}.{number} #text:10:200"
            ack = await ada.ask(conversation, text)
            await asyncio.sleep(0.05 + 0.008 * number + 0.003 * seed)
            steered = await grace.ask(conversation, f"late {seed}.{number} #say:late",
                                      on_busy="steer")  # fmt: skip
            for turn_id in (ack["data"]["turn_id"], steered["data"]["turn_id"]):
                assert await grace.turn(turn_id) == "completed"
            # Some call has seen it, and the last word is the agent's.
            assert prompts(system, f"late {seed}.{number} ")
            items = await page(team, conversation)
            assert items[-1]["role"] == "assistant"
            assert items[-1]["turn_id"] == steered["data"]["turn_id"]
        await ada.until(lambda: ada.state.seq == grace.state.seq)
        await agrees(ada, team)


async def test_interrupting_ends_what_waits_and_stops_what_runs(team: Team) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        asked = [await ada.ask(conversation, f"{n} #text:2000:20") for n in range(3)]
        running, *waiting = [ack["data"]["turn_id"] for ack in asked]
        await speaking(grace, running)
        ack = await grace.ask(conversation, "now #say:now", on_busy="interrupt")
        for turn_id in waiting:
            # In the message's own transaction: nobody waits for the one that runs to end.
            assert await grace.turn(turn_id, timeout=2) == "cancelled"
        assert await grace.turn(running) == "cancelled"
        assert await grace.turn(ack["data"]["turn_id"]) == "completed"
        await agrees(grace, team)


# --- who may choose what --------------------------------------------------------------------------


async def test_a_project_says_what_its_roles_may_do(team: Team) -> None:
    path = f"/api/projects/{team.project_id}"
    by_role = {"editor": ["reject", "enqueue"]}
    changed = checked(await team.ada.patch(path, json={"settings": {"on_busy_by_role": by_role}}))
    assert changed["settings"]["on_busy_by_role"] == by_role
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, "runs #text:2000:20")
        for choice in ("interrupt", "steer"):
            refused = await grace.ask(conversation, "mine", on_busy=choice)
            assert refused["type"] == "error"
            assert refused["data"]["code"] == "forbidden"
            assert choice in refused["data"]["message"]
            answer = await team.grace.post(
                f"/api/conversations/{conversation}/messages",
                json={"content": "mine", "client_message_id": choice, "on_busy": choice},
            )
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        # The first of the list is what it does when it does not say.
        assert (await grace.ask(conversation, "quietly"))["data"]["code"] == "busy"
        queued = await grace.ask(conversation, "patiently #say:ok", on_busy="enqueue")
        assert queued["data"]["status"] == "queued"
        mine = await ada.ask(conversation, "my turn #say:mine", on_busy="interrupt")
        assert await ada.turn(ack["data"]["turn_id"]) == "cancelled"
        assert await ada.turn(mine["data"]["turn_id"]) == "completed"
    checked(await team.ada.patch(path, json={"settings": {"on_busy_by_role": {}}}))


@pytest.mark.parametrize(
    "by_role",
    [
        {"viewer": ["enqueue"]},
        {"editor": []},
        {"editor": ["enqueue", "enqueue"]},
        {"editor": ["push"]},
        {"owner": ["enqueue"]},
        {"editor": "enqueue"},
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(team: Team, by_role: Any) -> None:
    answer = await team.ada.patch(
        f"/api/projects/{team.project_id}", json={"settings": {"on_busy_by_role": by_role}}
    )
    assert answer.status_code == 422
    assert "on_busy_by_role" in answer.text


async def test_steering_may_be_a_projects_habit(team: Team) -> None:
    path = f"/api/projects/{team.project_id}"
    checked(await team.ada.patch(path, json={"settings": {"on_busy": "steer"}}))
    conversation = await team.conversation()
    async with team.room() as ada:
        ack = await ada.ask(conversation, "habit #text:40:40")
        joined = await ada.ask(conversation, "joins by itself #say:ok")
        assert joined["data"]["turn_id"] == ack["data"]["turn_id"]
        assert await ada.turn(ack["data"]["turn_id"]) == "completed"
