"""HTTP services as datasources: they are really asked, and their secrets stay."""

import json
from typing import Any

import pytest

from store import datasources
from tests.edge.rest_fixtures import Company, Rest, checked
from tests.tools.web import Seen, answer, redirect

CANARY = "CANARY-secret-4711"

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "/v1"}],
    "paths": {
        "/users/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {"operationId": "getUser", "summary": "One  user"},
            "put": {
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/User"}}}
                }
            },
        },
        "/users": {
            "get": {
                "parameters": [
                    {"name": "page", "in": "query", "schema": {"type": "integer"}},
                    {"name": "session", "in": "cookie"},
                ]
            }
        },
    },
    "components": {
        "parameters": {"Id": {"name": "id", "in": "path", "required": True}},
        "User": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "friends": {"type": "array", "items": {"$ref": "#/components/User"}},
            },
        },
    },
}

YAML = """
openapi: 3.0.0
paths:
  /things:
    get:
      summary: 'true'
      parameters:
        - {name: q, in: query, required: true}
"""


def path_of(company: Company) -> str:
    return f"/api/projects/{company.project_id}/datasources"


def body_of(rest: Rest, secret: str | None = CANARY, **config: Any) -> dict[str, Any]:
    config = {"base_url": f"{rest.service.url}/v1", "auth": "bearer"} | config
    return {"name": "api", "kind": "http", "config": config, "secret": secret}


@pytest.fixture(autouse=True)
def _fresh_service(rest: Rest) -> None:
    rest.service.pages.clear()
    rest.service.seen.clear()


async def test_a_service_is_asked_when_it_is_saved_and_tested(rest: Rest, company: Company) -> None:
    rest.service.pages["/v1"] = answer("hello")
    source = checked(await company.owner.post(path_of(company), json=body_of(rest)))
    (seen,) = rest.service.seen
    assert (seen.method, seen.path) == ("GET", "/v1")
    assert seen.headers["authorization"] == f"Bearer {CANARY}"
    path = f"{path_of(company)}/{source['id']}"
    tested = checked(await company.editor.post(f"{path}/test"))
    assert tested == {"ok": True, "writable": False, "grants": [], "error": None}
    assert len(rest.service.seen) == 2
    rest.service.pages["/v1"] = answer(f"no {CANARY}", 401)
    tested = checked(await company.editor.post(f"{path}/test"))
    assert tested["ok"] is False
    assert tested["error"] == {
        "code": "unavailable",
        "message": "The service refuses the secret (it answered 401).",
    }
    for who in (company.owner, company.viewer):
        assert CANARY not in (await who.get(path_of(company))).text
    assert CANARY not in str(await rest.audited(company))
    [row] = await rest.rows("SELECT * FROM datasources WHERE id = $1::uuid", source["id"])
    assert CANARY.encode() not in row["secret"]


@pytest.mark.parametrize(
    ("status", "page", "code"),
    [
        (201, answer("nothing here", 404), None),
        (201, redirect("/login"), None),
        (503, answer("no", 403), "unavailable"),
        (503, answer("no", 500), "unavailable"),
        (503, b"garbage\r\n\r\n", "unavailable"),
        (503, b"", "unavailable"),
    ],
)
async def test_what_counts_as_an_answer(
    rest: Rest, company: Company, status: int, page: bytes, code: str | None
) -> None:
    rest.service.pages["/v1"] = page
    answered = await company.owner.post(path_of(company), json=body_of(rest))
    assert answered.status_code == status, answered.text
    assert answered.json().get("code") == code
    assert CANARY not in answered.text


@pytest.mark.parametrize(
    ("secret", "config"),
    [
        (None, {"auth": "bearer"}),
        ("no-colon", {"auth": "basic"}),
        (f"{CANARY}\n", {}),
        (f"{CANARY}é", {}),
        (CANARY, {"auth": "header"}),
        (CANARY, {"auth": "bearer", "auth_header": "X-Key"}),
        (CANARY, {"auth": "header", "auth_header": "Host"}),
        (CANARY, {"auth": "header", "auth_header": "X Key"}),
        (CANARY, {"headers": {"X-A": "a\r\nb"}}),
        (CANARY, {"headers": {"Transfer-Encoding": "chunked"}}),
        (CANARY, {"openapi_url": "file:///etc/passwd"}),
        (CANARY, {"openapi_url": "/openapi.json"}),
        (CANARY, {"idempotency_keys": "yes"}),
        (CANARY, {"proxy": "http://x"}),
    ],
)
async def test_what_cannot_be_sent(
    rest: Rest, alpha: Company, secret: str | None, config: dict[str, Any]
) -> None:
    answered = await alpha.owner.post(path_of(alpha), json=body_of(rest, secret, **config))
    assert (answered.status_code, answered.json()["code"]) == (422, "invalid"), answered.text
    assert CANARY not in answered.text
    assert rest.service.seen == []


