"""Results that are given again: to whom, for how long, and what ends them."""

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Any
from uuid import UUID

import pytest

from tests.client import items
from tests.system import System, Team, checked

QUERY = "SELECT count(*) FROM items"


def call(source: str, query: str = QUERY, tool: str = "database_query") -> str:
    arguments = {"datasource_id": source} | ({"query": query} if tool == "database_query" else {})
    return f"#tool:{tool}:{json.dumps(arguments, separators=(',', ':'))}"


class Shop:
    """A project's SQLite shop, and questions about it."""

    def __init__(self, team: Team, source: str) -> None:
        self.team, self.source = team, source

    @property
    def path(self) -> str:
        return f"/api/projects/{self.team.project_id}/datasources/{self.source}"

    async def set(self, **changes: Any) -> dict[str, Any]:
        return dict(checked(await self.team.ada.patch(self.path, json=changes)))

    def sell(self, name: str) -> None:
        """Change the data behind everybody's back."""
        team = self.team
        file = team.system.folder / "data/files" / team.tenant_id / team.project_id / "shop.db"
        with closing(sqlite3.connect(file)) as shop, shop:
            shop.execute("INSERT INTO items VALUES (?, 1)", (name,))

    async def ask(self, text: str = "", who: str = "ada") -> dict[str, Any]:
        """How the one call of a turn ended."""
        async with self.team.room(who) as room:
            ack = await room.ask(
                await self.team.conversation(), f"{text or call(self.source)} #say:so"
            )
            turn_id = ack["data"]["turn_id"]
            assert await room.turn(turn_id) == "completed"
            (known,) = {
                frame["data"]["tool_execution_id"]
                for frame in room.frames
                if frame["type"] == "tool_result" and frame["data"]["turn_id"] == turn_id
            }
            found = room.state.executions[known]
        full = checked(await self.team.ada.get(f"/api/tool-executions/{known}"))
        assert full["result"] == found["result"]
        return dict(full)

    async def entries(self) -> int:
        rows = await self.team.system.sql(
            "SELECT count(*) FROM tool_cache WHERE project_id = $1", UUID(self.team.project_id)
        )
        return int(rows[0][0])


def count(execution: dict[str, Any]) -> int:
    return int(execution["result"]["rows"][0][0])


@pytest.fixture
async def shop(team: Team) -> Shop:
    made = Shop(team, await team.sqlite_shop())
    assert (await made.set(cache_seconds=3600))["cache_seconds"] == 3600
    return made


async def test_it_is_off_until_somebody_says_otherwise(team: Team) -> None:
    shop = Shop(team, await team.sqlite_shop())
    assert checked(await team.ada.get(shop.path))["cache_seconds"] == 0
    assert count(await shop.ask()) == 3
    shop.sell("stool")
    again = await shop.ask()
    assert count(again) == 4
    assert "cached" not in again["result"]
    assert await shop.entries() == 0


async def test_a_result_is_given_again_and_says_so(shop: Shop) -> None:
    first = await shop.ask()
    assert "cached" not in first["result"]
    shop.sell("stool")
    again = await shop.ask(who="grace")
    assert count(again) == 3
    assert again["result"]["cached"] is True
    assert 0 <= again["result"]["cached_age_seconds"] < 60
    assert {**first["result"], "cached": True, "cached_age_seconds": 0} == {
        **again["result"], "cached_age_seconds": 0,
    }  # fmt: skip
    # Another query is another result.
    assert "cached" not in (await shop.ask(call(shop.source, QUERY + " ")))["result"]
    assert "cached" not in (await shop.ask(call(shop.source, tool="describe_schema")))["result"]
    assert (await shop.ask(call(shop.source, tool="describe_schema")))["result"]["cached"]


async def test_it_is_audited_as_a_run(shop: Shop) -> None:
    first, again = await shop.ask(), await shop.ask(who="grace")
    runs = {
        row["tool_execution_id"]: row
        for row in await items(shop.team.admin, "/api/admin/audit")
        if row["action"] == "tool.run"
    }
    assert (runs[first["id"]]["outcome"], runs[first["id"]]["reason"]) == ("allowed", None)
    assert (runs[again["id"]]["outcome"], runs[again["id"]]["reason"]) == ("allowed", "cached")
    assert runs[again["id"]]["actor"]["user_id"] == shop.team.people["grace"]


