"""What one tenant, project or role cannot see or do to another. Each refusal has its control."""

import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.edge.rest_fixtures import Company, Rest, checked


async def belongings(rest: Rest, company: Company) -> dict[str, str]:
    """One id of everything a tenant has."""
    conversation = checked(
        await company.owner.post(
            f"/api/projects/{company.project_id}/conversations", json={"title": "Secret plans"}
        )
    )
    datasource = checked(
        await company.owner.post(
            f"/api/projects/{company.project_id}/datasources",
            json={"name": "api", "kind": "http", "config": {"base_url": rest.service.url}},
        )
    )
    token = checked(
        await company.owner.post("/api/auth/tokens", json={"name": "t", "scopes": ["read"]})
    )
    [session, *_] = checked(await company.owner.get("/api/auth/sessions"))["items"]
    turn, message, execution = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    tenant, project = uuid.UUID(company.id), uuid.UUID(company.project_id)
    conversation_id = uuid.UUID(conversation["id"])
    await rest.rows(
        "INSERT INTO turns (id, tenant_id, project_id, conversation_id, message_id, number, status)"
        " VALUES ($1, $2, $3, $4, $5, 1, 'completed')",
        turn, tenant, project, conversation_id, message,
    )  # fmt: skip
    await rest.rows(
        "INSERT INTO messages (id, tenant_id, conversation_id, turn_id, turn_number, position,"
        " role, content, status) VALUES ($1, $2, $3, $4, 1, 0, 'user', 'the plans', 'complete')",
        message, tenant, conversation_id, turn,
    )  # fmt: skip
    await rest.rows(
        "INSERT INTO tool_executions (id, tenant_id, turn_id, message_id, position, tool_call_id,"
        " tool_name, tool_parameters, arguments, queue, effect)"
        " VALUES ($1, $2, $3, $4, 0, 'c', 'database_query', '{}', '{}', 'tools-database', 'read')",
        execution, tenant, turn, message,
    )  # fmt: skip
    grant, asker = uuid.uuid4(), uuid.UUID(company.people["editor"])
    await rest.rows(
        "INSERT INTO tool_grants (id, tenant_id, project_id, conversation_id, tool_execution_id,"
        " user_id, tool, effect, approvers, approvals, not_asker, granted_by)"
        " VALUES ($1, $2, $3, $4, $5, $6, 'database_query', 'read', 'editor', 1, false, $7)",
        grant, tenant, project, conversation_id, execution, asker, [asker],
    )  # fmt: skip
    return {
        "project": company.project_id, "conversation": conversation["id"], "turn": str(turn),
        "execution": str(execution), "datasource": datasource["id"], "token": token["id"],
        "session": session["id"], "user": company.people["viewer"], "message": str(message),
        "grant": str(grant),
    }  # fmt: skip


def requests(ids: Mapping[str, str]) -> list[tuple[str, str, dict[str, Any] | None]]:
    project = f"/api/projects/{ids['project']}"
    member, source = (
        f"{project}/members/{ids['user']}",
        f"{project}/datasources/{ids['datasource']}",
    )
    conversation = f"/api/conversations/{ids['conversation']}"
    new_source = {"name": "x", "kind": "http", "config": {"base_url": "https://x.test"}}
    return [
        ("GET", project, None),
        ("PATCH", project, {"name": "Mine"}),
        ("DELETE", project, None),
        ("GET", f"{project}/members", None),
        ("PUT", member, {"role": "owner"}),
        ("DELETE", member, None),
        ("GET", f"{project}/datasources", None),
        ("POST", f"{project}/datasources", new_source),
        ("GET", source, None),
        ("PATCH", source, {"name": "mine"}),
        ("DELETE", source, None),
        ("POST", f"{source}/test", None),
        ("GET", f"{project}/files", None),
        ("GET", f"{project}/tool-policies", None),
        ("PUT", f"{project}/tool-policies", {"items": []}),
        ("GET", f"{project}/conversations", None),
        ("POST", f"{project}/conversations", {"title": "x"}),
        ("GET", f"{project}/events", None),
        ("GET", f"{project}/search?q=plans", None),
        ("GET", conversation, None),
        ("PATCH", conversation, {"title": "Mine"}),
        ("DELETE", conversation, None),
        ("GET", f"{conversation}/messages", None),
        ("POST", f"{conversation}/messages", {"content": "hi", "client_message_id": "1"}),
        ("GET", f"/api/turns/{ids['turn']}", None),
        ("POST", f"/api/turns/{ids['turn']}/stop", None),
        ("GET", f"/api/tool-executions/{ids['execution']}", None),
        ("POST", f"/api/tool-executions/{ids['execution']}/decision", {"decision": "deny"}),
        ("GET", f"{conversation}/tool-grants", None),
        ("DELETE", f"/api/tool-grants/{ids['grant']}", None),
        ("DELETE", f"/api/auth/tokens/{ids['token']}", None),
        ("DELETE", f"/api/auth/sessions/{ids['session']}", None),
    ]