async def test_headers_are_for_owners_and_secrets_stay_where_they_were_meant_for(
    rest: Rest, company: Company
) -> None:
    body = body_of(rest, headers={"X-Key": CANARY})
    config = body["config"]
    source = checked(await company.owner.post(path_of(company), json=body))
    path = f"{path_of(company)}/{source['id']}"
    for who in (company.editor, company.viewer):
        for answered in (await who.get(path), await who.get(path_of(company))):
            assert CANARY not in answered.text
            assert "X-Key" in answered.text
    assert checked(await company.admin.get(path))["config"]["headers"] == {"X-Key": CANARY}
    for elsewhere in ("https://127.0.0.1:1/v1", f"http://localhost:{rest.service.port}/v1"):
        moved = await company.owner.patch(path, json={"config": config | {"base_url": elsewhere}})
        assert moved.status_code == 422, "another place"
    same = f"http://127.0.0.1:{rest.service.port}/v2"
    checked(await company.owner.patch(path, json={"config": config | {"base_url": same}}))
    spelled = [{"base_url": url} for url in ("https://api.test/v1", "https://API.test.:443")]
    assert len({datasources.destination("http", config) for config in spelled}) == 1


async def test_a_service_that_describes_itself(rest: Rest, company: Company) -> None:
    def described(request: Seen) -> bytes:
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        return answer(DOCUMENT)

    rest.service.pages["/v1/openapi.json"] = described
    url = f"{rest.service.url}/v1/openapi.json"
    source = checked(
        await company.owner.post(path_of(company), json=body_of(rest, openapi_url=url))
    )
    path = f"{path_of(company)}/{source['id']}"

    async def operations() -> list[dict[str, Any]]:
        query = "SELECT operations FROM datasources WHERE id = $1::uuid"
        [row] = await rest.rows(query, source["id"])
        return list(json.loads(row["operations"]))

    get, put, users = await operations()
    one = {"name": "id", "in": "path", "required": True, "type": "string"}
    assert get == {
        "method": "GET", "path": "/users/{id}", "operation": "getUser", "summary": "One user",
        "parameters": [one],
    }  # fmt: skip
    assert put["body"] == {"name*": "string", "friends": [{"name*": "string", "friends": "array"}]}
    assert [parameter["name"] for parameter in users["parameters"]] == ["page"]
    # A test reads it again; elsewhere it is asked for without the secret.
    rest.service.pages["/docs"] = lambda request: answer(
        YAML if "authorization" not in request.headers else "", kind="application/yaml"
    )
    elsewhere = body_of(rest, openapi_url=f"{rest.service.url}/docs")["config"]
    checked(await company.owner.patch(path, json={"config": elsewhere}))
    (things,) = await operations()
    assert (things["method"], things["path"], things["summary"]) == ("GET", "/things", "true")
    assert things["parameters"][0]["required"] is True
    rest.service.pages["/docs"] = answer("nothing of the kind")
    tested = checked(await company.editor.post(f"{path}/test"))
    assert (tested["ok"], tested["error"]["code"]) == (False, "invalid")
    assert await operations() == [things]


@pytest.mark.parametrize(
    "document",
    [
        "", "nothing", "[1]", "{}", '{"openapi": 3}', '{"paths": {}}', "a: &a [*a]",
        "openapi: 3\npaths: &p {}\nx: *p", "[" * 100_000, "{a: " * 100_000, "%", "\xff",
        "!!python/object/apply:os.system ['true']", b"\x00\x01", b"x" * 3_000_000,
    ],
)  # fmt: skip
async def test_documents_that_are_none(rest: Rest, alpha: Company, document: Any) -> None:
    rest.service.pages["/docs"] = answer(document)
    body = body_of(rest, openapi_url=f"{rest.service.url}/docs")
    answered = await alpha.owner.post(path_of(alpha), json=body)
    assert (answered.status_code, answered.json()["code"]) == (422, "invalid"), answered.text


async def test_a_large_document_is_bounded(rest: Rest, company: Company) -> None:
    deep: dict[str, Any] = {"type": "object", "properties": {}}
    for level in range(40):
        deep = {"type": "object", "properties": {f"p{n}": deep if n == 0 else {} for n in range(3)}}
        deep["description"] = str(level)
    loop = {"$ref": "#/loop"}
    body = {"requestBody": {"content": {"application/json": {"schema": deep}}}}
    paths: dict[str, Any] = {
        f"/p{n}": {"post": body, "get": {"parameters": [loop] * 500}} for n in range(40)
    }
    paths["/"] = loop
    rest.service.pages["/docs"] = answer({"swagger": "2.0", "paths": paths, "loop": loop})
    made = body_of(rest, openapi_url=f"{rest.service.url}/docs")
    source = checked(await company.owner.post(path_of(company), json=made))
    query = "SELECT length(operations::text) AS size FROM datasources WHERE id = $1::uuid"
    [row] = await rest.rows(query, source["id"])
    assert 1000 < row["size"] < 300_000
