"""Processes die, hang and come back in the middle of turns; the people in the room get one answer.

Whatever happens here, `quiet_end` audits afterwards: what was acked is there, nothing is open,
nothing is doubled, and the numbers have no hole.
"""

import asyncio
import signal
import time
from typing import Any
from uuid import UUID

from temporalio.client import Client

from store import turns
from store.database import Database
from store.principal import Principal
from store.tool_executions import UNKNOWN_TEXT
from tests.client import RoomClient, essence, fetch
from tests.faults.scene import Scene
from tests.model_server import expected, token
from tests.system import sqlalchemy_url
from workflows.types import turn_workflow_id

# A lost worker is noticed when its heartbeats stay away.
HEARTBEAT_SECONDS = 5
SWEPT_WITHIN = 17  # a turn is left alone for 5 s, and a sweep comes every 10


async def speaking(room: RoomClient, turn_id: str, chars: int = 50, epoch: int = 1) -> None:
    """Wait until a turn has said so much in some attempt."""

    def said() -> bool:
        return any(
            held.epoch >= epoch and len(held.text) >= chars
            and room.state.messages[message_id]["turn_id"] == turn_id
            for message_id, held in room.state.texts.items()
        )  # fmt: skip

    await room.until(said, timeout=30)


def text_of(room: RoomClient, turn_id: str) -> str:
    (text,) = [
        held.text for message_id, held in room.state.texts.items()
        if room.state.messages[message_id]["turn_id"] == turn_id and held.text
    ]  # fmt: skip
    return text


def never_mixed(room: RoomClient) -> None:
    """Nobody has been shown tokens of an older attempt after those of a newer one."""
    newest: dict[str, int] = {}
    for heard in room.frames:
        data = heard["data"]
        if heard["type"] == "assistant_response":
            assert data["epoch"] >= newest.get(data["message_id"], 0)
            newest[data["message_id"]] = data["epoch"]


async def test_a_killed_worker(scene: Scene) -> None:
    """P01, P29: a text, a queue behind it, a reading tool and an effect, all cut by one kill."""
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        conversation = await scene.team.conversation()
        plain = await scene.ask(ada, "killed #text:60:10:40", conversation)
        behind = await scene.ask(grace, "behind it #say:next", conversation)
        look = await scene.ask(ada, 'read #tool:look:{"key":"k1","seconds":60} #say:looked')
        pay = await scene.ask(ada, 'once #tool:pay:{"key":"k1","seconds":60} #say:paid')
        await speaking(ada, plain)
        await scene.effects("look k1 1")
        await scene.effects("pay k1 1")
        await scene.kill(scene.system.workers[0])
        await scene.hire()
        for room in (ada, grace):
            for turn_id in (plain, behind, look, pay):
                assert await room.turn(turn_id, timeout=45) == "completed"
            never_mixed(room)
            assert text_of(room, plain) == expected(2, 60)
            assert room.refetched == room.rejoined == 0
            assert essence(room.state) == essence(await fetch(scene.team.ada, room.project_id))
    _, (message,) = await scene.answer(plain)
    assert (message["epoch"], message["content"]) == (2, expected(2, 60))
    assert len(scene.system.model.calls_for("killed #text")) == 2
    execution = await scene.execution(look)
    assert (execution["status"], execution["attempt"]) == ("completed", 2)
    assert execution["result"] == {"key": "k1", "attempt": 2}
    execution = await scene.execution(pay)
    assert (execution["status"], execution["attempt"]) == ("unknown", 1)
    assert execution["error"]["code"] == "outcome_unknown"
    assert scene.counted()["pay k1"] == 1
    # The model was told, and said its last word after that.
    *_, last = scene.system.model.calls_for('once #tool:pay:{"key":"k1"')
    (told,) = [m["content"] for m in last.body["messages"] if m["role"] == "tool"]
    assert UNKNOWN_TEXT in told


async def test_a_worker_that_is_asked_to_go(scene: Scene) -> None:
    """P02: it finishes what it can within its grace and hands over the rest."""
    (worker,) = scene.system.workers
    async with scene.team.room("ada", 0) as ada:
        short = await scene.ask(ada, "short #text:40:10")
        long = await scene.ask(ada, "long #text:400:10:0")
        paid = await scene.ask(ada, 'quick #tool:pay:{"key":"t1","seconds":3} #say:paid')
        cut = await scene.ask(ada, 'slow #tool:pay:{"key":"t2","seconds":50} #say:cut')
        look = await scene.ask(ada, 'look #tool:look:{"key":"t3","seconds":50} #say:looked')
        for turn_id in (short, long):
            await speaking(ada, turn_id)
        for key in ("pay t1 1", "pay t2 1", "look t3 1"):
            await scene.effects(key)
        started = time.monotonic()
        scene.send(worker, signal.SIGTERM)
        await scene.hire()
        assert await scene.gone(worker, within=15) == 0
        assert time.monotonic() - started <= 15
        for turn_id in (short, long, paid, cut, look):
            assert await ada.turn(turn_id, timeout=40) == "completed"
        never_mixed(ada)
        assert text_of(ada, short) == expected(1, 40), "there was time for it"
        assert text_of(ada, long) == expected(2, 400)
        assert ada.refetched == 0
    assert (await scene.execution(paid))["status"] == "completed"
    assert (await scene.execution(cut))["status"] == "unknown"
    assert (await scene.execution(look))["status"] == "completed"
    assert scene.counted()["pay t1"] == scene.counted()["pay t2"] == 1


