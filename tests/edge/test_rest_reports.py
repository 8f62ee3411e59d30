"""Audit log, turns, usage and tool policies, as administrators see and write them."""

import uuid
from typing import Any

import pytest

from tests.edge.rest_fixtures import Company, Rest, checked

POLICIES = "/api/admin/tool-policies"


async def test_the_audit_log_is_filtered_and_paged(rest: Rest, company: Company) -> None:
    for number in range(5):
        checked(await company.owner.post("/api/projects", json={"name": f"P{number}"}))
    assert (await company.owner.get("/api/admin/audit")).status_code == 403
    first = checked(await company.admin.get("/api/admin/audit", params={"limit": 4}))
    assert len(first["items"]) == 4
    assert first["items"][0]["outcome"] == "refused"
    assert first["items"][0]["actor"]["email"] == company.email("owner")
    assert first["items"][0]["reason"] == "forbidden"
    made = await rest.audited(company, action="project.create", outcome="allowed")
    assert len(made) == 6
    row = made[0]
    assert row["actor"] == {"user_id": company.people["owner"], "email": company.email("owner")}
    assert row["resource"] == {"type": "project", "id": row["project_id"]}
    assert row["address"] == "198.51.100.7"
    by_admin = await rest.audited(company, user=company.people["admin"])
    assert {row["actor"]["email"] for row in by_admin} == {company.email("admin")}
    seen, cursor = [], None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = checked(await company.admin.get("/api/admin/audit", params=params))
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    stored = await rest.rows(
        "SELECT id FROM audit_log WHERE tenant_id = $1::uuid ORDER BY at DESC, id DESC", company.id
    )
    assert seen == [str(row["id"]) for row in stored]


