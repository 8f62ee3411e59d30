"""Datasources: what is refused, what is stored, what is shown."""

from typing import Any

import asyncpg
import pytest

from embedded.roles import APP, DATABASE, DEMO_DATABASE, DEMO_OWNER, DEMO_READER, SUPERUSER
from tests.edge.rest_fixtures import Company, Rest, checked

CANARY = "CANARY-secret-4711"


def config_of(rest: Rest, role: str, database: str = DEMO_DATABASE) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": rest.server.port, "database": database, "user": role}


def body_of(rest: Rest, role: str, database: str = DEMO_DATABASE, **more: Any) -> dict[str, Any]:
    password = rest.server.dsn(role, database).partition("://")[2].partition("@")[0]
    return {
        "name": "flights", "kind": "postgresql", "config": config_of(rest, role, database),
        "secret": password.partition(":")[2],
    } | more  # fmt: skip


def path_of(company: Company) -> str:
    return f"/api/projects/{company.project_id}/datasources"


@pytest.fixture(name="table", autouse=True)
async def table_fixture(rest: Rest) -> None:
    owner = await asyncpg.connect(rest.server.demo_owner_dsn)
    await owner.execute("CREATE TABLE IF NOT EXISTS flights (id int)")
    await owner.close()


async def test_a_reader_is_welcome(rest: Rest, company: Company) -> None:
    answer = await company.owner.post(path_of(company), json=body_of(rest, DEMO_READER))
    assert answer.status_code == 201, answer.text
    source = answer.json()
    assert (source["writable"], source["grants"], source["version"]) == (False, [], 1)
    assert source["has_secret"] is True
    assert source["config"] == config_of(rest, DEMO_READER) | {"ssl": "prefer"}
    secret = body_of(rest, DEMO_READER)["secret"]
    for who in (company.owner, company.viewer):
        listed = await who.get(path_of(company))
        assert secret not in listed.text
        assert "secret" not in listed.json()["items"][0]
        checked(await who.get(f"{path_of(company)}/{source['id']}"))
    [row] = await rest.rows("SELECT * FROM datasources WHERE id = $1::uuid", source["id"])
    assert secret.encode() not in row["secret"]
    assert secret not in str(await rest.audited(company))
    tested = checked(await company.editor.post(f"{path_of(company)}/{source['id']}/test"))
    assert tested == {"ok": True, "writable": False, "grants": [], "error": None}


async def test_a_writer_is_pointed_out(rest: Rest, company: Company) -> None:
    source = checked(await company.owner.post(path_of(company), json=body_of(rest, DEMO_OWNER)))
    assert source["writable"] is True
    assert any("flights" in grant for grant in source["grants"])