def admin_requests(ids: Mapping[str, str]) -> list[tuple[str, str, dict[str, Any] | None]]:
    user = f"/api/admin/users/{ids['user']}"
    return [
        ("GET", user, None),
        ("PATCH", user, {"role": "admin"}),
        ("DELETE", f"{user}/sessions", None),
        ("POST", f"{user}/link", None),
    ]


async def state(rest: Rest, company: Company) -> list[Any]:
    """Everything of a tenant except its audit log."""
    tables = (
        "tenants", "users", "sessions", "api_tokens", "projects", "project_members",
        "datasources", "conversations", "turns", "messages", "tool_executions", "tool_policies",
        "tool_decisions", "tool_grants",
        "rooms", "room_events", "tenant_domains",
    )  # fmt: skip
    found = []
    for table in tables:
        column = "id" if table == "tenants" else "tenant_id"
        rows = await rest.rows(
            f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE {column} = $1::uuid ORDER BY 1",
            company.id,
        )
        found.append((table, [row["row"] for row in rows]))
    return found


# R01
async def test_another_tenants_ids_name_nothing(
    rest: Rest, alpha: Company, company: Company
) -> None:
    theirs = await belongings(rest, company)
    nobodys = {name: str(uuid.uuid4()) for name in theirs}
    before = await state(rest, company)
    for who in (alpha.owner, alpha.admin):
        pairs = zip(
            requests(theirs) + admin_requests(theirs),
            requests(nobodys) + admin_requests(nobodys),
            strict=True,
        )
        for (method, path, body), (_, random_path, _) in pairs:
            if "/admin/" in path and who is not alpha.admin:
                continue
            refused = await who.request(method, path, json=body)
            unknown = await who.request(method, random_path, json=body)
            assert refused.status_code == 404, f"{method} {path}: {refused.text}"
            assert refused.content == unknown.content
            assert [h for h in refused.headers.items() if h[0] != "date"] == [
                h for h in unknown.headers.items() if h[0] != "date"
            ]
    assert await state(rest, company) == before


async def test_a_mixture_of_both_tenants_ids_names_nothing(
    rest: Rest, alpha: Company, company: Company
) -> None:
    theirs = await belongings(rest, company)
    before = await state(rest, company)
    mine = f"/api/projects/{alpha.project_id}"
    for method, path, body in [
        ("PUT", f"{mine}/members/{theirs['user']}", {"role": "viewer"}),
        ("DELETE", f"{mine}/members/{theirs['user']}", None),
        ("GET", f"{mine}/datasources/{theirs['datasource']}", None),
        ("PATCH", f"{mine}/datasources/{theirs['datasource']}", {"name": "mine"}),
        ("DELETE", f"{mine}/datasources/{theirs['datasource']}", None),
        ("POST", f"{mine}/datasources/{theirs['datasource']}/test", None),
    ]:
        answer = await alpha.owner.request(method, path, json=body)
        assert answer.status_code == 404, f"{method} {path}: {answer.text}"
    assert await state(rest, company) == before


async def test_a_datasource_is_found_under_its_own_project_only(
    rest: Rest, company: Company
) -> None:
    body = {"name": "api", "kind": "http", "config": {"base_url": rest.service.url}}
    here = f"/api/projects/{company.project_id}/datasources"
    source = checked(await company.owner.post(here, json=body))["id"]
    other = checked(await company.editor.post("/api/projects", json={"name": "Other"}))["id"]
    there = f"/api/projects/{other}/datasources"
    for method, path, change in [
        ("GET", f"{there}/{source}", None),
        ("PATCH", f"{there}/{source}", {"name": "mine"}),
        ("POST", f"{there}/{source}/test", None),
        ("DELETE", f"{there}/{source}", None),
    ]:
        answer = await company.editor.request(method, path, json=change)
        assert answer.status_code == 404, f"{method}: {answer.text}"
    assert checked(await company.editor.get(f"{here}/{source}"))["name"] == "api"


