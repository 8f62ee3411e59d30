"""A tool that asks: the turn waits, people decide from any edge, and the answer comes."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.client import RoomClient, essence, fetch
from tests.system import System, Team, checked

TOOL = "list_datasources"


@pytest.fixture(scope="module")
async def ours(system: System) -> Team:
    return await system.team()


@pytest.fixture
async def team(ours: Team) -> Team:
    """A project in which every tool asks an editor, once."""
    team = await ours.elsewhere()
    await asks(team)
    return team


async def asks(team: Team, policy: str = "ask", **terms: Any) -> None:
    rules = {"items": [{"tool": "*", "policy": policy, **terms}]}
    checked(await team.ada.put(f"/api/projects/{team.project_id}/tool-policies", json=rules))


async def asked(room: RoomClient, team: Team, text: str, conversation: str = "") -> str:
    ack = await room.ask(conversation or await team.conversation(), text)
    assert ack["type"] == "ack", ack
    return str(ack["data"]["turn_id"])


async def waiting(room: RoomClient, turn_id: str, count: int = 1) -> list[str]:
    """The calls of a turn that wait for people, once there are so many and it says so."""

    def found() -> list[str]:
        status = room.state.turns.get(turn_id, {}).get("status")
        calls = [
            key for key, row in room.state.executions.items()
            if row["status"] == "awaiting_approval"
            and room.state.messages[row["message_id"]]["turn_id"] == turn_id
        ]  # fmt: skip
        return calls if status == "awaiting_approval" and len(calls) >= count else []

    await room.until(lambda: bool(found()), timeout=30)
    return found()


async def decide(http: httpx.AsyncClient, execution: str, **word: Any) -> httpx.Response:
    word = {"decision": "approve", **word}
    return await http.post(f"/api/tool-executions/{execution}/decision", json=word)


async def execution(team: Team, execution_id: str) -> dict[str, Any]:
    found: dict[str, Any] = checked(await team.ada.get(f"/api/tool-executions/{execution_id}"))
    return found


def told(system: System, text: str) -> list[Any]:
    """What the model was told its calls came to, in its last request."""
    *_, last = system.model.calls_for(text)
    return [json.loads(m["content"]) for m in last.body["messages"] if m["role"] == "tool"]


async def test_a_turn_waits_and_a_second_person_approves(system: System, team: Team) -> None:
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        turn_id = await asked(ada, team, f"approve me #tool:{TOOL}:{{}} #say:approved")
        (call,) = await waiting(grace, turn_id)
        assert (await execution(team, call))["requires_approval"] is True
        shown = grace.state.executions[call]["approval"]
        assert (shown["approvers"], shown["approvals"], shown["not_asker"]) == ("editor", 1, False)
        answer = checked(await decide(team.grace, call, note="go on"))
        assert (answer["status"], answer["duplicate"]) == ("pending", False)
        assert answer["approval"]["decided_by"]["name"] == "Grace"
        late = checked(await decide(team.ada, call, decision="deny"))
        assert late["duplicate"] is True
        assert late["approval"]["decision"] == "approved", "the first one's outcome"
        for room in (ada, grace):
            assert await room.turn(turn_id) == "completed"
            statuses = [
                f["data"]["status"] for f in room.frames
                if f["type"] == "turn_status" and f["data"]["turn_id"] == turn_id
            ]  # fmt: skip
            assert statuses[-4:] == ["running", "awaiting_approval", "running", "completed"]
            assert essence(room.state) == essence(await fetch(team.ada, team.project_id))
    row = await execution(team, call)
    assert (row["status"], row["approval"]["note"]) == ("completed", "go on")


async def test_a_denial_is_told_to_the_model(system: System, team: Team) -> None:
    async with team.room("ada") as ada:
        turn_id = await asked(ada, team, f"deny me #tool:{TOOL}:{{}} #say:denied")
        (call,) = await waiting(ada, turn_id)
        frame = {"tool_execution_id": call, "decision": "deny", "note": "not today"}
        answer = await ada.reply(await ada.send("tool_decision", frame))
        assert answer["type"] == "ack", answer
        assert answer["data"]["status"] == "failed"
        again = await ada.reply(await ada.send("tool_decision", frame))
        assert again["data"]["duplicate"] is True
        assert await ada.turn(turn_id) == "completed"
    assert told(system, "deny me") == [
        {"error": {"code": "denied", "message": "Denied by Ada: not today"}}
    ]


async def test_others_run_while_one_waits_and_a_stop_ends_the_wait(team: Team) -> None:
    async with team.room("ada") as ada:
        turn_id = await asked(ada, team, f"both #tool:{TOOL}:{{}} #tool:{TOOL}:{{}}")
        first, second = await waiting(ada, turn_id, 2)
        checked(await decide(team.grace, first))
        await ada.until(lambda: ada.state.executions[first]["status"] == "completed")
        assert await waiting(ada, turn_id) == [second]
        checked(await team.grace.post(f"/api/turns/{turn_id}/stop"))
        assert await ada.turn(turn_id, timeout=10) == "cancelled"
        assert ada.state.executions[second]["status"] == "cancelled"
        assert (await decide(team.grace, second)).status_code == 409


async def test_changed_arguments_run_and_the_model_is_told(system: System, team: Team) -> None:
    shop = await team.sqlite_shop()
    query = {"datasource_id": shop, "query": "SELECT name FROM items"}
    async with team.room("ada") as ada:
        text = f"edit me #tool:database_query:{json.dumps(query)} #say:edited"
        turn_id = await asked(ada, team, text)
        (call,) = await waiting(ada, turn_id)
        for wrong in (
            {"datasource_id": shop}, {**query, "more": 1}, {**query, "query": 7},
            {**query, "query": "\0"},
        ):  # fmt: skip
            refused = await decide(team.grace, call, arguments=wrong)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_arguments")
        assert (await execution(team, call))["approval"]["votes"] == []
        changed = {**query, "query": "SELECT name FROM items WHERE price > 50"}
        checked(await decide(team.grace, call, arguments=changed))
        assert await ada.turn(turn_id) == "completed"
    row = await execution(team, call)
    assert row["result"]["rows"] == [["desk"]]
    assert row["parameters"] == query, "the original is kept"
    assert row["approval"]["arguments"] == changed
    assert row["approval"]["changed_by"]["name"] == "Grace"
    (result,) = told(system, "edit me")
    assert result["people_changed_the_arguments_to"] == changed


async def test_changed_arguments_are_judged_by_what_they_do(team: Team) -> None:
    """A request that read is one that changes things now, and is never to be sent twice."""
    async with team.room("ada", 0) as ada:
        get = json.dumps({"method": "GET", "url": "http://nowhere.test/"}, separators=(",", ":"))
        turn_id = await asked(ada, team, f"ask them #tool:http_request:{get} #say:done")
        (call,) = await waiting(ada, turn_id)
        assert (await execution(team, call))["effect"] == "read"
        post = {"method": "POST", "url": "http://nowhere.test/", "body": "x"}
        checked(await decide(team.ada, call, arguments=post))
        assert await ada.turn(turn_id) == "completed"
        found = await execution(team, call)
        assert (found["effect"], found["error"]["code"]) == ("once", "refused")


@pytest.mark.parametrize("scope", ["turn", "conversation"])
async def test_a_grant_spares_the_next_question(team: Team, scope: str) -> None:
    conversation = await team.conversation()
    path = f"/api/conversations/{conversation}/tool-grants"
    async with team.room("ada") as ada, team.room("grace") as grace:
        text = f"again #loop:{TOOL}:{{}}"
        turn_id = await asked(ada, team, text, conversation)
        (call,) = await waiting(ada, turn_id)
        checked(await decide(team.grace, call, scope=scope))

        def steps() -> int:
            return sum(r["status"] == "completed" for r in ada.state.executions.values())

        await ada.until(lambda: steps() > 3, timeout=30)
        checked(await team.ada.post(f"/api/turns/{turn_id}/stop"))
        await ada.turn(turn_id)
        (grant,) = checked(await team.ada.get(path))["items"]
        assert grant["granted_by"][0]["name"] == "Grace"
        assert grant["user"]["name"] == "Ada"
        following = await asked(ada, team, f"once more #tool:{TOOL}:{{}}", conversation)
        if scope == "turn":
            await waiting(ada, following)
            checked(await team.ada.post(f"/api/turns/{following}/stop"))
        assert await ada.turn(following) == ("cancelled" if scope == "turn" else "completed")
        # It is Ada's alone: Grace's turns ask.
        hers = await asked(grace, team, f"hers #tool:{TOOL}:{{}}", conversation)
        await waiting(grace, hers)
        checked(await team.ada.post(f"/api/turns/{hers}/stop"))
        await grace.turn(hers)
        # Tighter terms, a denial and a withdrawal are stronger than it.
        if scope == "conversation":
            await asks(team, approvers="owner")
            tighter = await asked(ada, team, f"tighter #tool:{TOOL}:{{}}", conversation)
            await waiting(ada, tighter)
            checked(await team.ada.post(f"/api/turns/{tighter}/stop"))
            await ada.turn(tighter)
            await asks(team, "deny")
            never = await asked(ada, team, f"never #tool:{TOOL}:{{}}", conversation)
            assert await ada.turn(never) == "completed"
            denied = [r for r in ada.state.executions.values() if r["error"]]
            assert denied[-1]["error"]["code"] == "denied"
            await asks(team)
            checked(await team.grace.delete(f"/api/tool-grants/{grant['id']}"))
            assert checked(await team.ada.get(path))["items"] == []
            last = await asked(ada, team, f"last #tool:{TOOL}:{{}}", conversation)
            await waiting(ada, last)
            checked(await team.ada.post(f"/api/turns/{last}/stop"))
            await ada.turn(last)


async def test_authority_is_that_of_the_moment_it_runs(system: System, team: Team) -> None:
    """Approved, and yet: the policy denies by now, or whoever asked is gone."""
    async with team.room("ada") as ada, team.room("grace") as grace:
        denied = await asked(ada, team, f"policy #tool:{TOOL}:{{}} #say:policy")
        (call,) = await waiting(ada, denied)
        await asks(team, "deny")
        checked(await decide(team.grace, call))
        assert await ada.turn(denied) == "completed"
        assert "policy does not allow" in told(system, "policy #tool")[0]["error"]["message"]
        await asks(team)
        gone = await asked(grace, team, f"gone #tool:{TOOL}:{{}} #say:gone")
        (call,) = await waiting(ada, gone)
        path = f"/api/projects/{team.project_id}/members/{team.people['grace']}"
        checked(await team.ada.delete(path))
        assert (await decide(team.grace, call)).status_code == 404
        checked(await decide(team.ada, call))
        assert await ada.turn(gone) == "completed"
        error = (await execution(team, call))["error"]
        assert error["code"] == "denied"
        assert "may no longer" in error["message"]


async def test_a_policy_that_tightens_meanwhile_asks_again(team: Team) -> None:
    async with team.room("ada") as ada:
        turn_id = await asked(ada, team, f"tightened #tool:{TOOL}:{{}} #say:tightened")
        (call,) = await waiting(ada, turn_id)
        await asks(team, approvals=2)
        checked(await decide(team.grace, call))
        await ada.until(
            lambda: (ada.state.executions[call]["approval"] or {}).get("question") == 2,
            timeout=30,
        )
        assert await waiting(ada, turn_id) == [call]
        checked(await decide(team.grace, call))
        assert (await execution(team, call))["status"] == "awaiting_approval"
        checked(await decide(team.ada, call))
        assert await ada.turn(turn_id) == "completed"
        assert (await execution(team, call))["status"] == "completed"


async def test_a_question_that_expires_is_denied(system: System, team: Team) -> None:
    async with team.room("ada") as ada:
        turn_id = await asked(ada, team, f"expire #tool:{TOOL}:{{}} #say:expired")
        (call,) = await waiting(ada, turn_id)
        # As if its time were over and the run's own timer had been missed.
        await system.sql(
            "UPDATE tool_executions SET expires_at = now() - interval '1 minute' WHERE id = $1",
            call,
        )
        assert await ada.turn(turn_id, timeout=40) == "completed"
    row = await execution(team, call)
    assert (row["status"], row["approval"]["decision"]) == ("failed", "expired")
    assert "expired" in told(system, "expire #tool")[0]["error"]["message"]
    (audit,) = await system.sql(
        "SELECT outcome, user_id FROM audit_log WHERE action = 'tool.expire'"
        " AND tool_execution_id = $1", call,
    )  # fmt: skip
    assert (audit["outcome"], audit["user_id"]) == ("refused", None)


async def test_a_decision_whose_signal_was_lost_is_told_again(system: System, team: Team) -> None:
    """K12: the edge dies between the commit and the signal."""
    edge = await system.start_edge(FAULT_POINT="K12:1")
    async with team.room("ada") as ada:
        turn_id = await asked(ada, team, f"lost #tool:{TOOL}:{{}} #say:found")
        (call,) = await waiting(ada, turn_id)
        async with httpx.AsyncClient(base_url=edge.url, cookies=team.grace.cookies) as grace:
            with pytest.raises(httpx.RemoteProtocolError):
                await decide(grace, call)
        assert (await execution(team, call))["approval"]["decision"] == "approved"
        assert await ada.turn(turn_id, timeout=40) == "completed"
    (row,) = await system.sql("SELECT told_at FROM tool_executions WHERE id = $1", call)
    assert row["told_at"] is not None


async def test_a_waiting_turn_gives_its_place_away(system: System) -> None:
    team = await system.team(concurrent_turns=1)
    await asks(team)
    async with team.room("ada") as ada:
        waits = await asked(ada, team, f"waits #tool:{TOOL}:{{}} #say:waited")
        (call,) = await waiting(ada, waits)
        other = await asked(ada, team, "other #text:400:20")
        await ada.until(
            lambda: ada.state.turns.get(other, {}).get("status") == "running", timeout=20
        )
        # It comes back at once, beside the one that took its place.
        checked(await decide(team.grace, call))
        assert await ada.turn(waits, timeout=20) == "completed"
        assert ada.state.turns[other]["status"] == "running"
        checked(await team.ada.post(f"/api/turns/{other}/stop"))
        await ada.turn(other)


async def test_two_deciders_at_once_have_one_outcome(team: Team) -> None:
    async with team.room("ada") as ada:
        for number in range(4):
            turn_id = await asked(ada, team, f"race {number} #tool:{TOOL}:{{}} #say:over")
            (call,) = await waiting(ada, turn_id)
            answers = await asyncio.gather(
                decide(team.ada, call), decide(team.grace, call, decision="deny"),
                decide(team.grace, call), decide(team.ada, call, decision="deny"),
            )  # fmt: skip
            shown = [checked(answer) for answer in answers]
            assert sum(not each["duplicate"] for each in shown) == 1
            assert len({each["approval"]["decision"] for each in shown}) == 1
            assert len({each["approval"]["decided_by"]["id"] for each in shown}) == 1
            assert await ada.turn(turn_id) == "completed"


async def test_what_is_not_theirs_looks_like_nothing(system: System, team: Team) -> None:
    other = await system.team()
    async with team.room("ada") as ada, other.room("ada") as stranger:
        turn_id = await asked(ada, team, f"mine #tool:{TOOL}:{{}}")
        (call,) = await waiting(ada, turn_id)
        assert (await decide(other.ada, call)).status_code == 404
        assert (await decide(other.admin, call)).status_code == 404
        frame = {"tool_execution_id": call, "decision": "approve"}
        answer = await stranger.reply(await stranger.send("tool_decision", frame))
        assert (answer["type"], answer["data"]["code"]) == ("error", "not_found")
        assert (await execution(team, call))["status"] == "awaiting_approval"
        checked(await team.ada.post(f"/api/turns/{turn_id}/stop"))
        await ada.turn(turn_id)
    refusals = checked(await other.admin.get("/api/admin/audit?action=tool.decide"))["items"]
    assert len(refusals) == 3
    assert {row["outcome"] for row in refusals} == {"refused"}


async def backdated(system: System, turn_id: str, waited_seconds: int) -> None:
    """As if a turn had begun two hours ago, and had waited for people for so long of it."""
    await system.sql(
        "UPDATE turns SET started_at = now() - interval '2 hours', waited_seconds = $2"
        " WHERE id = $1", turn_id, waited_seconds,
    )  # fmt: skip


async def test_a_turn_that_should_be_over_is_ended(system: System, team: Team) -> None:
    """Its run stays open for days; time in which people were waited for does not count."""
    async with team.room("ada") as ada:
        overdue = await asked(ada, team, "overdue #text:4000:20")
        waited = await asked(ada, team, "waited #text:4000:20")
        waits = await asked(ada, team, f"waits still #tool:{TOOL}:{{}}")
        await waiting(ada, waits)
        await ada.until(lambda: len(ada.state.texts) >= 2)
        await backdated(system, overdue, 0)
        await backdated(system, waited, 6000)
        await backdated(system, waits, 0)
        assert await ada.turn(overdue, timeout=30) == "failed"
        turn = checked(await team.ada.get(f"/api/turns/{overdue}"))
        assert turn["code"] == "timed_out"
        assert ada.state.turns[waited]["status"] == "running"
        assert ada.state.turns[waits]["status"] == "awaiting_approval"
        for turn_id in (waited, waits):
            checked(await team.ada.post(f"/api/turns/{turn_id}/stop"))
            await ada.turn(turn_id)


async def test_a_status_that_nobody_corrected_is_corrected(system: System, team: Team) -> None:
    """A worker may die between the end of a call and the review of its turn."""
    async with team.room("ada") as ada:
        turn_id = await asked(ada, team, f"misstated #tool:{TOOL}:{{}}")
        await waiting(ada, turn_id)
        await system.sql(
            "UPDATE turns SET status = 'running', waiting_since = NULL WHERE id = $1", turn_id
        )

        async def corrected() -> bool:
            turn = checked(await team.ada.get(f"/api/turns/{turn_id}"))
            return bool(turn["status"] == "awaiting_approval")

        await system.until(corrected)
        checked(await team.ada.post(f"/api/turns/{turn_id}/stop"))
        await ada.turn(turn_id)


async def test_who_may_approve_is_the_policys_to_say(team: Team) -> None:
    """By REST and socket alike; a token needs the scope, and each refusal is on record."""
    await asks(team, approvers="owner", not_asker=True)
    async with team.room("ada") as ada, team.room("grace") as grace:
        turn_id = await asked(ada, team, f"owners #tool:{TOOL}:{{}} #say:done")
        (call,) = await waiting(ada, turn_id)
        assert (await decide(team.grace, call)).status_code == 403, "an editor"
        assert (await decide(team.ada, call)).status_code == 403, "an owner, but the asker"
        frame = {"tool_execution_id": call, "decision": "approve"}
        answer = await grace.reply(await grace.send("tool_decision", frame))
        assert answer["data"]["code"] == "forbidden"
        for wrong in ({"decision": "perhaps"}, {"decision": "approve", "scope": "ever"},
                      {"decision": "approve", "note": "n" * 501},
                      {"decision": "approve", "approvers": "editor"}):  # fmt: skip
            refused = await team.admin.post(f"/api/tool-executions/{call}/decision", json=wrong)
            assert refused.status_code == 422
        token = checked(
            await team.admin.post("/api/auth/tokens", json={"name": "reads", "scopes": ["read"]})
        )["token"]
        async with httpx.AsyncClient(base_url=str(team.admin.base_url)) as reader:
            reader.headers["Authorization"] = f"Bearer {token}"
            assert (await decide(reader, call)).status_code == 403
        checked(await decide(team.admin, call))
        assert await ada.turn(turn_id) == "completed"
    rows = checked(await team.admin.get("/api/admin/audit?action=tool.decide&limit=200"))["items"]
    ours = [row for row in rows if call in (row["resource"]["id"], row["tool_execution_id"])]
    assert [row["outcome"] for row in ours] == ["allowed", "refused", "refused", "refused"]
    assert ours[0]["actor"]["email"].startswith("admin@")
