"""Coming back: at any moment, on any edge, over a broken bus, and for those who read too slowly."""

import asyncio
import contextlib
import copy
import json
import os
import random
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from store import steps, turns
from store.bus import Signer, growth, room_channel
from store.buses import new_publisher
from store.database import Database
from store.live import frame as live_frame
from store.principal import Principal
from store.secrets import KeyRing
from store.shapes import TemporalLinks
from store.steps import BegunStep
from tests.client import RoomClient, essence, fetch
from tests.edge.raw import RawSocket, frame
from tests.model_server import expected
from tests.system import System, Team, checked, sqlalchemy_url
from workflows.types import StepInput


@pytest.fixture(scope="module", params=["system", "nats_system"], name="system")
def either_system(request: pytest.FixtureRequest) -> System:
    """Once over each bus."""
    system: System = request.getfixturevalue(request.param)
    return system


@pytest.fixture(scope="module")
async def ours(system: System) -> Team:
    return await system.team()


@pytest.fixture
async def team(ours: Team) -> Team:
    """A project nobody else uses."""
    return await ours.elsewhere()


def texts(room: RoomClient) -> list[str]:
    return [held.text for held in room.state.texts.values()]


async def grown(room: RoomClient, chars: int) -> None:
    await room.until(lambda: any(len(text) >= chars for text in texts(room)))


async def agrees(room: RoomClient, team: Team) -> None:
    """What was folded is what a fresh page would show."""
    assert essence(room.state) == essence(await fetch(team.ada, team.project_id))


@pytest.mark.parametrize("seed", range(4))
async def test_drops_at_any_moment_leave_no_trace(team: Team, system: System, seed: int) -> None:
    """P17: whoever is back before the answer's end has missed nothing and fetches nothing."""
    chance = random.Random(seed)
    conversation = await team.conversation()
    count, rate = 160, 60
    async with team.room("grace", seed % 2) as steady, team.room("ada", 0) as ada:
        ack = await ada.ask(conversation, f"drops {seed} #text:{count}:{rate}")
        turn_id = ack["data"]["turn_id"]
        await grown(ada, 1)
        for hop in range(1, 9):
            await grown(ada, chance.randrange(hop, 12 * hop))
            if ada.state.turns.get(turn_id, {}).get("status") == "completed":
                break
            await ada.drop()
            await asyncio.sleep(chance.uniform(0, 0.15))
            await ada.resume(system.edges[hop % 2].ws)
            joined = [f for f in ada.frames if f["type"] == "project_joined"][-1]
            assert joined["data"]["recovered"] is True
        assert await ada.turn(turn_id) == "completed"
        assert await steady.turn(turn_id) == "completed"
        assert texts(ada) == texts(steady) == [expected(1, count)]
        assert ada.refetched == ada.rejoined == steady.refetched == steady.rejoined == 0
        await agrees(ada, team)
        await agrees(steady, team)