async def test_authority_comes_first(shop: Shop) -> None:
    assert count(await shop.ask()) == 3
    rules = {"items": [{"tool": "database_query", "policy": "deny"}]}
    path = f"/api/projects/{shop.team.project_id}/tool-policies"
    checked(await shop.team.ada.put(path, json=rules))
    assert (await shop.ask())["error"]["code"] == "denied"
    checked(await shop.team.ada.put(path, json={"items": []}))
    assert (await shop.ask())["result"]["cached"]


async def test_a_changed_datasource_begins_anew(shop: Shop) -> None:
    assert count(await shop.ask()) == 3
    shop.sell("stool")
    await shop.set(name="renamed")
    assert (await shop.ask())["result"]["cached"]
    await shop.set(config={"path": "shop.db"})
    fresh = await shop.ask()
    assert (count(fresh), "cached" in fresh["result"]) == (4, False)
    assert count(await shop.ask()) == 4


async def test_switching_off_holds_at_once(shop: Shop) -> None:
    await shop.ask()
    shop.sell("stool")
    await shop.set(cache_seconds=0)
    assert count(await shop.ask()) == 4


async def test_a_shorter_time_holds_for_what_is_kept(shop: Shop) -> None:
    await shop.ask()
    shop.sell("stool")
    await shop.set(cache_seconds=1)
    await asyncio.sleep(1.1)
    assert count(await shop.ask()) == 4


async def test_a_deleted_datasource_takes_its_results_along(shop: Shop) -> None:
    await shop.ask()
    assert await shop.entries() == 1
    checked(await shop.team.ada.delete(shop.path))
    assert await shop.entries() == 0
    assert (await shop.ask())["error"]["code"] == "not_found"


async def test_projects_and_tenants_keep_to_themselves(shop: Shop, system: System) -> None:
    """The same file name, query and person, in another project; and in another tenant."""
    await shop.ask()
    near = await shop.team.elsewhere()
    far = await system.team()
    for team in (near, far):
        other = Shop(team, await team.sqlite_shop())
        await other.set(cache_seconds=3600)
        other.sell("stool")
        result = await other.ask()
        assert (count(result), "cached" in result["result"]) == (4, False)
        # Nor by the id of a datasource that is not theirs.
        assert (await other.ask(call(shop.source)))["error"]["code"] == "not_found"


async def test_no_failure_is_kept(shop: Shop) -> None:
    missing = call(shop.source, "SELECT count(*) FROM orders")
    refused = call(shop.source, "DELETE FROM items")
    assert (await shop.ask(missing))["error"]["code"] == "failed"
    assert (await shop.ask(refused))["error"]["code"] == "refused"
    assert await shop.entries() == 0
    team = shop.team
    file = team.system.folder / "data/files" / team.tenant_id / team.project_id / "shop.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE orders (n)")
    assert count(await shop.ask(missing)) == 0


async def test_nothing_that_was_stopped_is_kept(shop: Shop) -> None:
    endless = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 900000000)"
        " SELECT max(n) FROM c"
    )
    async with shop.team.room() as room:
        ack = await room.ask(await shop.team.conversation(), call(shop.source, endless))
        turn_id = ack["data"]["turn_id"]
        await room.until(
            lambda: any(e["status"] == "executing" for e in room.state.executions.values())
        )
        await room.send("stop_turn", {"turn_id": turn_id})
        assert await room.turn(turn_id) == "cancelled"
    assert await shop.entries() == 0


@pytest.mark.parametrize("seconds", [-1, 86_401, "60", 1.5, None, True])
async def test_how_long_is_bounded(shop: Shop, seconds: Any) -> None:
    answer = await shop.team.ada.patch(shop.path, json={"cache_seconds": seconds})
    if seconds is None:
        assert checked(answer)["cache_seconds"] == 3600
    else:
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid"
