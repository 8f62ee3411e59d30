"""API tokens, sessions, passwords, invitations and resets."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from api.invites import Invite
from store.secrets import hash_token
from tests.edge.rest_fixtures import PASSWORD, Company, Rest, checked

NEW_PASSWORD = "a new password"


def bearer(rest: Rest, token: str) -> httpx.AsyncClient:
    http = rest.client()
    http.headers["authorization"] = f"Bearer {token}"
    return http


async def token_of(http: httpx.AsyncClient, *scopes: str, **more: str) -> str:
    body = {"name": "mine", "scopes": list(scopes), **more}
    return str(checked(await http.post("/api/auth/tokens", json=body))["token"])


async def test_a_token_is_shown_once_and_stored_hashed(rest: Rest, company: Company) -> None:
    token = await token_of(company.owner, "read", "write")
    assert token.startswith("evt_")
    listed = await company.owner.get("/api/auth/tokens")
    assert [row["scopes"] for row in checked(listed)["items"]] == [["read", "write"]]
    assert token not in listed.text
    [row] = await rest.rows("SELECT * FROM api_tokens WHERE token_hash = $1", hash_token(token))
    assert token not in str(row)
    assert checked(await company.viewer.get("/api/auth/tokens"))["items"] == []
    assert token not in str(await rest.audited(company))


async def test_a_token_does_what_its_scopes_say(rest: Rest, company: Company) -> None:
    reading = bearer(rest, await token_of(company.admin, "read"))
    assert len(checked(await reading.get("/api/projects"))["items"]) == 1
    assert (await reading.post("/api/projects", json={"name": "X"})).status_code == 403
    assert (await reading.get("/api/admin/users")).status_code == 403
    writing = bearer(rest, await token_of(company.admin, "read", "write"))
    checked(await writing.post("/api/projects", json={"name": "X"}))
    assert (await writing.get("/api/admin/users")).status_code == 403
    administering = bearer(rest, await token_of(company.admin, "admin"))
    checked(await administering.get("/api/admin/users"))
    not_even_admin = bearer(rest, await token_of(company.owner, "admin"))
    assert (await not_even_admin.get("/api/admin/users")).status_code == 403


async def test_a_token_breeds_no_tokens_and_no_password(rest: Rest, company: Company) -> None:
    http = bearer(rest, await token_of(company.owner, "admin", "read", "write"))
    more = await http.post("/api/auth/tokens", json={"name": "more", "scopes": ["admin"]})
    assert more.status_code == 403
    change = {"current": PASSWORD, "new": NEW_PASSWORD}
    assert (await http.post("/api/auth/password", json=change)).status_code == 403


async def test_tokens_end(rest: Rest, company: Company) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    token = await token_of(company.owner, "read", expires_at=soon)
    http = bearer(rest, token)
    checked(await http.get("/api/auth/me"))
    await rest.rows(
        "UPDATE api_tokens SET expires_at = now() WHERE token_hash = $1", hash_token(token)
    )
    assert (await http.get("/api/auth/me")).status_code == 401

    http = bearer(rest, await token_of(company.owner, "read"))
    [mine, *_] = checked(await company.owner.get("/api/auth/tokens"))["items"]
    path = f"/api/auth/tokens/{mine['id']}"
    assert (await company.editor.delete(path)).status_code == 404, "somebody else's"
    assert (await company.admin.delete(path)).status_code == 404
    checked(await company.owner.delete(path))
    assert (await http.get("/api/auth/me")).status_code == 401
    await rest.noticed(kind="user", user_id=company.people["owner"])
    assert (await company.owner.delete(path)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": " ", "scopes": ["read"]},
        {"name": "x\ny", "scopes": ["read"]},
        {"name": "x" * 256, "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "scopes": ["read"], "expires_at": "2120-01-01T00:00:00"},
        {"name": "x", "scopes": ["read"], "user_id": "6f0f64a5-57a6-4b4c-9c1c-6c2f6a7f4b11"},
    ],
)
async def test_malformed_tokens(alpha: Company, body: dict[str, object]) -> None:
    assert (await alpha.owner.post("/api/auth/tokens", json=body)).status_code == 422


async def test_sessions_are_listed_and_ended_by_their_owner(rest: Rest, company: Company) -> None:
    other = await rest.sign_in(company.email("owner"), address="203.0.113.9")
    rows = checked(await company.owner.get("/api/auth/sessions"))["items"]
    assert [row["current"] for row in rows] == [False, True], "newest first"
    assert rows[0]["address"] == "203.0.113.9"
    path = f"/api/auth/sessions/{rows[0]['id']}"
    assert (await company.editor.delete(path)).status_code == 404
    checked(await company.owner.delete(path))
    assert (await other.get("/api/auth/me")).status_code == 401
    await rest.noticed(kind="session_ended", session_ids=[rows[0]["id"]], reason="revoked")


async def test_a_new_password_ends_the_other_sessions(rest: Rest, company: Company) -> None:
    other = await rest.sign_in(company.email("owner"))
    change = {"current": "not it", "new": NEW_PASSWORD}
    assert (await company.owner.post("/api/auth/password", json=change)).status_code == 422
    short = {"current": PASSWORD, "new": "short"}
    assert (await company.owner.post("/api/auth/password", json=short)).status_code == 422
    checked(await other.get("/api/auth/me"))
    change["current"] = PASSWORD
    checked(await company.owner.post("/api/auth/password", json=change))
    assert (await other.get("/api/auth/me")).status_code == 401
    checked(await company.owner.get("/api/auth/me"))
    old = {"email": company.email("owner"), "password": PASSWORD}
    assert (await rest.client().post("/api/auth/login", json=old)).status_code == 401
    await rest.sign_in(company.email("owner"), NEW_PASSWORD)


async def test_the_old_password_cannot_be_guessed_from_a_stolen_session(
    rest: Rest, company: Company
) -> None:
    http = await rest.sign_in(company.email("viewer"), address="203.0.113.10")
    codes = [
        (
            await http.post(
                "/api/auth/password", json={"current": f"guess {n}", "new": NEW_PASSWORD}
            )
        ).status_code
        for n in range(12)
    ]
    assert codes == [422] * 10 + [429] * 2


async def invited(company: Company, name: str = "ines") -> tuple[str, str]:
    user = checked(
        await company.admin.post(
            "/api/admin/users", json={"email": company.email(name), "name": name}
        )
    )
    assert user["has_password"] is False
    return user["id"], user["invite_url"]


async def test_an_invitation_is_taken_up_once(rest: Rest, company: Company) -> None:
    user_id, url = await invited(company)
    assert url.startswith(f"{rest.settings.public_origins or ['http://127.0.0.1:8000']}"[2:-2])
    path = f"/api/auth/invites/{url.rpartition('/')[2]}/accept"
    http = rest.client()
    empty = {"email": company.email("ines"), "password": ""}
    assert (await http.post("/api/auth/login", json=empty)).status_code == 401
    weak = await http.post(path, json={"name": "Ines", "password": "short"})
    assert weak.status_code == 422
    body = {"name": "Inés", "password": NEW_PASSWORD}
    evil = await http.post(path, json=body, headers={"origin": "https://evil.test"})
    assert evil.status_code == 403
    signed_in = checked(await http.post(path, json=body))
    assert signed_in["user"]["id"] == user_id
    assert signed_in["user"]["name"] == "Inés"
    checked(await http.get("/api/auth/me"))
    again = await rest.client().post(path, json=body | {"password": "another password"})
    assert again.status_code == 404
    await rest.sign_in(company.email("ines"), NEW_PASSWORD)


async def test_invitations_that_do_not_fit(rest: Rest, company: Company) -> None:
    user_id, url = await invited(company)
    token = url.rpartition("/")[2]
    body = {"name": "Ines", "password": NEW_PASSWORD}

    async def accept(token: str) -> int:
        answer = await rest.client().post(f"/api/auth/invites/{token}/accept", json=body)
        return answer.status_code

    assert await accept("x") == 404
    assert await accept("A" * len(token)) == 404
    assert await accept(token[:-2] + ("AA" if not token.endswith("AA") else "BB")) == 404
    assert await accept("A" * 5000) == 404
    reset = await rest.client().post(
        f"/api/auth/password-reset/{token}", json={"password": NEW_PASSWORD}
    )
    assert reset.status_code == 404, "an invitation resets nothing"
    keys = rest.app.state.edge.keys
    [row] = await rest.rows("SELECT tenant_id, id FROM users WHERE id = $1::uuid", user_id)
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired = Invite("invite", row["tenant_id"], row["id"], past, b"\0" * 16).token(keys)
    assert await accept(expired) == 404
    await rest.rows("UPDATE users SET active = false WHERE id = $1::uuid", user_id)
    assert await accept(token) == 404, "shut out meanwhile"
    await rest.rows("UPDATE users SET active = true WHERE id = $1::uuid", user_id)
    assert await accept(token) == 200


async def test_a_forgotten_password(rest: Rest, company: Company) -> None:
    http = rest.client("203.0.113.11")
    answers = [
        await http.post("/api/auth/password-reset", json={"email": email})
        for email in (company.email("viewer"), company.email("nobody"), "x@nowhere.test")
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    requests = await rest.audited(company, action="password.forgotten")
    assert {row["outcome"] for row in requests} == {"allowed", "refused"}

    user_id = company.people["viewer"]
    link = checked(await company.admin.post(f"/api/admin/users/{user_id}/link"))
    assert link["purpose"] == "reset"
    token = link["url"].rpartition("/")[2]
    path = f"/api/auth/password-reset/{token}"
    accept = await http.post(
        f"/api/auth/invites/{token}/accept", json={"name": "X", "password": NEW_PASSWORD}
    )
    assert accept.status_code == 404, "a reset is no invitation"
    checked(await http.post(path, json={"password": NEW_PASSWORD}))
    assert (await company.viewer.get("/api/auth/me")).status_code == 401, "all sessions ended"
    assert (await http.post(path, json={"password": NEW_PASSWORD})).status_code == 404
    await rest.sign_in(company.email("viewer"), NEW_PASSWORD)
    assert token not in str(await rest.audited(company))


async def test_forgotten_passwords_are_asked_for_at_a_bounded_rate(rest: Rest) -> None:
    http = rest.client("203.0.113.12")
    body = {"email": "somebody@nowhere.test"}
    codes = [
        (await http.post("/api/auth/password-reset", json=body)).status_code for _ in range(12)
    ]
    assert codes == [202] * 10 + [429] * 2