async def test_a_worker_that_sleeps_through_its_own_replacement(scene: Scene) -> None:
    """P36: it wakes up when it has been given up, and must not say or do a thing twice."""
    (sleeper,) = scene.system.workers
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        plain = await scene.ask(ada, "asleep #text:300:20:40")
        pay = await scene.ask(ada, 'asleep #tool:pay:{"key":"s1","seconds":4} #say:paid')
        await speaking(ada, plain)
        await scene.effects("pay s1 1")
        scene.send(sleeper, signal.SIGSTOP)
        await scene.hire()
        # Long enough for its heartbeats to be missed; time itself is what is tested.
        await asyncio.sleep(HEARTBEAT_SECONDS + 2)
        # Twelve seconds of the first attempt's text wait in its connection: it has much to say.
        scene.send(sleeper, signal.SIGCONT)
        for room in (ada, grace):
            assert await room.turn(plain, timeout=40) == "completed"
            assert await room.turn(pay, timeout=40) == "completed"
            never_mixed(room)
            assert room.refetched == room.rejoined == 0
        _, (message,) = await scene.answer(plain)
        assert message["epoch"] >= 2
        for room in (ada, grace):
            assert text_of(room, plain) == message["content"]
        assert message["content"] in {expected(n, 300) for n in (2, 3)}
    # Who writes first decides, and either is the truth: the replacement finds a claim without an
    # outcome, or the sleeper, awake before anybody looked, stores its own.
    assert (await scene.execution(pay))["status"] in {"unknown", "completed"}
    assert scene.counted()["pay s1"] == 1
    assert sleeper.alive


async def test_a_killed_edge(scene: Scene) -> None:
    """P03: turns do not notice; people come back at the other one, and resend what had no ack."""
    edges = scene.system.edges
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        conversation = await scene.team.conversation()
        turn_id = await scene.ask(ada, "edge #text:200:20", conversation)
        await speaking(ada, turn_id)
        unsure: dict[str, Any] = {
            "conversation_id": conversation, "content": "sent and unsure #say:once",
            "client_message_id": "unsure",
        }  # fmt: skip
        await ada.send("user_message", unsure)
        await scene.kill(edges[0].child)
        await ada.until(lambda: ada.close_code)
        started = time.monotonic()
        await ada.resume(edges[1].ws)
        assert time.monotonic() - started < 5
        again = await ada.ask(**unsure)
        assert again["type"] == "ack", again
        scene.acked.append(again["data"]["message_id"])
        for room in (ada, grace):
            assert await room.turn(turn_id) == "completed"
            assert await room.turn(again["data"]["turn_id"], timeout=40) == "completed"
            assert text_of(room, turn_id) == expected(1, 200)
            assert room.refetched == room.rejoined == 0
        asked = [m for m in ada.state.messages.values() if m.get("content") == unsure["content"]]
        assert len(asked) == 1
    assert len(scene.system.model.calls_for("sent and unsure")) == 1


async def test_an_edge_that_is_asked_to_go_says_so(scene: Scene) -> None:
    edge = scene.system.edges[0]
    async with scene.team.room("ada", 0) as ada:
        turn_id = await scene.ask(ada, "roll #text:100:25")
        await speaking(ada, turn_id)
        scene.send(edge.child, signal.SIGTERM)
        assert await ada.until(lambda: ada.close_code) == 1001
        await ada.resume(scene.system.edges[1].ws)
        assert await ada.turn(turn_id) == "completed"
        assert text_of(ada, turn_id) == expected(1, 100)
        assert ada.refetched == 0
        # The server raises the signal again when it has cleared up.
        assert await scene.gone(edge.child, within=10) in (0, -signal.SIGTERM)


async def test_temporal_dies_and_comes_back(scene: Scene) -> None:
    """P05, P06: what runs goes on, what is asked meanwhile is kept and runs afterwards."""
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        running = await scene.ask(ada, "running #text:80:20")
        await speaking(ada, running)
        await scene.system.kill_temporal()
        conversation = await scene.team.conversation()
        started = time.monotonic()
        ack = await grace.ask(conversation, "while it is away #say:later")
        assert time.monotonic() - started < 5
        assert ack["data"]["status"] == "queued"
        scene.acked.append(ack["data"]["message_id"])
        page = (await scene.team.ada.get(f"/api/conversations/{conversation}/messages")).json()
        assert [m["content"] for m in page["items"]] == ["while it is away #say:later"]
        await scene.system.start_temporal()
        back = time.monotonic()
        assert await grace.turn(ack["data"]["turn_id"], timeout=20) == "completed"
        assert time.monotonic() - back < 20
        assert await ada.turn(running, timeout=30) == "completed"
        never_mixed(ada)
        assert text_of(ada, running) in (expected(1, 80), expected(2, 80))
        new = await scene.ask(ada, "as ever #say:now")
        assert await ada.turn(new) == "completed"
    assert scene.system.workers[0].alive