async def test_the_application_cannot_change_its_audit_log(rest: Rest, alpha: Company) -> None:
    import asyncpg

    connection = await asyncpg.connect(rest.server.app_dsn)
    for statement in ("DELETE FROM audit_log", "UPDATE audit_log SET reason = 'x'",
                      "TRUNCATE audit_log"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def turn(rest: Rest, company: Company, status: str, **more: Any) -> str:
    conversation, turn_id, message, execution = (uuid.uuid4() for _ in range(4))
    tenant, project = uuid.UUID(company.id), uuid.UUID(company.project_id)
    await rest.rows(
        "INSERT INTO conversations (id, tenant_id, project_id, title) VALUES ($1, $2, $3, 'Trip')",
        conversation, tenant, project,
    )  # fmt: skip
    await rest.rows(
        "INSERT INTO turns (id, tenant_id, project_id, conversation_id, message_id, number, status,"
        " last_error, asked_by) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8)",
        turn_id, tenant, project, conversation, message, status, more.get("last_error"),
        uuid.UUID(company.people["editor"]),
    )  # fmt: skip
    await rest.rows(
        "INSERT INTO messages (id, tenant_id, conversation_id, turn_id, turn_number, position,"
        " role, content, status) VALUES ($1, $2, $3, $4, 1, 0, 'user', 'hi', 'complete')",
        message, tenant, conversation, turn_id,
    )  # fmt: skip
    if status == "running":
        await rest.rows(
            "INSERT INTO tool_executions (id, tenant_id, turn_id, message_id, position, attempt,"
            " tool_call_id, tool_name, tool_parameters, arguments, queue, effect, execution_status)"
            " VALUES ($1, $2, $3, $4, 0, 2, 'c', 'http_request', '{}', '{}', 'tools-http', 'once',"
            " 'executing')",
            execution, tenant, turn_id, message,
        )  # fmt: skip
    return str(turn_id)


async def test_turns_say_why_they_wait(rest: Rest, company: Company, alpha: Company) -> None:
    error = '{"message": "The model is away.", "code": "model_unavailable"}'
    running = await turn(rest, company, "running", last_error=error)
    done = await turn(rest, company, "completed")
    queued = await turn(rest, company, "queued")
    await turn(rest, alpha, "running")
    found = checked(await company.admin.get("/api/admin/turns"))["items"]
    assert [item["id"] for item in found] == [queued, running]
    assert found[1]["last_error"]["message"] == "The model is away."
    assert found[1]["asked_by_name"] == "Editor"
    assert found[1]["conversation_title"] == "Trip"
    assert found[1]["project_name"] == "Shop"
    [call] = found[1]["waits_for"]
    assert (call["tool_name"], call["status"], call["attempt"]) == ("http_request", "executing", 2)
    by_status = await company.admin.get("/api/admin/turns?status=completed&status=failed")
    assert [item["id"] for item in checked(by_status)["items"]] == [done]
    first = checked(await company.admin.get("/api/admin/turns?limit=1"))
    second = await company.admin.get(
        "/api/admin/turns", params={"limit": 1, "cursor": first["next_cursor"]}
    )
    assert [item["id"] for item in checked(second)["items"]] == [running]


async def test_usage_is_summed_by_day_model_and_person(rest: Rest, company: Company) -> None:
    for day, model, who, tokens in [
        ("2026-03-01T23:59:59Z", "large", "owner", 10),
        ("2026-03-01T12:00:00Z", "large", "owner", 5),
        ("2026-03-01T00:00:00Z", "small", "editor", 1),
        ("2026-03-02T00:00:00Z", "large", "owner", 7),
        ("2026-03-03T00:00:00Z", "large", "owner", 99),
    ]:
        await rest.rows(
            "INSERT INTO usage (id, tenant_id, project_id, user_id, turn_id, step, epoch, model,"
            " prompt_tokens, completion_tokens, at) VALUES (gen_random_uuid(), $1::uuid, $2::uuid,"
            " $3::uuid, gen_random_uuid(), 1, 1, $4, $5, 2, $6::text::timestamptz)",
            company.id, company.project_id, company.people[who], model, tokens, day,
        )  # fmt: skip
    params = {"from": "2026-03-01", "to": "2026-03-02"}
    rows = checked(await company.admin.get("/api/admin/usage", params=params))["items"]
    assert [
        (row["day"], row["model"], row["user_name"], row["calls"], row["prompt_tokens"])
        for row in rows
    ] == [
        ("2026-03-02", "large", "Owner", 1, 7),
        ("2026-03-01", "large", "Owner", 2, 15),
        ("2026-03-01", "small", "Editor", 1, 1),
    ]
    assert checked(await company.admin.get("/api/admin/usage"))["items"] == []
    for odd in ({"from": "2026-03-02", "to": "2026-03-01"}, {"from": "2020-01-01"}):
        assert (await company.admin.get("/api/admin/usage", params=odd)).status_code == 422


def rule(tool: str, policy: str, **more: Any) -> dict[str, Any]:
    return {
        "tool": tool, "effect": None, "policy": policy, "approvers": "editor", "approvals": 1,
        "not_asker": False, "expires_minutes": None,
    } | more  # fmt: skip


async def test_policies_are_replaced_as_a_whole(company: Company) -> None:
    assert checked(await company.admin.get(POLICIES))["items"] == []
    items = [rule("http_*", "deny"), rule("mcp__*", "ask", approvers="owner", approvals=2)]
    assert checked(await company.admin.put(POLICIES, json={"items": items}))["items"] == items
    assert checked(await company.admin.get(POLICIES))["items"] == items
    short = {"items": [{"tool": "*", "policy": "ask"}]}
    assert checked(await company.admin.put(POLICIES, json=short))["items"] == [rule("*", "ask")]
    for odd in (
        rule("", "ask"),
        rule("a b", "ask"),
        rule("x" * 129, "ask"),
        rule("*", "maybe"),
        rule("*", "ask", effect="write"),
        rule("*", "ask", approvals=3),
        rule("*", "ask", approvers="viewer"),
        rule("*", "ask", expires_minutes=0),
        rule("*", "ask", more=1),
    ):
        answer = await company.admin.put(POLICIES, json={"items": [odd]})
        assert answer.status_code == 422, odd
    twice = {"items": [rule("*", "ask"), rule("*", "deny")]}
    assert (await company.admin.put(POLICIES, json=twice)).status_code == 422
    assert checked(await company.admin.get(POLICIES))["items"] == [rule("*", "ask")]


@pytest.mark.parametrize(
    ("tenant", "project", "fits"),
    [
        ([], rule("database_query", "allow", effect="read"), True),
        ([], rule("http_request", "allow", effect="once"), False),
        ([], rule("*", "allow"), False),
        ([], rule("*", "ask"), True),
        ([], rule("*", "ask", approvals=2, not_asker=True), True),
        ([rule("http_*", "deny")], rule("http_request", "ask"), False),
        ([rule("http_*", "deny")], rule("http_request", "deny"), True),
        ([rule("http_*", "deny")], rule("write_file", "ask"), True),
        ([rule("*", "allow")], rule("*", "allow"), True),
        ([rule("*", "allow")], rule("write_file", "deny"), True),
        ([rule("*", "ask", approvers="owner")], rule("*", "ask"), False),
        ([rule("*", "ask", approvers="owner")], rule("*", "ask", approvers="admin"), True),
        ([rule("*", "ask", approvals=2)], rule("*", "ask"), False),
        ([rule("*", "ask", not_asker=True)], rule("*", "ask"), False),
        ([rule("*", "ask", expires_minutes=5)], rule("*", "ask"), False),
        ([rule("*", "ask", expires_minutes=5)], rule("*", "ask", expires_minutes=9), False),
        ([rule("*", "ask", expires_minutes=5)], rule("*", "ask", expires_minutes=4), True),
        ([rule("*", "ask", approvals=2)], rule("*", "deny"), True),
        (
            [rule("*", "deny"), rule("http_request", "allow", effect="read")],
            rule("http_request", "allow", effect="read"),
            True,
        ),
        (
            [rule("*", "deny"), rule("http_request", "allow", effect="read")],
            rule("http_request", "allow"),
            False,
        ),
    ],
)
async def test_a_project_only_tightens(
    beta: Company, tenant: list[Any], project: dict[str, Any], fits: bool
) -> None:
    path = f"/api/projects/{beta.project_id}/tool-policies"
    checked(await beta.owner.put(path, json={"items": []}))
    checked(await beta.admin.put(POLICIES, json={"items": tenant}))
    answer = await beta.owner.put(path, json={"items": [project]})
    stored = checked(await beta.viewer.get(path))["items"]
    if fits:
        assert checked(answer)["items"] == [project] == stored
    else:
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "items.0"
        assert stored == []
