"""Signing in and out, and what keeps others from doing it in one's place."""

import asyncio
from typing import Any

import httpx
import pytest

from store.secrets import hash_token
from tests.edge.rest_fixtures import PASSWORD, Company, Rest, checked, serving, settings_for


def credentials(email: str, password: str = PASSWORD) -> dict[str, str]:
    return {"email": email, "password": password}


async def test_sign_in_says_who_and_where(rest: Rest, alpha: Company) -> None:
    http = rest.client()
    answer = await http.post(
        "/api/auth/login", json=credentials(f" {alpha.email('owner').upper()}")
    )
    assert checked(answer)["user"]["email"] == alpha.email("owner")
    assert answer.json()["tenant"]["id"] == alpha.id
    assert answer.headers["cache-control"] == "no-store"
    assert checked(await http.get("/api/auth/me")) == answer.json()


async def test_wrong_password_and_unknown_user_look_the_same(rest: Rest, company: Company) -> None:
    http = rest.client("198.51.100.20")
    for email, password in [
        (company.email("viewer"), "wrong password"),
        (company.email("nobody"), PASSWORD),
        ("nobody@nowhere.test", PASSWORD),
        ("not an address", PASSWORD),
    ]:
        answer = await http.post("/api/auth/login", json=credentials(email, password))
        assert answer.status_code == 401
        assert answer.json()["detail"] == "The e-mail address or the password is wrong."
        assert "set-cookie" not in answer.headers
    failures = await rest.audited(company, action="session.begin", outcome="refused")
    assert {(row["actor"]["email"], row["reason"]) for row in failures} == {
        (company.email("viewer"), "wrong_credentials"),
        (company.email("nobody"), "wrong_credentials"),
    }
    assert PASSWORD not in str(failures)


async def test_the_host_name_decides_before_the_address(
    rest: Rest, alpha: Company, beta: Company
) -> None:
    http = rest.client("198.51.100.21")
    at = {"host": f"{beta.domain}:8000"}
    wrong = await http.post("/api/auth/login", json=credentials(alpha.email("owner")), headers=at)
    assert wrong.status_code == 401, "alpha's people are not at beta's host"
    right = await http.post("/api/auth/login", json=credentials(beta.email("owner")), headers=at)
    assert checked(right)["tenant"]["id"] == beta.id
    for host in ("[half", "a\u00ff.test", ""):
        odd = await http.post(
            "/api/auth/login",
            json=credentials(alpha.email("owner")),
            headers=[(b"host", host.encode("latin-1"))],
        )
        assert odd.status_code in (200, 400), odd.text


# R06
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"origin": "https://evil.test", "content-type": "text/plain"}, True),
        ({"origin": "https://evil.test", "content-type": "application/json"}, True),
        ({"origin": "null", "content-type": "application/json"}, True),
        ({"origin": "http://127.0.0.1:8000.evil.test", "content-type": "application/json"}, True),
        ({"content-type": "text/plain"}, True),
        ({"content-type": "application/x-www-form-urlencoded"}, True),
        ({"content-type": "multipart/form-data; boundary=x"}, True),
        ({"sec-fetch-site": "cross-site", "content-type": "application/json"}, True),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
async def test_another_sites_page_gets_nowhere_with_the_cookie(
    rest: Rest, alpha: Company, headers: dict[str, str], body: bool
) -> None:
    content = b'{"name": "Mine now"}' if body else b""
    posted = await alpha.owner.post("/api/projects", content=content, headers=headers)
    assert posted.status_code == 403, posted.text
    login = await rest.client().post(
        "/api/auth/login",
        content=httpx.Request("POST", "http://x", json=credentials(alpha.email("owner"))).content,
        headers=headers,
    )
    assert login.status_code == 403, login.text
    assert "set-cookie" not in login.headers
    out = await alpha.owner.post("/api/auth/logout", content=content, headers=headers)
    assert out.status_code == 403
    assert checked(await alpha.owner.get("/api/auth/me"))


async def test_our_own_page_does(rest: Rest, alpha: Company) -> None:
    http = rest.client()
    ours = {"origin": rest.origin, "sec-fetch-site": "same-origin"}
    checked(
        await http.post("/api/auth/login", json=credentials(alpha.email("editor")), headers=ours)
    )
    checked(await http.post("/api/auth/ws-ticket", headers=ours))
    checked(await http.post("/api/auth/logout", headers=ours))


# R08
async def test_guessing_is_slowed_down_and_locks_nobody_out(rest: Rest, company: Company) -> None:
    guesser = rest.client("203.0.113.66")

    async def guess(password: str) -> httpx.Response:
        body = credentials(company.email("owner"), password)
        return await guesser.post("/api/auth/login", json=body)

    one_by_one = [(await guess(f"guess {n}")).status_code for n in range(12)]
    assert one_by_one == [401] * 10 + [429] * 2
    right = await guess(PASSWORD)
    assert right.status_code == 429, "not even the right one tells"
    assert 1 <= int(right.headers["retry-after"]) <= 60
    assert right.json()["code"] == "rate_limited"
    await rest.sign_in(company.email("owner"), address="203.0.113.67")


