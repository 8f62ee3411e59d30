"""Projects, their settings and their members."""

import asyncio
from typing import Any

import pytest

from tests.edge.rest_fixtures import Company, Rest, checked

DEFAULTS = {
    "on_busy": "enqueue", "on_busy_by_role": {}, "agent_replies": "always",
    "http_allowed_hosts": [], "http_allowed_ports": [80, 443],
}  # fmt: skip


async def test_a_project_from_first_to_last(rest: Rest, company: Company) -> None:
    made = await company.owner.post(
        "/api/projects",
        json={"name": " Böse <b>Absicht</b> 🦊 ", "instructions": "Be brief.\nBe kind."},
    )
    assert made.status_code == 201
    project = made.json()
    assert project["name"] == "Böse <b>Absicht</b> 🦊"
    assert project["settings"] == DEFAULTS
    assert project["role"] == "owner"
    path = f"/api/projects/{project['id']}"
    assert checked(await company.owner.get(path)) == project
    assert checked(await company.owner.get(f"{path}/members"))["items"][0]["role"] == "owner"
    [room] = await rest.rows("SELECT head FROM rooms WHERE project_id = $1::uuid", project["id"])
    assert room["head"] == 0

    change = {"name": "Later", "settings": {"on_busy": "reject"}}
    changed = checked(await company.owner.patch(path, json=change))
    assert changed["name"] == "Later"
    assert changed["instructions"] == "Be brief.\nBe kind."
    assert changed["settings"] == DEFAULTS | {"on_busy": "reject"}
    more = {"settings": {"http_allowed_hosts": ["API.example.org.", "*.example.org"]}}
    changed = checked(await company.owner.patch(path, json=more))
    assert changed["settings"] == DEFAULTS | {
        "on_busy": "reject", "http_allowed_hosts": ["api.example.org", "*.example.org"],
    }  # fmt: skip
    assert changed["updated_at"] > project["updated_at"]

    assert (await company.owner.delete(path)).status_code == 204
    assert (await company.owner.get(path)).status_code == 404
    await rest.noticed(kind="project_deleted", project_id=project["id"])
    actions = [row["action"] for row in await rest.audited(company) if row["project_id"]]
    assert actions[0] == "project.delete"
    assert actions[-1] == "project.create"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 256},
        {"name": "a\0b"},
        {"name": "a\nb"},
        {"name": None},
        {"name": 5},
        {"name": "x", "description": "x" * 20_001},
        {"name": "x", "settings": {"on_busy": "explode"}},
        {"name": "x", "settings": {"agent_replies": "never"}},
        {"name": "x", "settings": {"unknown": 1}},
        {"name": "x", "settings": {"http_allowed_hosts": ["*"]}},
        {"name": "x", "settings": {"http_allowed_hosts": ["*.*"]}},
        {"name": "x", "settings": {"http_allowed_hosts": ["a*b.test"]}},
        {"name": "x", "settings": {"http_allowed_hosts": ["http://a.test/"]}},
        {"name": "x", "settings": {"http_allowed_hosts": ["a.test@b.test"]}},
        {"name": "x", "settings": {"http_allowed_hosts": ["a.test\0"]}},
        {"name": "x", "settings": {"http_allowed_hosts": ["a.test"] * 101}},
        {"name": "x", "settings": {"http_allowed_ports": [0]}},
        {"name": "x", "settings": {"http_allowed_ports": [65536]}},
        {"name": "x", "settings": {"http_allowed_ports": ["80"]}},
        {"name": "x", "settings": {"http_allowed_ports": [True]}},
        [],
        "x",
    ],
)
async def test_malformed_projects(alpha: Company, body: Any) -> None:
    made = await alpha.owner.post("/api/projects", json=body)
    assert made.status_code == 422, made.text
    assert made.json()["code"] == "invalid"
    if body and body != {"name": None} and isinstance(body, dict):
        changed = await alpha.owner.patch(f"/api/projects/{alpha.project_id}", json=body)
        assert changed.status_code == 422, changed.text


async def test_null_changes_nothing(alpha: Company) -> None:
    path = f"/api/projects/{alpha.project_id}"
    before = checked(await alpha.owner.get(path))
    nulls = {"name": None, "description": None, "instructions": None, "settings": None}
    after = checked(await alpha.owner.patch(path, json=nulls))
    assert {k: v for k, v in after.items() if k != "updated_at"} == {
        k: v for k, v in before.items() if k != "updated_at"
    }