async def test_a_colleague_outside_the_project_sees_nothing_of_it(
    rest: Rest, company: Company
) -> None:
    ids = await belongings(rest, company)
    before = await state(rest, company)
    for method, path, body in requests(ids):
        answer = await company.outsider.request(method, path, json=body)
        assert answer.status_code == 404, f"{method} {path}: {answer.text}"
    assert checked(await company.outsider.get("/api/projects"))["items"] == []
    assert await state(rest, company) == before


async def test_rightful_people_get_through(rest: Rest, company: Company) -> None:
    ids = await belongings(rest, company)
    unfit = {404, 403, 401, 422, 500}
    last = []
    for method, path, body in requests(ids):
        if path.endswith(("/messages", "/stop")) and method == "POST":
            continue  # needs Temporal
        if method == "DELETE":
            last.insert(0, (method, path, body))
            continue
        name = {"name": "another"} if path.endswith("/datasources") else {}
        sent = body and {**body, **name}
        answer = await company.owner.request(method, path, json=sent)
        assert answer.status_code not in unfit, f"{method} {path}: {answer.text}"
    for method, path, body in last:
        if "/sessions/" in path:
            continue
        answer = await company.owner.request(method, path, json=body)
        assert answer.status_code == 204 or "/members/" in path, f"{method} {path}: {answer.text}"


@pytest.mark.parametrize("name", ["nope", "1", "%00", "..%2F..%2Fetc", "0" * 400])
async def test_malformed_ids_name_nothing_either(alpha: Company, name: str) -> None:
    for path in (f"/api/projects/{name}", f"/api/projects/{alpha.project_id}/datasources/{name}"):
        answer = await alpha.owner.get(path)
        assert answer.status_code == 404, answer.text
        assert answer.json()["code"] == "not_found"


async def test_a_stranger_gets_nowhere(rest: Rest, alpha: Company) -> None:
    for headers in ({}, {"authorization": "Bearer evt_x"}, {"cookie": "everturn=evs_x"}):
        http = rest.client()
        http.headers.update(headers)
        for path in ("/api/auth/me", "/api/projects", "/api/users", "/api/admin/tenant",
                     f"/api/projects/{alpha.project_id}"):  # fmt: skip
            answer = await http.get(path)
            assert answer.status_code == 401, path
            assert answer.json()["code"] == "session_ended"


async def test_a_session_in_the_url_is_nobody(rest: Rest, alpha: Company) -> None:
    [cookie] = alpha.owner.cookies.jar
    for name in ("token", "everturn", "session", "access_token", "ticket"):
        answer = await rest.client().get(f"/api/auth/me?{name}={cookie.value}")
        assert answer.status_code == 401


# R04
@pytest.mark.parametrize("field", ["role", "client_id", "tenant_id", "id", "owner_id", "user_id"])
async def test_no_field_makes_one_somebody_else(
    rest: Rest, alpha: Company, beta: Company, field: str
) -> None:
    value = {"role": "admin"}.get(field, beta.id)
    for method, path in [
        ("PATCH", "/api/auth/me"),
        ("PATCH", "/api/me"),
        ("POST", "/api/projects"),
        ("PATCH", f"/api/projects/{alpha.project_id}"),
    ]:
        answer = await alpha.owner.request(method, path, json={"name": "X", field: value})
        assert answer.status_code in (404, 405, 422), f"{method} {path}: {answer.text}"
    assert checked(await alpha.owner.get("/api/auth/me"))["user"]["role"] == "member"
    [project] = await rest.rows(
        "SELECT name, tenant_id FROM projects WHERE id = $1::uuid", alpha.project_id
    )
    assert (project["name"], str(project["tenant_id"])) == ("Shop", alpha.id)