async def test_guessing_all_at_once_gains_nothing(rest: Rest, company: Company) -> None:
    guesser = rest.client("203.0.113.68")
    body = credentials(company.email("editor"), "wrong password")
    answers = await asyncio.gather(*(guesser.post("/api/auth/login", json=body) for _ in range(30)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(401) <= 11
    assert set(codes) == {401, 429}


# R18
async def test_sign_in_keeps_no_cookie_from_before(rest: Rest, alpha: Company) -> None:
    http = rest.client()
    http.cookies.set("everturn", "evs_chosen-by-somebody-else", domain="127.0.0.1")
    checked(await http.post("/api/auth/login", json=credentials(alpha.email("viewer"))))
    first = session_cookie(http)
    assert first != "evs_chosen-by-somebody-else"
    checked(await http.post("/api/auth/login", json=credentials(alpha.email("viewer"))))
    second = session_cookie(http)
    assert second != first
    assert (await with_cookie(rest, first)).status_code == 401, "the session before has ended"
    assert (await with_cookie(rest, second)).status_code == 200
    checked(await http.post("/api/auth/logout"))
    assert (await with_cookie(rest, second)).status_code == 401, "on the server, too"
    assert "everturn" not in http.cookies
    assert (await http.post("/api/auth/logout")).status_code == 204, "twice does no harm"


async def test_sign_out_is_announced(rest: Rest, alpha: Company) -> None:
    http = await rest.sign_in(alpha.email("viewer"))
    sessions = checked(await http.get("/api/auth/sessions"))["items"]
    own = next(row["id"] for row in sessions if row["current"])
    checked(await http.post("/api/auth/logout"))
    await rest.noticed(kind="session_ended", session_ids=[own], reason="logout")


def session_cookie(http: httpx.AsyncClient, name: str = "everturn") -> str:
    return next(cookie.value or "" for cookie in http.cookies.jar if cookie.name == name)


async def with_cookie(rest: Rest, value: str) -> httpx.Response:
    return await rest.client().get("/api/auth/me", headers={"cookie": f"everturn={value}"})


# R24
async def test_the_cookie_over_https(rest: Rest, alpha: Company, tmp_path: Any) -> None:
    origin = "https://chat.test"
    settings = settings_for(rest.server, tmp_path, public_origins=[origin])
    async with serving(rest.server, settings, origin) as https:
        answer = await https.client().post(
            "/api/auth/login", json=credentials(alpha.email("owner"))
        )
        name_and_value, *attributes = answer.headers["set-cookie"].split("; ")
        assert name_and_value.startswith("__Host-everturn=evs_")
        assert {a.lower() for a in attributes} >= {"httponly", "secure", "samesite=lax", "path=/"}
        assert not any(a.lower().startswith("domain") for a in attributes)
        assert "max-age=31536000" in answer.headers["strict-transport-security"]
        http = https.client()
        http.headers["cookie"] = name_and_value
        checked(await http.get("/api/auth/me"))
        out = await http.post("/api/auth/logout")
        assert "__Host-everturn=" in out.headers["set-cookie"]
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert (await http.get("/api/auth/me")).status_code == 401


async def test_the_cookie_over_http(rest: Rest, alpha: Company) -> None:
    answer = await rest.client().post("/api/auth/login", json=credentials(alpha.email("owner")))
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert cookie.startswith("everturn=")


async def test_only_the_hash_of_a_session_is_stored(rest: Rest, alpha: Company) -> None:
    http = await rest.sign_in(alpha.email("viewer"))
    token = session_cookie(http)
    rows = await rest.rows("SELECT * FROM sessions WHERE token_hash = $1", hash_token(token))
    assert len(rows) == 1
    assert token not in str(rows)


async def test_a_ticket_is_short_lived_and_hashed(rest: Rest, alpha: Company) -> None:
    answer = checked(await alpha.viewer.post("/api/auth/ws-ticket"))
    assert answer["expires_in"] == 30
    [row] = await rest.rows(
        "SELECT *, expires_at - now() AS left FROM socket_tickets WHERE token_hash = $1",
        hash_token(answer["ticket"]),
    )
    assert 25 < row["left"].total_seconds() <= 30
    assert str(row["session_id"]), "it ends with the session"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@b.test"},
        {"email": "a@b.test", "password": "x", "role": "admin"},
        {"email": "a" * 321, "password": "x"},
        {"email": "a@b.test", "password": "x" * 1025},
        {"email": "a\0@b.test", "password": "x"},
        {"email": "a@b.test", "password": "x\0"},
        {"email": ["a@b.test"], "password": "x"},
    ],
)
async def test_malformed_sign_ins(rest: Rest, body: dict[str, Any]) -> None:
    answer = await rest.client().post("/api/auth/login", json=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_half_characters_are_refused_and_not_echoed(rest: Rest, alpha: Company) -> None:
    for content in (
        b'{"email": "\\ud800@x.test", "password": "x"}',
        b'{"\\ud800": 1, "email": "a@x.test", "password": "x"}',
    ):
        answer = await rest.client().post(
            "/api/auth/login", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
