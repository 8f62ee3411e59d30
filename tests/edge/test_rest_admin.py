"""Administration of a tenant: its row, its people; and of the installation: its tenants."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from tests.edge.rest_fixtures import (
    PASSWORD,
    ROOT_EMAIL,
    ROOT_PASSWORD,
    Company,
    Rest,
    checked,
)

KEY = "sk-CANARY-0123456789-wxyz"
TENANT = "/api/admin/tenant"
USERS = "/api/admin/users"


# R12
async def test_a_key_reads_back_as_its_last_four_characters(rest: Rest, company: Company) -> None:
    change = {"ai_api_url": "http://127.0.0.1:9000/v1/", "ai_api_key": KEY, "ai_api_model": "m"}
    answer = await company.admin.patch(TENANT, json=change)
    tenant = checked(answer)
    assert tenant["ai_api_key"] == "…wxyz"
    assert tenant["ai_api_url"] == "http://127.0.0.1:9000/v1"
    assert checked(await company.admin.get(TENANT)) == tenant
    root = await rest.sign_in(ROOT_EMAIL, ROOT_PASSWORD)
    for who, path in [
        (company.admin, TENANT),
        (company.admin, "/api/admin/audit"),
        (company.admin, USERS),
        (company.viewer, "/api/auth/me"),
        (company.viewer, "/api/projects"),
        (root, "/api/admin/tenants"),
    ]:
        assert "CANARY" not in checked_text(await who.get(path))
    for name in ("owner", "viewer"):
        assert (await company.clients[name].get(TENANT)).status_code == 403
    [row] = await rest.rows("SELECT * FROM tenants WHERE id = $1::uuid", company.id)
    assert b"CANARY" not in row["ai_api_key"]
    edge = rest.app.state.edge
    assert edge.keys.decrypt(row["ai_api_key"], UUID(company.id)) == KEY


def checked_text(answer: Any) -> str:
    checked(answer)
    return str(answer.text)


async def test_a_short_key_shows_nothing(company: Company) -> None:
    tenant = checked(await company.admin.patch(TENANT, json={"ai_api_key": "hunter2"}))
    assert tenant["ai_api_key"] == "…"


async def test_a_key_does_not_follow_to_another_host(company: Company) -> None:
    here, there = "http://127.0.0.1:9000/v1", "http://127.0.0.1:9001/v1"

    async def change(**body: Any) -> Any:
        return checked(await company.admin.patch(TENANT, json=body))["ai_api_key"]

    assert await change(ai_api_url=here, ai_api_key=KEY) == "…wxyz"
    assert await change(ai_api_model="other", name="Other") == "…wxyz"
    assert await change(ai_api_url="http://127.0.0.1:9000/v2") == "…wxyz"
    assert await change(ai_api_url=there) is None
    assert await change(ai_api_url=here) is None, "it is gone, not hidden"
    assert await change(ai_api_url=there, ai_api_key=KEY) == "…wxyz"
    assert await change(ai_api_url=None) is None
    assert await change(ai_api_key=KEY) == "…wxyz"
    assert await change(ai_api_key=None) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.test/v1", "file:///etc/passwd", "//x.test", "x.test/v1", "http://", "",
        "http://u:p@x.test/v1", "http://x.test@127.0.0.1:9000/", "http://x.test/?key=1",
        "http://x.test/#a", "http://x.test:0/", "http://x.test:99999/", "http://[::1/",
        "http://169.254.169.254/latest", "http://10.0.0.1/v1", "http://[::1]:80/v1",
        "http://[fd00:ec2::254]/", "http://2130706434/", "http://x .test/", "http://x\r\n.test/",
        "http://x\0.test/", "http://" + "x" * 2100,
    ],
)  # fmt: skip
async def test_model_addresses_that_are_refused(alpha: Company, url: str) -> None:
    answer = await alpha.admin.patch(TENANT, json={"ai_api_url": url})
    assert answer.status_code == 422, answer.text
    assert checked(await alpha.admin.get(TENANT))["ai_api_url"] is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/v1", "https://8.8.8.8/v1", "https://models.example.test/v1"]
)
async def test_model_addresses_that_pass(company: Company, url: str) -> None:
    assert checked(await company.admin.patch(TENANT, json={"ai_api_url": url}))["ai_api_url"] == url


async def test_the_kind_of_model(company: Company) -> None:
    async def change(kind: Any) -> Any:
        return await company.admin.patch(TENANT, json={"ai_api_kind": kind})

    assert checked(await company.admin.get(TENANT))["ai_api_kind"] == "chat_completions"
    assert checked(await change("responses"))["ai_api_kind"] == "responses"
    assert checked(await change(None))["ai_api_kind"] == "responses", "null changes nothing"
    for odd in ("assistants", "", 1, ["responses"]):
        assert (await change(odd)).status_code == 422
    assert checked(await change("chat_completions"))["ai_api_kind"] == "chat_completions"


async def test_limits(company: Company) -> None:
    defaults = checked(await company.admin.get(TENANT))["limits"]
    assert defaults["messages_per_minute"] == 30
    changed = checked(await company.admin.patch(TENANT, json={"limits": {"steps_per_turn": 3}}))
    assert changed["limits"] == defaults | {"steps_per_turn": 3}
    more = checked(await company.admin.patch(TENANT, json={"limits": {"sockets_per_user": 5}}))
    assert more["limits"] == defaults | {"steps_per_turn": 3, "sockets_per_user": 5}
    for limits in (
        {"unknown": 1},
        {"steps_per_turn": 0},
        {"steps_per_turn": "5"},
        {"steps_per_turn": True},
        {"steps_per_turn": 10**30},
        {"messages_per_minute": 1e400},
        [],
    ):
        content = str({"limits": limits}).replace("'", '"').replace("True", "true")
        answer = await company.admin.patch(
            TENANT,
            content=content.replace("inf", "Infinity"),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 422, answer.text
    assert checked(await company.admin.get(TENANT))["limits"] == more["limits"]


async def test_domains(rest: Rest, company: Company, alpha: Company) -> None:
    mine = [f"Chat.{company.domain}", company.domain]
    changed = checked(await company.admin.patch(TENANT, json={"domains": mine}))
    assert changed["domains"] == [company.domain, f"chat.{company.domain}"]
    taken = await company.admin.patch(TENANT, json={"domains": [company.domain, alpha.domain]})
    assert taken.status_code == 409
    assert checked(await company.admin.get(TENANT))["domains"] == changed["domains"]
    for domain in ("", "a b.test", "-a.test", "a..test", "x.test/", "x.test:80", "*", "x" * 260):
        answer = await company.admin.patch(TENANT, json={"domains": [domain]})
        assert answer.status_code == 422, domain
    for shared in ("127.0.0.1", "localhost"):
        answer = await company.admin.patch(TENANT, json={"domains": [company.domain, shared]})
        assert answer.status_code == 403, "everybody's sign-in page"


async def test_tenants_are_made_by_the_installations_administrators(
    rest: Rest, company: Company
) -> None:
    root = await rest.sign_in(ROOT_EMAIL, ROOT_PASSWORD)
    listed = checked(await root.get("/api/admin/tenants"))["items"]
    assert company.id in [tenant["id"] for tenant in listed]
    slug = f"new-{company.domain.partition('.')[0]}"
    admin = {"email": f"First@{slug}.test", "name": "First"}
    body = {"name": "New", "slug": slug, "domains": [f"{slug}.test"], "admin": admin}
    made = await root.post("/api/admin/tenants", json=body)
    assert made.status_code == 201
    token = made.json()["invite_url"].rpartition("/")[2]
    http = rest.client()
    accept = {"name": "First", "password": PASSWORD}
    checked(await http.post(f"/api/auth/invites/{token}/accept", json=accept))
    assert checked(await http.get(TENANT))["name"] == "New"
    for change in (
        {"slug": "other-slug"},
        {"domains": []},
        {"slug": "Not A Slug", "domains": []},
        {"slug": "-x", "domains": []},
    ):
        again = await root.post("/api/admin/tenants", json=body | change)
        wanted = (
            422
            if change["slug" if "slug" in change else "domains"] in ("Not A Slug", "-x")
            else 409
        )
        assert again.status_code == wanted, again.text
    assert len(checked(await root.get("/api/admin/tenants"))["items"]) == len(listed) + 1


async def test_people_are_listed_page_by_page(company: Company) -> None:
    first = checked(await company.admin.get(USERS, params={"limit": 3}))
    rest_of_them = checked(
        await company.admin.get(USERS, params={"limit": 3, "cursor": first["next_cursor"]})
    )
    emails = [user["email"] for user in first["items"] + rest_of_them["items"]]
    assert emails == sorted(
        company.email(name) for name in ("admin", "owner", "editor", "viewer", "outsider")
    )
    assert rest_of_them["next_cursor"] is None


async def test_adding_people(company: Company) -> None:
    body = {"email": f"New.Person@{company.domain}", "name": "N", "password": PASSWORD}
    user = checked(await company.admin.post(USERS, json=body))
    assert (user["email"], user["role"]) == (f"new.person@{company.domain}", "member")
    assert (user["has_password"], user["invite_url"]) == (True, None)
    assert (await company.admin.post(USERS, json=body)).status_code == 409
    for change in (
        {"email": "nobody"},
        {"email": "a b@c.test"},
        {"email": "a@b@c.test"},
        {"email": "a\0@c.test"},
        {"name": ""},
        {"role": "owner"},
        {"password": "short"},
        {"installation_admin": True},
        {"tenant_id": company.id},
    ):
        answer = await company.admin.post(USERS, json=body | {"email": "x@y.test"} | change)
        assert answer.status_code == 422, change


# R26
async def test_the_last_administrator_stays(company: Company) -> None:
    own = f"{USERS}/{company.people['admin']}"
    other = f"{USERS}/{company.people['editor']}"
    for change in ({"role": "member"}, {"active": False}, {"role": "member", "active": False}):
        answer = await company.admin.patch(own, json=change)
        assert answer.status_code == 409, answer.text
        assert answer.json()["code"] == "conflict"
    checked(await company.admin.patch(other, json={"role": "admin", "active": False}))
    assert (await company.admin.patch(own, json={"role": "member"})).status_code == 409
    checked(await company.admin.patch(other, json={"active": True}))
    checked(await company.admin.patch(own, json={"role": "member"}))
    assert (await company.admin.get(TENANT)).status_code == 403


async def test_two_administrators_cannot_both_step_down_at_once(
    rest: Rest, company: Company
) -> None:
    both = ("admin", "editor")
    for _ in range(4):  # whether they meet in the very same moment is luck
        for name in both:
            await rest.rows(
                "UPDATE users SET role = 'admin' WHERE id = $1::uuid", company.people[name]
            )
        held = await rest.held_up("users", tenant_id=company.id)
        stepping_down = [
            asyncio.create_task(
                company.clients[name].patch(
                    f"{USERS}/{company.people[name]}", json={"role": "member"}
                )
            )
            for name in both
        ]
        await asyncio.sleep(0.2)
        await held.close()
        codes = sorted(answer.status_code for answer in await asyncio.gather(*stepping_down))
        assert codes == [200, 409]


async def test_shutting_somebody_out_ends_everything(rest: Rest, company: Company) -> None:
    token = checked(
        await company.editor.post("/api/auth/tokens", json={"name": "t", "scopes": ["read"]})
    )["token"]
    [session] = checked(await company.editor.get("/api/auth/sessions"))["items"]
    path = f"{USERS}/{company.people['editor']}"
    assert checked(await company.admin.patch(path, json={"active": False}))["active"] is False
    assert (await company.editor.get("/api/auth/me")).status_code == 401
    http = rest.client()
    headers = {"authorization": f"Bearer {token}"}
    assert (await http.get("/api/auth/me", headers=headers)).status_code == 401
    body = {"email": company.email("editor"), "password": PASSWORD}
    assert (await http.post("/api/auth/login", json=body)).status_code == 401
    await rest.noticed(kind="session_ended", session_ids=[session["id"]], reason="deactivated")
    await rest.noticed(kind="user", user_id=company.people["editor"])
    assert (await company.admin.post(f"{path}/link")).status_code == 409
    checked(await company.admin.patch(path, json={"active": True}))
    await rest.sign_in(company.email("editor"))
    assert (await http.get("/api/auth/me", headers=headers)).status_code == 401


async def test_a_role_takes_effect_at_once(rest: Rest, company: Company) -> None:
    path = f"{USERS}/{company.people['outsider']}"
    assert (await company.outsider.get(USERS)).status_code == 403
    checked(await company.admin.patch(path, json={"role": "admin"}))
    checked(await company.outsider.get(USERS))
    checked(await company.outsider.get(f"/api/projects/{company.project_id}"))
    checked(await company.admin.patch(path, json={"role": "member"}))
    assert (await company.outsider.get(USERS)).status_code == 403
    assert (await company.outsider.get(f"/api/projects/{company.project_id}")).status_code == 404


async def test_signing_somebody_out_everywhere(rest: Rest, company: Company) -> None:
    path = f"{USERS}/{company.people['viewer']}/sessions"
    sessions = checked(await company.viewer.get("/api/auth/sessions"))["items"]
    checked(await company.admin.delete(path))
    assert (await company.viewer.get("/api/auth/me")).status_code == 401
    ids = [session["id"] for session in sessions]
    await rest.noticed(kind="session_ended", session_ids=ids, reason="revoked")


async def test_a_tenants_admin_gets_no_way_into_the_installations_account(
    rest: Rest, company: Company
) -> None:
    await rest.rows(
        "UPDATE users SET installation_admin = true WHERE id = $1::uuid", company.people["owner"]
    )
    path = f"{USERS}/{company.people['owner']}"
    assert (await company.admin.post(f"{path}/link")).status_code == 403
    assert (await company.admin.patch(path, json={"active": False})).status_code == 403
    assert (await company.admin.patch(path, json={"role": "admin"})).status_code == 403
    checked(await company.owner.get("/api/admin/tenants"))
    checked(await company.admin.delete(f"{path}/sessions"))
