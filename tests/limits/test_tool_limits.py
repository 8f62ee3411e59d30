"""Limits on tool calls, over two workers: named, audited, exact, and the turn goes on."""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.client import items
from tests.system import System, Team, checked, running

LIST = "#tool:list_datasources:{}"


@pytest.fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """One edge and two workers, whose tool `look` takes as long as it is told."""
    folder: Path = tmp_path_factory.mktemp("two")
    async with running(folder, edges=1, workers=0) as system:
        for number in range(2):
            system.workers.append(
                await system.start_worker(
                    module="tests.faults.worker",
                    EVERTURN_TEST_SINK=str(folder / f"sink{number}"),
                )
            )
        yield system


async def calls_of(team: Team, turn_id: str, who: str = "ada") -> list[dict[str, Any]]:
    """The tool executions of a turn, as REST shows them."""
    http = getattr(team, who)
    turn = checked(await http.get(f"/api/turns/{turn_id}"))
    path = f"/api/conversations/{turn['conversation_id']}/messages?limit=200"
    return [
        execution
        for message in checked(await http.get(path))["items"]
        if message["turn_id"] == turn_id
        for execution in message["tool_executions"]
    ]


async def asked(team: Team, content: str, who: str = "ada") -> list[dict[str, Any]]:
    """What became of the calls of a turn that goes on to its answer."""
    async with team.room(who) as room:
        ack = await room.ask(await team.conversation(), f"{content} #say:on")
        turn_id = ack["data"]["turn_id"]
        assert await room.turn(turn_id, timeout=60) == "completed"
    return await calls_of(team, turn_id, who)


def outcomes(calls: list[dict[str, Any]]) -> Counter[str]:
    return Counter((call["error"] or {"code": call["status"]})["code"] for call in calls)


async def refusals(team: Team) -> list[dict[str, Any]]:
    found = await items(team.admin, "/api/admin/audit")
    return [row for row in found if row["action"] == "tool.run" and row["outcome"] == "refused"]


async def test_calls_a_minute_of_a_tenant(two: System) -> None:
    team, other = await two.team(tool_calls_per_minute=5), await two.team()
    calls = await asked(team, " ".join([LIST] * 8))
    assert outcomes(calls) == {"completed": 5, "rate_limited": 3}
    for call in calls:
        if call["error"]:
            assert "at most 5 tool calls a minute" in call["error"]["message"]
            seconds = int(call["error"]["message"].split("Try again in ")[1].split(" s")[0])
            assert 40 < seconds <= 60
    audited = await refusals(team)
    assert len(audited) == 3
    assert all(row["reason"].startswith("rate_limited: ") for row in audited)
    # Not only within a turn, and not for others.
    assert outcomes(await asked(team, LIST, "grace")) == {"rate_limited": 1}
    assert outcomes(await asked(other, " ".join([LIST] * 8))) == {"completed": 8}
    # A minute later they may again; who was refused has not made it longer.
    await two.sql(
        "UPDATE tool_executions SET started_at = started_at - interval '61 s' WHERE tenant_id = $1",
        UUID(team.tenant_id),
    )
    assert outcomes(await asked(team, LIST)) == {"completed": 1}


async def test_calls_a_minute_of_a_person(two: System) -> None:
    team = await two.team(tool_calls_per_user_minute=3)
    calls = await asked(team, " ".join([LIST] * 5))
    assert outcomes(calls) == {"completed": 3, "rate_limited": 2}
    assert "One person's turns" in next(c["error"]["message"] for c in calls if c["error"])
    assert outcomes(await asked(team, " ".join([LIST] * 3), "grace")) == {"completed": 3}


def look(key: str, seconds: float) -> str:
    return f"#tool:look:{json.dumps({'key': key, 'seconds': seconds}, separators=(',', ':'))}"


async def test_tools_at_once_wait_for_a_place(two: System) -> None:
    team = await two.team(concurrent_tools=2)
    calls = await asked(team, " ".join(look(f"w{n}", 0.6) for n in range(6)))
    assert outcomes(calls) == {"completed": 6}
    moments = await two.sql(
        "SELECT started_at, finished_at FROM tool_executions WHERE tenant_id = $1",
        UUID(team.tenant_id),
    )
    for began, _ in moments:
        assert sum(start <= began < end for start, end in moments) <= 2


async def test_tools_at_once_wait_no_longer_than_said(two: System) -> None:
    team = await two.team(concurrent_tools=1)
    calls = await asked(team, f"{look('n1', 9)} {look('n2', 9)}")
    assert outcomes(calls) == {"completed": 1, "busy": 1}
    (refused,) = [call for call in calls if call["error"]]
    assert "At most 1 tools" in refused["error"]["message"]
    assert "Try again" in refused["error"]["message"]
    assert [row["reason"].partition(":")[0] for row in await refusals(team)] == ["busy"]


async def test_a_stop_ends_the_waiting(two: System) -> None:
    team = await two.team(concurrent_tools=1)
    async with team.room() as room:
        ack = await room.ask(await team.conversation(), f"{look('s1', 40)} {look('s2', 40)}")
        turn_id = ack["data"]["turn_id"]
        await room.until(
            lambda: any(e["status"] == "executing" for e in room.state.executions.values())
        )
        await room.send("stop_turn", {"turn_id": turn_id})
        began = time.monotonic()
        assert await room.turn(turn_id) == "cancelled"
        assert time.monotonic() - began < 10
    assert outcomes(await calls_of(team, turn_id)) == {"cancelled": 2}
    # Nobody holds the place any more.
    assert outcomes(await asked(team, look("s3", 0))) == {"completed": 1}


async def test_bytes_a_minute(two: System) -> None:
    team = await two.team(tool_result_bytes_per_minute=20_000)
    source = await team.sqlite_shop()
    file = two.folder / "data/files" / team.tenant_id / team.project_id / "shop.db"
    with closing(sqlite3.connect(file)) as shop, shop:
        shop.executemany("INSERT INTO items VALUES (?, ?)", [("x" * 100, 1.0)] * 150)
    wide = {"datasource_id": source, "query": "SELECT * FROM items"}
    many = f"#tool:database_query:{json.dumps(wide, separators=(',', ':'))}"
    assert outcomes(await asked(team, LIST)) == {"completed": 1}
    assert outcomes(await asked(team, many)) == {"completed": 1}
    assert outcomes(await asked(team, many)) == {"completed": 1}
    (call,) = await asked(team, LIST)
    assert call["error"]["code"] == "over_budget"
    assert "at most 20 KiB of results a minute" in call["error"]["message"]
    assert [row["reason"].partition(":")[0] for row in await refusals(team)] == ["over_budget"]


async def test_turns_at_the_same_time_share_the_limit(two: System) -> None:
    """Calls of many turns, on two workers, at once: never one too many, never one too few."""
    team = await two.team(tool_calls_per_minute=20)
    rounds = await asyncio.gather(*(asked(team, " ".join([LIST] * 4)) for _ in range(10)))
    total = sum((outcomes(calls) for calls in rounds), Counter())
    assert total == {"completed": 20, "rate_limited": 20}
