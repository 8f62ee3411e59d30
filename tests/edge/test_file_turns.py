"""Turns whose tools work on files, and results that are too large for the model (L22)."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from store.files.folder import project_folder
from tests.client import essence, fetch
from tests.system import System, Team, checked


async def allow(team: Team, *tools: str) -> None:
    rules = {"items": [{"tool": tool, "policy": "allow"} for tool in tools]}
    checked(await team.admin.put("/api/admin/tool-policies", json=rules))


def folder_of(team: Team) -> Path:
    root = team.system.folder / "data/files"
    return project_folder(root, UUID(team.tenant_id), UUID(team.project_id))


async def called(team: Team, tool: str, **arguments: Any) -> dict[str, Any]:
    """Have the model call a tool; the execution, with all that is stored."""
    question = f"#tool:{tool}:{json.dumps(arguments, ensure_ascii=False)} #say:done"
    conversation = await team.conversation()
    async with team.room() as room:
        ack = await room.ask(conversation, question)
        assert await room.turn(ack["data"]["turn_id"]) == "completed"
        assert essence(room.state) == essence(await fetch(team.ada, team.project_id))
    page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
    [execution] = [e for message in page["items"] for e in message["tool_executions"]]
    full = checked(await team.ada.get(f"/api/tool-executions/{execution['id']}"))
    *_, last = team.system.model.calls_for(question)
    [told] = [m["content"] for m in last.body["messages"] if m["role"] == "tool"]
    return dict(full) | {
        "preview": execution["result"], "told": json.loads(told), "conversation": conversation,
    }  # fmt: skip


async def test_the_model_works_on_files(system: System, team: Team) -> None:
    async with team.room() as room:
        question = '#tool:write_file:{"path":"a.txt","content":"x"} #say:asked'
        ack = await room.ask(await team.conversation(), question)
        # What changes things is not allowed unasked.
        await room.turn(ack["data"]["turn_id"], "awaiting_approval")
        checked(await team.ada.post(f"/api/turns/{ack['data']['turn_id']}/stop"))
        assert await room.turn(ack["data"]["turn_id"]) == "cancelled"
    await allow(team, "write_file")
    written = await called(team, "write_file", path="notes/über.md", content="# Größe\nhello")
    assert (written["status"], written["queue"]) == ("completed", "tools-files")
    assert written["result"] == {"path": "notes/über.md", "size": 15}
    url = f"/api/projects/{team.project_id}/files"
    assert (await team.grace.get(f"{url}/notes/über.md")).text == "# Größe\nhello"
    octets = {"content-type": "application/octet-stream"}
    checked(await team.grace.put(f"{url}/up.csv", content=b"a,b\n1,2\n", headers=octets))
    read = await called(team, "read_file", path="up.csv", table=True)
    assert read["told"]["rows"] == [["1", "2"]]
    found = await called(team, "search_files", query="HELLO")
    assert found["told"]["matches"] == [{"path": "notes/über.md", "line": 2, "text": "hello"}]
    listed = await called(team, "list_files")
    assert [item["path"] for item in listed["told"]["items"]] == ["notes/über.md", "up.csv"]


async def test_refusals_are_told_and_on_record(team: Team) -> None:
    """F01, F02, F09: named to the model and people, with the rule; F16: as if it were not there."""
    await allow(team, "write_file")
    for path, rule in [
        ("../../../../etc/passwd", "path-parent"), ("/dev/zero", "path-absolute"),
        ("~/x", "path-home"), ("file:///etc/passwd", "path-scheme"),
    ]:  # fmt: skip
        for tool, more in (("read_file", {}), ("write_file", {"content": "x"})):
            refused = await called(team, tool, path=path, **more)
            assert refused["status"] == "failed"
            assert refused["told"]["error"]["code"] == refused["error"]["code"] == "refused"
            assert rule in refused["error"]["message"]
            audit = checked(await team.admin.get("/api/admin/audit?limit=1"))["items"][0]
            assert (audit["action"], audit["outcome"]) == ("tool.run", "refused")
            assert rule in audit["reason"]
            assert audit["tool_execution_id"] == refused["id"]
    missing = await called(team, "read_file", path="nothing.txt")
    assert missing["error"]["code"] == "not_found"
    assert not folder_of(team).exists()


async def test_a_large_result_is_a_file_of_the_project(system: System, team: Team) -> None:
    source = await team.sqlite_shop()
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
        " SELECT i, 'row ' || i || ' ' || printf('%.*c', 100, 'x') AS text FROM n"
    )
    done = await called(team, "database_query", datasource_id=source, query=query)
    path = f"results/database_query-{done['id']}.json"
    for shown, most in ((done["told"], 16), (done["preview"], 32), (done["result"], 1024)):
        assert len(json.dumps(shown)) <= (most + 1) * 1024
        assert shown["full_result"]["path"] == path
        assert shown["rows"][0][0] == 1
    assert done["told"]["truncated"] is True
    assert len(done["told"]["rows"]) < len(done["preview"]["rows"]) < 900
    # People get all that is stored; the model reads it piece by piece, or finds a row.
    assert len(done["result"]["rows"]) == 900
    raw = await team.grace.get(f"/api/projects/{team.project_id}/files/{path}")
    whole = raw.json()
    assert whole["rows"] == done["result"]["rows"]
    assert len(raw.content) == done["told"]["full_result"]["size"]
    found = await called(team, "search_files", query="row 777 ", path="results")
    [match] = found["told"]["matches"]
    assert match["path"] == path
    read = await called(team, "read_file", path=path, offset=len(raw.content) - 400)
    assert read["told"]["content"].endswith("}\n")
    # It goes with its conversation, within a minute.
    checked(await team.ada.delete(f"/api/conversations/{done['conversation']}"))

    async def gone() -> bool:
        return not (folder_of(team) / path).exists()

    await system.until(gone)
    assert (folder_of(team) / "shop.db").exists()


async def test_a_small_result_is_no_file(team: Team) -> None:
    source = await team.sqlite_shop()
    done = await called(team, "database_query", datasource_id=source, query="SELECT 1")
    assert "full_result" not in done["result"]
    assert not (folder_of(team) / "results").exists()


async def test_where_no_file_can_be_kept_the_preview_says_so(team: Team) -> None:
    source = await team.sqlite_shop()
    limits = {"limits": {"project_files_bytes": 20_000}}
    checked(await team.admin.patch("/api/admin/tenant", json=limits))
    query = "SELECT printf('%.*c', 60000, 'x') AS text"
    done = await called(team, "database_query", datasource_id=source, query=query)
    assert done["status"] == "completed"
    for shown in (done["told"], done["preview"], done["result"]):
        assert shown["full_result"]["path"] is None
        assert "files are full" in shown["full_result"]["note"]
    assert sorted(file.name for file in folder_of(team).iterdir()) == ["shop.db"]


async def test_a_deleted_projects_folder_goes_within_a_minute(system: System, team: Team) -> None:
    octets = {"content-type": "application/octet-stream"}
    url = f"/api/projects/{team.project_id}/files/a.txt"
    checked(await team.ada.put(url, content=b"x", headers=octets))
    assert folder_of(team).exists()
    checked(await team.ada.delete(f"/api/projects/{team.project_id}"))

    async def gone() -> bool:
        return not folder_of(team).exists()

    await system.until(gone)