async def test_lists_show_what_one_may_see_page_by_page(company: Company) -> None:
    names = [f"P{number:02}" for number in range(7)]
    for name in reversed(names):
        checked(await company.outsider.post("/api/projects", json={"name": name}))
    seen, cursor = [], None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = checked(await company.outsider.get("/api/projects", params=params))
        seen += [(item["name"], item["role"]) for item in page["items"]]
        assert len(page["items"]) <= 3
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [(name, "owner") for name in names]
    mine = checked(await company.viewer.get("/api/projects"))["items"]
    assert [(item["name"], item["role"]) for item in mine] == [("Shop", "viewer")]
    all_of_them = checked(await company.admin.get("/api/projects"))["items"]
    assert [(item["name"], item["role"]) for item in all_of_them] == [
        *((name, "owner") for name in names), ("Shop", "owner"),
    ]  # fmt: skip


async def test_members_come_and_go(rest: Rest, company: Company) -> None:
    members = f"/api/projects/{company.project_id}/members"
    outsider = company.people["outsider"]
    colleagues = checked(await company.owner.get("/api/users"))["items"]
    assert outsider in [person["id"] for person in colleagues]
    added = checked(await company.owner.put(f"{members}/{outsider}", json={"role": "viewer"}))
    assert added == {
        "user_id": outsider, "name": "Outsider", "email": company.email("outsider"),
        "role": "viewer", "active": True, "created_at": added["created_at"],
    }  # fmt: skip
    await rest.noticed(kind="membership", project_id=company.project_id, user_id=outsider)
    checked(await company.outsider.get(members))
    rest.notices.clear()
    raised = checked(await company.owner.put(f"{members}/{outsider}", json={"role": "editor"}))
    assert raised["role"] == "editor"
    await rest.noticed(kind="membership", user_id=outsider)
    rest.notices.clear()
    checked(await company.owner.delete(f"{members}/{outsider}"))
    await rest.noticed(kind="membership", user_id=outsider)
    assert (await company.outsider.get(members)).status_code == 404
    assert (await company.owner.delete(f"{members}/{outsider}")).status_code == 404
    odd = await company.owner.put(f"{members}/{outsider}", json={"role": "god"})
    assert odd.status_code == 422


async def test_anybody_may_leave(rest: Rest, company: Company) -> None:
    members = f"/api/projects/{company.project_id}/members"
    checked(await company.viewer.delete(f"{members}/{company.people['viewer']}"))
    assert (await company.viewer.get(members)).status_code == 404


async def test_a_project_keeps_an_owner(company: Company) -> None:
    members = f"/api/projects/{company.project_id}/members"
    own = f"{members}/{company.people['owner']}"
    for answer in (
        await company.owner.delete(own),
        await company.owner.put(own, json={"role": "viewer"}),
        await company.admin.delete(own),
    ):
        assert answer.status_code == 409
        assert answer.json()["code"] == "conflict"
    checked(
        await company.owner.put(f"{members}/{company.people['editor']}", json={"role": "owner"})
    )
    checked(await company.owner.put(own, json={"role": "viewer"}))
    assert (await company.owner.put(own, json={"role": "owner"})).status_code == 403


async def test_two_owners_cannot_both_leave_at_once(rest: Rest, company: Company) -> None:
    for _ in range(2):
        project = checked(await company.owner.post("/api/projects", json={"name": "P"}))
        members = f"/api/projects/{project['id']}/members"
        paths = {name: f"{members}/{company.people[name]}" for name in ("owner", "editor")}
        checked(await company.owner.put(paths["editor"], json={"role": "owner"}))
        held = await rest.held_up("project_members", project_id=project["id"])
        leaving = [
            asyncio.create_task(company.clients[name].delete(path)) for name, path in paths.items()
        ]
        await asyncio.sleep(0.2)
        await held.close()
        codes = sorted(answer.status_code for answer in await asyncio.gather(*leaving))
        assert codes == [204, 409]


async def test_somebody_shut_out_cannot_be_added(company: Company) -> None:
    outsider = company.people["outsider"]
    checked(await company.admin.patch(f"/api/admin/users/{outsider}", json={"active": False}))
    path = f"/api/projects/{company.project_id}/members/{outsider}"
    assert (await company.owner.put(path, json={"role": "viewer"})).status_code == 404
    colleagues = checked(await company.owner.get("/api/users"))["items"]
    assert outsider not in [person["id"] for person in colleagues]