async def test_postgres_crashes_and_comes_back(scene: Scene) -> None:
    """P07: nothing that was confirmed is lost, and nobody has to restart anything."""
    system = scene.system
    pids = [child.pid for child in (*system.workers, *(edge.child for edge in system.edges))]
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        conversation = await scene.team.conversation()
        turn_id = await scene.ask(ada, "crash #text:150:20", conversation)
        behind = await scene.ask(ada, "behind the crash #say:still", conversation)
        await speaking(ada, turn_id)
        await system.crash_postgres()
        refusal = await ada.ask(conversation, "nobody keeps this", client_message_id="lost")
        assert refusal["data"]["code"] == "unavailable"
        assert refusal["data"]["retry_after_ms"] > 0
        await system.start_postgres()
        back = time.monotonic()

        async def accepted() -> Any:
            answer = await ada.ask(conversation, "nobody keeps this", client_message_id="lost")
            return answer if answer["type"] == "ack" else None

        ack = await system.until(accepted, timeout=10)
        assert time.monotonic() - back < 10
        scene.acked.append(ack["data"]["message_id"])
        for room in (ada, grace):
            for wanted in (turn_id, behind, ack["data"]["turn_id"]):
                assert await room.turn(wanted, timeout=40) == "completed"
            never_mixed(room)
            text = text_of(room, turn_id)
            assert text in (expected(1, 150), expected(2, 150))
            assert room.close_code is None
            assert essence(room.state) == essence(await fetch(scene.team.ada, room.project_id))
    assert pids == [
        child.pid for child in (*system.workers, *(e.child for e in system.edges)) if child.alive
    ]


async def test_what_operators_end_and_what_nobody_started(scene: Scene) -> None:
    """P30: a sweep settles the one, starts the other, and lets the next in the queue run."""
    system, team = scene.system, scene.team
    async with team.room("ada", 0) as ada:
        conversation = await team.conversation()
        ended = await scene.ask(ada, "ended by hand #text:2000:10", conversation)
        queued = await scene.ask(ada, "next in line #say:mine", conversation)
        await speaking(ada, ended)
        # As if the edge had died between the commit and the start.
        lonely = await team.conversation()
        database = Database(sqlalchemy_url(system.postgres.app_dsn), application_name="test")
        me = Principal(UUID(team.tenant_id), UUID(team.people["ada"]), "", "Ada", "member", False)
        async with database.tenant_session(team.tenant_id) as session:
            orphan = await turns.accept(
                session, me, UUID(lonely), "never started #say:found", "orphan"
            )
        await database.close()
        scene.acked.append(str(orphan.message_id))
        temporal = await Client.connect(system.temporal.address)
        await temporal.get_workflow_handle(turn_workflow_id(ended)).terminate("by an operator")
        started = time.monotonic()
        assert await ada.turn(ended, timeout=SWEPT_WITHIN) == "cancelled"
        assert await ada.turn(str(orphan.turn_id), timeout=SWEPT_WITHIN) == "completed"
        assert await ada.turn(queued) == "completed"
        assert time.monotonic() - started < SWEPT_WITHIN + 3
        (call,) = system.model.calls_for("ended by hand")

        async def hung_up() -> bool:
            return call.disconnected

        await system.until(hung_up, timeout=5)
        turn, (message,) = await scene.answer(ended)
        assert turn["code"] == "stopped"
        assert "operator" in turn["detail"]
        assert message["status"] == "stopped"
        assert message["content"].startswith(token(1, 1))
        assert essence(ada.state) == essence(await fetch(team.ada, team.project_id))
    assert len(system.model.calls_for("never started")) == 1


async def test_a_stop_while_temporal_is_away_is_kept(scene: Scene) -> None:
    """P22: the person's word holds although nobody could hear it."""
    async with scene.team.room("ada", 0) as ada:
        turn_id = await scene.ask(ada, "stop me #text:900:10")
        await speaking(ada, turn_id)
        await scene.system.kill_temporal()
        answer = await ada.reply(await ada.send("stop_turn", {"turn_id": turn_id}))
        assert answer["type"] == "ack"
        await scene.system.start_temporal()
        assert await ada.turn(turn_id, timeout=35) == "cancelled"
    turn, _ = await scene.answer(turn_id)
    assert turn["stopped_by"] == scene.team.people["ada"]