async def test_our_own_database_and_superusers_are_refused(rest: Rest, company: Company) -> None:
    for body, code in [
        (body_of(rest, SUPERUSER), "role_too_powerful"),
        (body_of(rest, APP, DATABASE), "own_database"),
    ]:
        answer = await company.owner.post(path_of(company), json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == code
    reasons = [row["reason"] for row in await rest.audited(company, outcome="refused")]
    assert reasons == ["own_database", "role_too_powerful"]
    assert checked(await company.owner.get(path_of(company)))["items"] == []


MYSQL = {"host": "127.0.0.1", "port": 1, "database": "shop", "user": "reader"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"kind": "oracle"}, 422, "invalid"),
        ({"kind": "mysql", "config": {**MYSQL, "database": "mysql"}}, 422, "invalid"),
        ({"kind": "mysql", "config": {**MYSQL, "host": "10.0.0.1"}}, 422, "refused"),
        ({"kind": "mysql", "config": MYSQL}, 503, "unavailable"),
        ({"config": {}}, 422, "invalid"),
        ({"config": {"password": CANARY}}, 422, "invalid"),
        ({"config": {"host": "169.254.169.254"}}, 422, "refused"),
        ({"config": {"host": "10.0.0.1"}}, 422, "refused"),
        ({"config": {"host": "/var/run"}}, 422, "invalid"),
        ({"config": {"host": "a,b"}}, 422, "invalid"),
        ({"config": {"port": 0}}, 422, "invalid"),
        ({"config": {"port": "5432"}}, 422, "invalid"),
        ({"config": {"port": 1}}, 503, "unavailable"),
        ({"config": {"database": "a\0b"}}, 422, "invalid"),
        ({"config": {"user": "x" * 64}}, 422, "invalid"),
        ({"config": {"ssl": "maybe"}}, 422, "invalid"),
        ({"secret": CANARY}, 503, "unavailable"),
        ({"secret": "a\0b"}, 422, "invalid"),
        ({"secret": "x" * 9000}, 422, "invalid"),
        ({"name": ""}, 422, "invalid"),
        ({"name": "a\nb"}, 422, "invalid"),
        ({"writable": False}, 422, "invalid"),
        ({"project_id": "6f0f64a5-57a6-4b4c-9c1c-6c2f6a7f4b11"}, 422, "invalid"),
        ({"kind": "sqlite", "config": {"path": "../../etc/passwd"}}, 422, "invalid"),
        ({"kind": "sqlite", "config": {"path": "missing.db"}}, 422, "invalid"),
        ({"kind": "duckdb", "config": {"path": "../../etc/*.csv"}}, 422, "invalid"),
        ({"kind": "duckdb", "config": {"path": "missing.csv"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "file:///etc/passwd"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": f"https://u:{CANARY}@x.test"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "https://"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "https://[x"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "https://x.test:0"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "https://x.test:99999"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "https://x.test/?a=b"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "https://x.test/a%2fb"}}, 422, "invalid"),
        ({"kind": "http", "config": {"base_url": "http://10.0.0.1/"}}, 422, "refused"),
        ({"kind": "http", "config": {"base_url": "http://169.254.169.254/"}}, 422, "refused"),
        ({"kind": "http", "config": {"base_url": "http://no-such.invalid/"}}, 503, "unavailable"),
    ],
)
async def test_what_cannot_be_one(
    rest: Rest, alpha: Company, body: dict[str, Any], status: int, code: str
) -> None:
    whole = body_of(rest, DEMO_READER)
    if body.get("kind", "postgresql") == "postgresql" and body.get("config"):
        body = {**body, "config": whole["config"] | body["config"]}
    answer = await alpha.owner.post(path_of(alpha), json=whole | body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert CANARY not in answer.text
    assert whole["secret"] not in answer.text
    assert checked(await alpha.owner.get(path_of(alpha)))["items"] == []


async def test_names_are_unique_in_a_project(rest: Rest, company: Company) -> None:
    first = checked(await company.owner.post(path_of(company), json=body_of(rest, DEMO_READER)))
    again = await company.owner.post(path_of(company), json=body_of(rest, DEMO_READER))
    assert again.status_code == 409
    other = checked(
        await company.owner.post(path_of(company), json=body_of(rest, DEMO_READER, name="other"))
    )
    path = f"{path_of(company)}/{other['id']}"
    assert (await company.owner.patch(path, json={"name": "flights"})).status_code == 409
    renamed = checked(await company.owner.patch(path, json={"name": "planes"}))
    assert (renamed["name"], renamed["version"]) == ("planes", 1)
    checked(await company.owner.delete(f"{path_of(company)}/{first['id']}"))
    left = checked(await company.owner.get(path_of(company)))["items"]
    assert [row["name"] for row in left] == ["planes"]


async def test_a_secret_does_not_follow_to_another_host(rest: Rest, company: Company) -> None:
    source = checked(await company.owner.post(path_of(company), json=body_of(rest, DEMO_READER)))
    path = f"{path_of(company)}/{source['id']}"
    config = config_of(rest, DEMO_READER)
    for elsewhere in ({"host": "attacker.test"}, {"port": 1}):
        answer = await company.owner.patch(path, json={"config": config | elsewhere})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "secret"
    assert checked(await company.owner.get(path))["config"]["host"] == "127.0.0.1"
    same = checked(await company.owner.patch(path, json={"config": config | {"ssl": False}}))
    assert (same["version"], same["config"]["ssl"], same["has_secret"]) == (2, "disable", True)
    owner = body_of(rest, DEMO_OWNER)
    changed = {"config": owner["config"], "secret": owner["secret"]}
    writing = checked(await company.owner.patch(path, json=changed))
    assert (writing["version"], writing["writable"]) == (3, True)
    too_much = body_of(rest, SUPERUSER)
    refused = await company.owner.patch(
        path, json={"config": too_much["config"], "secret": too_much["secret"]}
    )
    assert refused.json()["code"] == "role_too_powerful"
    assert checked(await company.owner.get(path)) == writing


async def test_a_test_says_what_is_wrong(rest: Rest, company: Company) -> None:
    source = checked(await company.owner.post(path_of(company), json=body_of(rest, DEMO_READER)))
    path = f"{path_of(company)}/{source['id']}"
    await rest.rows(
        "UPDATE datasources SET config = config || '{\"port\": 1}' WHERE id = $1::uuid",
        source["id"],
    )
    answer = checked(await company.editor.post(f"{path}/test"))
    assert answer["ok"] is False
    assert answer["error"]["code"] == "unavailable"
    assert "127.0.0.1" not in str(answer)
    await rest.rows("UPDATE datasources SET secret = '\\x00' WHERE id = $1::uuid", source["id"])
    answer = checked(await company.editor.post(f"{path}/test"))
    assert answer["error"]["code"] == "invalid"