async def test_a_rejoin_from_every_number_gives_the_same_state(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("ada") as ada:
        ack = await ada.ask(conversation, "tools #tool:list_datasources:{} #text:20")
        await ada.turn(ack["data"]["turn_id"])
        head = ada.state.seq
        fresh = await fetch(team.ada, team.project_id)
        for after_seq in range(head + 1):
            late = RoomClient(team.grace, system.edges[after_seq % 2].ws, team.project_id)
            late.state.seq = after_seq
            await late.connect(after_seq=after_seq)
            await late.until(lambda late=late: late.state.seq == head)
            joined = await late.frame("project_joined")
            assert joined["data"]["recovered"] is True
            assert joined["data"]["seq"] == head
            missed = [f["data"]["seq"] for f in late.frames if "seq" in f["data"]
                      and f["type"] != "project_joined"]  # fmt: skip
            assert missed == list(range(after_seq + 1, head + 1))
            if after_seq == 0:
                # All there is to know, but for texts, which are fetched where a hash says so.
                assert essence(late.state) == essence(fresh)
            await late.drop()


async def test_who_comes_in_the_middle_continues_without_a_seam(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada:
        ack = await ada.ask(conversation, "middle #text:200:80")
        turn_id = ack["data"]["turn_id"]
        late: list[RoomClient] = []
        for number in range(8):
            await grown(ada, 100 * number + 1)
            room = RoomClient(team.grace, system.edges[number % 2].ws, team.project_id)
            await room.connect()
            late.append(room)
            joined = await room.frame("project_joined")
            (live,) = joined["data"]["live"]
            assert (live["turn_id"], live["status"], live["offset"]) == (turn_id, "running", 0)
            assert expected(1, 200).startswith(live["content"])
            first = await room.until(
                lambda room=room: next(
                    (f["data"] for f in room.frames if f["type"] == "assistant_response"), None
                )
            )
            assert first["offset"] <= len(live["content"])
        for room in (ada, *late):
            assert await room.turn(turn_id) == "completed"
            assert texts(room) == [expected(1, 200)]
            assert room.refetched == room.rejoined == 0
            await agrees(room, team)
        for room in late:
            await room.drop()


async def test_who_was_away_at_the_end_fetches_the_answer_once(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("grace", 1) as grace, team.room("ada", 0) as ada:
        ack = await ada.ask(conversation, "away #text:60:60")
        await grown(ada, 50)
        await ada.drop()
        await grace.turn(ack["data"]["turn_id"])
        await ada.resume(system.edges[1].ws)
        assert await ada.turn(ack["data"]["turn_id"]) == "completed"
        assert texts(ada) == [expected(1, 60)]
        assert ada.refetched == 1
        await agrees(ada, team)


async def test_numbers_that_cannot_be_resumed_from(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("ada") as ada:
        ack = await ada.ask(conversation, "some events #say:yes")
        await ada.turn(ack["data"]["turn_id"])
        for after_seq in (-1, -(2**62), ada.state.seq + 1, 2**62):
            joined = await ada.join(after_seq)
            assert joined["data"]["recovered"] is False, after_seq
            assert joined["data"]["seq"] == ada.state.seq
        for odd in (1.5, "1", True, 2**70, [], {}):
            answer = await ada.reply(
                await ada.send("join_project", {"project_id": team.project_id, "after_seq": odd})
            )
            assert answer["data"]["code"] == "invalid", odd
        await agrees(ada, team)


async def test_a_log_that_was_pruned_is_not_half_replayed(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada:
        ack = await ada.ask(conversation, "old #say:news")
        await ada.turn(ack["data"]["turn_id"])
        head = ada.state.seq
        await system.sql(
            "DELETE FROM room_events WHERE project_id = $1::text::uuid AND seq <= 2",
            team.project_id,
        )
        # The other edge has nothing in memory and must not make do with the rest of the log.
        grace = RoomClient(team.grace, system.edges[1].ws, team.project_id)
        await grace.connect(after_seq=1)
        joined = await grace.frame("project_joined")
        assert joined["data"]["recovered"] is False
        assert joined["data"]["seq"] == head
        await agrees(grace, team)
        await grace.join(2)
        assert grace.frames[-1]["data"].get("recovered", True) is True
        await grace.drop()
    # Who reads the log by REST is told the same.
    for after_seq, recovered in (
        (0, False),
        (1, False),
        (2, True),
        (head, True),
        (head + 1, False),
    ):
        path = f"/api/projects/{team.project_id}/events?after_seq={after_seq}"
        assert checked(await team.ada.get(path))["recovered"] is recovered, after_seq


async def test_the_window_is_a_setting(team: Team, system: System) -> None:
    head = await append(system, team.project_id, 30, 10)
    edge = await system.start_edge(EVERTURN_REPLAY_EVENTS="10")
    for missed, recovered in ((30, False), (11, False), (10, True), (1, True), (0, True)):
        ada = RoomClient(team.ada, edge.ws, team.project_id)
        ada.state.seq = head - missed
        await ada.connect(after_seq=head - missed)
        joined = await ada.frame("project_joined")
        assert joined["data"]["recovered"] is recovered, missed
        assert joined["data"]["seq"] == head
        await ada.until(lambda ada=ada: ada.state.seq == head)
        assert ada.rejoined == 0
        await ada.drop()
    await edge.child.stop()


async def test_all_come_back_at_once_after_a_restart(team: Team, system: System) -> None:
    """All have missed about the same, and the new edge has nothing of it in memory."""
    head = await append(system, team.project_id, 300, 10)
    edge = await system.start_edge()
    rooms = [RoomClient(team.ada, edge.ws, team.project_id) for _ in range(12)]
    for number, room in enumerate(rooms):
        room.state.seq = head - 200 + number
    await asyncio.gather(*(room.connect(after_seq=room.state.seq) for room in rooms))
    head = await append(system, team.project_id, 5, 10)
    for number, room in enumerate(rooms):
        await room.until(lambda room=room: room.state.seq >= head)
        joined = await room.frame("project_joined")
        assert joined["data"]["recovered"] is True
        numbers = [f["data"]["seq"] for f in room.frames if f["type"] == "turn_status"]
        assert numbers == list(range(head - 205 + number + 1, head + 1))
        assert room.rejoined == 0
    await asyncio.gather(*(room.drop() for room in rooms))
    await edge.child.stop()


async def test_a_long_absence_is_replayed_as_fast_as_it_is_read(team: Team, system: System) -> None:
    """More events, and more bytes, than a socket's queue holds."""
    await append(system, team.project_id, 3_000, 1_000)
    conversation = await team.conversation()
    async with team.room("grace", 0) as grace:
        ada = RoomClient(team.ada, system.edges[0].ws, team.project_id)
        await ada.connect(after_seq=0)
        ack = await grace.ask(conversation, "meanwhile #text:20:40")
        for room in (ada, grace):
            assert await room.turn(ack["data"]["turn_id"]) == "completed"
        assert ada.state.seq == grace.state.seq
        numbers = [f["data"]["seq"] for f in ada.frames if "seq" in f["data"]
                   and f["type"] != "project_joined"]  # fmt: skip
        assert numbers == list(range(1, ada.state.seq + 1))
        assert ada.rejoined == ada.refetched == 0
        assert ada.close_code is grace.close_code is None
        await ada.drop()


async def test_deltas_only_where_they_are_wanted(team: Team, system: System) -> None:
    one, other = await team.conversation("one"), await team.conversation("other")
    async with (
        team.room("ada", 0) as ada, team.room("grace", 0) as none, team.room("grace", 1) as some,
    ):  # fmt: skip
        for room, deltas in ((none, "none"), (some, [one])):
            heard = len(room.frames)
            await room.send("join_project", {"project_id": team.project_id, "deltas": deltas})
            await room.frame("project_joined", since=heard)
        acks = await asyncio.gather(
            ada.ask(one, "in one #text:20"), ada.ask(other, "in the other #text:20")
        )
        for room in (ada, none, some):
            for ack in acks:
                assert await room.turn(ack["data"]["turn_id"]) == "completed"

        def conversations(room: RoomClient) -> set[str]:
            return {f["data"]["conversation_id"] for f in room.frames
                    if f["type"] == "assistant_response" and not f["data"]["done"]}  # fmt: skip

        assert conversations(ada) == {one, other}
        assert conversations(none) == set()
        assert conversations(some) == {one}
        for room, missed in ((ada, 0), (none, 2), (some, 1)):
            assert room.refetched == missed
            await agrees(room, team)


async def test_tools_are_folded_as_rest_shows_them(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(
            conversation,
            'tools #tool:list_datasources:{} #tool:rm_rf:{} #tool:describe_schema:{"x":1}'
            " #text:30:60",
        )
        turn_id = ack["data"]["turn_id"]
        await grace.frame("tool_call")
        await grace.drop()
        await grace.resume(system.edges[0].ws)
        for room in (ada, grace):
            assert await room.turn(turn_id) == "completed"
            statuses = {row["tool_name"]: row["status"] for row in room.state.executions.values()}
            assert statuses == {
                "list_datasources": "completed", "rm_rf": "failed", "describe_schema": "failed",
            }  # fmt: skip
            assert expected(1, 30) in texts(room)
            await agrees(room, team)
        codes = {row["tool_name"]: (row["error"] or {}).get("code")
                 for row in ada.state.executions.values()}  # fmt: skip
        assert codes["rm_rf"] == "unknown_tool"
        assert codes["describe_schema"] == "invalid_arguments"


async def test_a_cut_bus_loses_nothing(team: Team, system: System) -> None:
    """P09: deltas are notices of that connection; the holes are filled from the checkpoints."""
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, "cut #text:300:50")
        turn_id = ack["data"]["turn_id"]
        for chars in (100, 900):
            await grown(ada, chars)
            await grown(grace, chars)
            assert await system.cut_bus("everturn-listen") == len(system.edges)
        before = (len(texts(ada)[0]), len(texts(grace)[0]))
        # It goes on while the model still speaks: nobody waits for the end to be healed.
        await grown(ada, before[0] + 200)
        await grown(grace, before[1] + 200)
        assert ada.state.turns[turn_id]["status"] == "running"
        for room in (ada, grace):
            assert await room.turn(turn_id) == "completed"
            assert texts(room) == [expected(1, 300)]
            assert room.rejoined == room.refetched == 0
            await agrees(room, team)


async def test_a_cut_at_the_very_end_is_noticed(team: Team, system: System) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 0) as ada:
        ack = await ada.ask(conversation, "end #text:40:40")
        await grown(ada, 200)
        started = time.monotonic()
        await system.cut_bus("everturn-listen")
        assert await ada.turn(ack["data"]["turn_id"], timeout=8) == "completed"
        assert texts(ada) == [expected(1, 40)]
        assert time.monotonic() - started < 8
        await agrees(ada, team)


async def test_a_lost_wake_up_is_noticed(team: Team, system: System) -> None:
    """Nothing was cut and nothing follows: only the regular look at the rooms' heads can tell."""
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        head = await append(system, team.project_id, 3, 10, channel="nobody")
        for room in (ada, grace):
            await room.until(lambda room=room: room.state.seq == head, timeout=15)
            assert room.rejoined == 0


async def append(
    system: System, project_id: str, count: int, size: int, *, channel: str | None = None
) -> int:
    """Put events into a project's log, as the application does; the new head.

    Args:
        channel: Where to tell of it instead of in the room.
    """
    ((head,),) = await system.sql(
        "WITH room AS (UPDATE rooms SET head = head + $2 WHERE project_id = $1"
        " RETURNING tenant_id, head), added AS ("
        " INSERT INTO room_events (project_id, seq, tenant_id, type, data)"
        " SELECT $1, head - $2 + n, tenant_id, 'turn_status', jsonb_build_object("
        " 'turn_id', n::text, 'status', 'completed', 'detail', repeat('x', $3))"
        " FROM room, generate_series(1, $2) AS n)"
        " SELECT room.head FROM room",
        uuid.UUID(project_id), count, size,
    )  # fmt: skip
    await system.notify(channel or room_channel(uuid.UUID(project_id)), growth(head))
    return int(head)


async def test_a_slow_reader_is_let_go_and_harms_nobody(team: Team, system: System) -> None:
    """P18: it reads nothing while megabytes are sent; the others hear all of it, no later."""
    slow = await RawSocket.open(system.edges[0], team.grace, buffer=4096)
    join = {"type": "join_project", "data": {"project_id": team.project_id}}
    slow.send(frame(json.dumps(join).encode()))
    await slow.until_text(b'"project_joined"')
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with team.room("ada", 0) as ada, team.room("ada", 1) as elsewhere:
        took: list[float] = []
        # The kernel's own buffers swallow the first few megabytes.
        for _ in range(24):
            started = time.monotonic()
            head = await append(system, team.project_id, 10, 50_000)
            for room in (ada, elsewhere):
                await room.until(lambda room=room, head=head: room.state.seq >= head)
            took.append(time.monotonic() - started)
        assert sorted(took)[21] < 2
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await slow.until_closed(timeout=15) == 4409
        await slow.close()

        def gone() -> bool:
            notices = [f["data"]["users"] for f in ada.frames if f["type"] == "presence"]
            return bool(notices) and team.people["grace"] not in {u["id"] for u in notices[-1]}

        await ada.until(gone)
        # It is welcome again, and misses nothing.
        back = RoomClient(team.grace, system.edges[0].ws, team.project_id)
        await back.connect(after_seq=0)
        await back.until(lambda: back.state.seq == ada.state.seq, timeout=30)
        assert back.rejoined == 0
        for room in (ada, elsewhere, back):
            assert room.close_code is None
        await back.drop()


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_slow_readers_cost_little(system: System) -> None:
    """P18: ten that read nothing and ten that trickle, while far more is sent than is queued."""
    team = await system.team(sockets_per_user=100)
    edge = await system.start_edge()
    join = frame(
        json.dumps({"type": "join_project", "data": {"project_id": team.project_id}}).encode()
    )
    slow = [await RawSocket.open(edge, team.grace, buffer=4096) for _ in range(20)]
    for reader in slow:
        reader.send(join)
        await reader.until_text(b'"project_joined"')
        reader.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def trickle(reader: RawSocket) -> None:
        while True:
            await asyncio.sleep(0.1)
            reader.writer.transport.resume_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await reader.reader.read(100)
            reader.writer.transport.pause_reading()  # type: ignore[attr-defined]

    before = resident(edge.child.pid)
    trickling = [asyncio.create_task(trickle(reader)) for reader in slow[10:]]
    ada = RoomClient(team.ada, edge.ws, team.project_id)
    await ada.connect()
    most = before
    for _ in range(40):
        head = await append(system, team.project_id, 10, 50_000)
        await ada.until(lambda head=head: ada.state.seq >= head)
        most = max(most, resident(edge.child.pid))
    assert (most - before) / len(slow) < 5 * 2**20
    for task in trickling:
        task.cancel()
    for reader in slow:
        reader.writer.transport.resume_reading()  # type: ignore[attr-defined]
        # Whoever trickled has read into a frame, and hears only that it is over.
        assert reader in slow[10:] or await reader.until_closed(timeout=15) == 4409
    assert ada.close_code is None
    await asyncio.gather(ada.drop(), *(reader.close() for reader in slow))
    await edge.child.stop()


async def test_what_is_late_or_forged_is_not_passed_on(team: Team, system: System) -> None:
    """A worker that lost its turn may still speak, and anybody with SQL may notify."""
    conversation = await team.conversation()
    keys = KeyRing([system.environment()["EVERTURN_SECRET_KEYS"]])
    signer = Signer(keys)
    publisher = new_publisher(system.settings(), signer)
    await publisher.start()
    channel = room_channel(uuid.UUID(team.project_id))
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        ack = await ada.ask(conversation, "late #text:80:40 #cut:5")
        for room in (ada, grace):
            await room.until(
                lambda room=room: any(
                    held.epoch == 2 and len(held.text) > 50 for held in room.state.texts.values()
                )
            )
        (message_id,) = ada.state.texts
        delta = {"project_id": team.project_id, "conversation_id": conversation,
                 "turn_id": ack["data"]["turn_id"], "message_id": message_id, "epoch": 1,
                 "offset": 0, "content": "STALE", "done": False}  # fmt: skip
        await publisher.publish(channel, live_frame("assistant_response", delta))
        forged = live_frame("assistant_response", delta | {"epoch": 9, "content": "FORGED"})
        elsewhere = signer.seal(room_channel(uuid.uuid4()), forged)
        garbage = ("D", "S", "Sx", "S²", "S" + "9" * 5_000, "X", "")
        for payload in (f"D{'A' * 22}{forged.decode()}", elsewhere, *garbage):
            await system.notify(channel, payload)
        for room in (ada, grace):
            assert await room.turn(ack["data"]["turn_id"]) == "completed"
            assert texts(room) == [expected(2, 80)]
            assert not any(word in str(room.frames) for word in ("STALE", "FORGED"))
            assert room.refetched == room.rejoined == 0
    await publisher.close()


async def test_an_attempt_that_was_replaced_stores_nothing(team: Team, system: System) -> None:
    """The row belongs to the newest epoch, whoever finishes first."""
    conversation = uuid.UUID(await team.conversation())
    database = Database(sqlalchemy_url(system.postgres.app_dsn), application_name="test")
    me = Principal(
        uuid.UUID(team.tenant_id), uuid.UUID(team.people["ada"]), "", "Ada", "member", False
    )

    async def complete(begun: BegunStep, content: str) -> object:
        async with database.tenant_session(team.tenant_id) as session:
            return await steps.complete(
                session, begun, content=content, status="complete", finish_reason="stop",
                truncated=False, calls=[], model="stub", usage={},
                links=TemporalLinks("", "default"),
            )  # fmt: skip

    async with database.tenant_session(team.tenant_id) as session:
        accepted = await turns.accept(session, me, conversation, "never started", "x")
    (ref,) = accepted.start
    attempts = []
    for _ in range(2):
        async with database.tenant_session(team.tenant_id) as session:
            begun = await steps.begin(session, StepInput(ref, 1))
            assert begun is not None
            attempts.append(replace(begun, message=copy.copy(begun.message)))
    first, second = attempts
    assert (first.message.epoch, second.message.epoch) == (1, 2)
    assert await complete(first, "from the first") is None
    assert await complete(second, "from the second") == []
    assert await complete(second, "once more") is None
    rows = await system.sql(
        "SELECT content, epoch, status FROM messages WHERE id = $1", second.message.id
    )
    assert [tuple(row) for row in rows] == [("from the second", 2, "complete")]
    await database.close()
    checked(await team.ada.delete(f"/api/conversations/{conversation}"))