# R13
@pytest.mark.parametrize(
    "query",
    [
        "sort=created_at;DROP TABLE users",
        "sort=(select pg_sleep(5))",
        "q=%27%20OR%201=1--",
        "cursor=%27%20OR%201=1--",
        "cursor=WyInOyBEUk9QIFRBQkxFIHVzZXJzOyAtLSIsICJ4Il0",
        "cursor=bnVsbA",
        "limit=0",
        "limit=1%20OR%201=1",
        "limit=99999999999999999999",
        "action=%27%20OR%201=1--",
        "outcome=allowed%27--",
        "user=%27%20OR%201=1--",
        "status=running%27--",
        "from=now()&to=x",
        "from=0001-01-01&to=9999-12-31",
        "to=9999-12-31",
        "to=0001-01-01",
    ],
)
async def test_nothing_in_a_query_reaches_sql(rest: Rest, alpha: Company, query: str) -> None:
    project = f"/api/projects/{alpha.project_id}"
    for path in ("/api/projects", "/api/users", "/api/admin/users", "/api/admin/audit",
                 "/api/admin/turns", "/api/admin/usage", "/api/auth/tokens", f"{project}/search",
                 f"{project}/members"):  # fmt: skip
        answer = await alpha.admin.get(f"{path}?{query}")
        assert answer.status_code in (200, 422), f"{path}: {answer.text}"
        assert answer.elapsed.total_seconds() < 1
        if answer.status_code == 200 and "search" in path:
            assert answer.json()["items"] == []
    assert len(await rest.rows("SELECT 1 FROM users WHERE tenant_id = $1::uuid", alpha.id)) == 5


# R15
async def test_roles_hold(rest: Rest, company: Company) -> None:
    ids = await belongings(rest, company)
    before = await state(rest, company)
    project = f"/api/projects/{ids['project']}"
    outsider = f"{project}/members/{company.people['outsider']}"
    own = {name: f"{project}/members/{company.people[name]}" for name in ("editor", "viewer")}
    source = f"{project}/datasources/{ids['datasource']}"
    owners_only = [
        ("PUT", outsider, {"role": "viewer"}),
        ("PUT", own["editor"], {"role": "owner"}),
        ("PUT", own["viewer"], {"role": "owner"}),
        ("DELETE", f"{project}/members/{company.people['owner']}", None),
        ("PATCH", project, {"name": "Mine"}),
        ("DELETE", project, None),
        ("POST", f"{project}/datasources",
         {"name": "x", "kind": "http", "config": {"base_url": "https://x.test"}}),
        ("PATCH", source, {"name": "mine"}),
        ("DELETE", source, None),
        ("PUT", f"{project}/tool-policies", {"items": []}),
    ]  # fmt: skip
    for who in (company.editor, company.viewer):
        for method, path, body in owners_only:
            await refused(who, method, path, body)
    await refused(company.viewer, "POST", f"{source}/test", None)
    for who in (company.owner, company.editor, company.viewer, company.outsider):
        for method, path, body in admins_only(company):
            await refused(who, method, path, body)
    for method, path, body in installation_only():
        await refused(company.admin, method, path, body)
    assert await state(rest, company) == before
    rows = await rest.audited(company, outcome="refused")
    assert {(row["actor"]["email"], row["resource"]["id"]) for row in rows if row["reason"]} >= {
        (company.email("editor"), f"PUT {outsider}"),
        (company.email("viewer"), f"DELETE {project}"),
        (company.email("outsider"), "POST /api/admin/users"),
        (company.email("admin"), "POST /api/admin/tenants"),
    }


def admins_only(company: Company) -> list[tuple[str, str, dict[str, Any] | None]]:
    user = f"/api/admin/users/{company.people['viewer']}"
    invited = {"email": company.email("friend"), "name": "Friend", "role": "admin"}
    return [
        ("POST", "/api/admin/users", invited),
        ("PATCH", user, {"role": "admin"}),
        ("DELETE", f"{user}/sessions", None),
        ("POST", f"{user}/link", None),
        ("GET", "/api/admin/users", None),
        ("GET", "/api/admin/tenant", None),
        ("PATCH", "/api/admin/tenant", {"name": "Mine"}),
        ("GET", "/api/admin/audit", None),
        ("GET", "/api/admin/turns", None),
        ("GET", "/api/admin/usage", None),
        ("GET", "/api/admin/tool-policies", None),
        ("PUT", "/api/admin/tool-policies", {"items": []}),
    ]


def installation_only() -> list[tuple[str, str, dict[str, Any] | None]]:
    admin = {"email": "x@x.test", "name": "X", "password": "long enough"}
    return [
        ("GET", "/api/admin/tenants", None),
        ("POST", "/api/admin/tenants", {"name": "X", "slug": "x", "admin": admin}),
    ]


async def refused(
    who: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await who.request(method, path, json=body)
    assert answer.status_code == 403, f"{method} {path}: {answer.status_code} {answer.text}"
    assert answer.json()["code"] == "forbidden"
