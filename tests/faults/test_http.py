"""http_request in whole turns: what a kill must not double, what is refused, what stays secret."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from embedded.processes import Child
from tests.faults.scene import Scene
from tests.system import Team, checked
from tests.tools.web import Seen, Site, answer

CANARY = "CANARY-http-secret-4711"


@pytest.fixture(name="site", scope="module")
async def site_fixture(scene: Scene) -> AsyncIterator[Site]:
    """A service that counts what it is asked; rules let the tool change things there."""
    rules = [{"tool": "http_request", "policy": "allow"}]
    checked(await scene.team.admin.put("/api/admin/tool-policies", json={"items": rules}))
    async with Site("service").running() as site:
        yield site


async def datasource(team: Team, site: Site, **config: Any) -> str:
    config = {"base_url": f"{site.url}/v1", "auth": "bearer"} | config
    return await team.datasource("api", kind="http", config=config, secret=CANARY)


def call(method: str, url: str, **more: Any) -> str:
    arguments = json.dumps({"method": method, "url": url} | more, separators=(",", ":"))
    return f"#tool:http_request:{arguments} #say:done"


def hangs_once(site: Site, path: str) -> asyncio.Event:
    """The first request there is never answered; the event tells that its bytes have come."""
    came = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(3600)
        yield b""

    def page(request: Seen) -> Any:
        first = not came.is_set()
        came.set()
        return never() if first else answer({"done": request.headers.get("idempotency-key", "")})

    site.pages[path] = page
    return came


async def killed(scene: Scene, came: asyncio.Event) -> Child:
    async with asyncio.timeout(30):
        await came.wait()
    await scene.kill(scene.system.workers[0])
    return await scene.hire()


async def run(scene: Scene, question: str) -> dict[str, Any]:
    """Ask as ada; the turn's one tool execution, and the whole of what is stored of it."""
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, question)
        assert await ada.turn(turn, timeout=60) == "completed"
    shown = await scene.execution(turn)
    return dict(checked(await scene.team.ada.get(f"/api/tool-executions/{shown['id']}")))


@pytest.mark.parametrize(
    ("method", "keys", "sent", "status"),
    [
        ("POST", False, 1, "unknown"),  # N30
        ("DELETE", False, 1, "unknown"),
        ("POST", True, 2, "completed"),
        ("GET", False, 2, "completed"),
    ],
)
async def test_a_worker_dies_after_the_bytes_have_left(
    scene: Scene, site: Site, method: str, keys: bool, sent: int, status: str
) -> None:
    source = await datasource(scene.team, site, idempotency_keys=keys)
    path = f"/v1/{method}-{keys}"
    came = hangs_once(site, path)
    killing = asyncio.create_task(killed(scene, came))
    execution = await run(scene, call(method, path[3:], datasource_id=source))
    await killing
    seen = [request for request in site.seen if request.path == path]
    assert (len(seen), execution["status"]) == (sent, status)
    effects = {("POST", True): "idempotent", ("GET", False): "read"}
    assert execution["effect"] == effects.get((method, keys), "once")
    if keys:
        assert len({request.headers["idempotency-key"] for request in seen}) == 1
        assert seen[0].headers["idempotency-key"] == execution["id"]
    if status == "unknown":
        assert execution["error"]["code"] == "outcome_unknown"


async def test_refusals_are_on_record_with_their_rule(scene: Scene, site: Site) -> None:
    path = f"/api/projects/{scene.team.project_id}"
    hosts = ["127.0.0.1", "169.254.169.254", "localhost"]
    checked(await scene.team.ada.patch(path, json={"settings": {"http_allowed_hosts": hosts}}))
    connections = site.connections
    for url, rule in [
        ("http://169.254.169.254/latest/meta-data/", "address"),
        ("http://127.0.0.1/", "address"),
        (site.url, "ports"),
        ("http://10.0.0.1/", "hosts"),
        ("file:///etc/passwd", "url"),
    ]:
        execution = await run(scene, call("GET", url))
        assert execution["status"] == "failed"
        assert execution["error"]["code"] == "refused"
        assert f"rule '{rule}'" in execution["error"]["message"]
        audit = checked(await scene.team.admin.get("/api/admin/audit?limit=50"))["items"]
        [row] = [row for row in audit if row["tool_execution_id"] == execution["id"]]
        assert (row["outcome"], row["actor"]["email"]) == ("refused", f"ada@{scene.team.domain}")
        assert f"rule '{rule}'" in row["reason"]
    assert site.connections == connections


async def test_changing_needs_more_than_reading(scene: Scene, site: Site) -> None:
    """GET is allowed by default, POST asks; only rules of the tenant say otherwise."""
    rules = {"items": []}
    checked(await scene.team.admin.put("/api/admin/tool-policies", json=rules))
    source = await datasource(scene.team, site)
    try:
        site.pages["/v1/x"] = answer("read")
        assert (await run(scene, call("GET", "/x", datasource_id=source)))["status"] == "completed"
        seen = len(site.seen)
        async with scene.team.room("ada", 0) as ada:
            turn = await scene.ask(ada, call("POST", "/x", datasource_id=source))
            assert await ada.turn(turn, "awaiting_approval") == "awaiting_approval"
            execution = await scene.execution(turn)
            path = f"/api/tool-executions/{execution['id']}/decision"
            checked(await scene.team.ada.post(path, json={"decision": "deny"}))
            assert await ada.turn(turn) == "completed"
        execution = await scene.execution(turn)
        assert (execution["status"], execution["error"]["code"]) == ("failed", "denied")
        assert len(site.seen) == seen
    finally:
        rules = {"items": [{"tool": "http_request", "policy": "allow"}]}
        checked(await scene.team.admin.put("/api/admin/tool-policies", json=rules))


async def test_secrets_stay_and_odd_bodies_are_stored(scene: Scene, site: Site) -> None:
    """N32, and a target that repeats what it was sent."""
    document = {"openapi": "3", "paths": {"/odd": {"get": {"summary": "Odd things"}}}}
    site.pages["/v1/openapi.json"] = answer(document)
    source = await datasource(scene.team, site, openapi_url=f"{site.url}/v1/openapi.json")
    site.pages["/v1/odd"] = lambda seen: answer(
        b"\xef\xbb\xbf\0\xff\xfe" + seen.headers["authorization"].encode() + b"y" * 1_200_000,
        x_echo=seen.headers["authorization"],
    )
    execution = await run(scene, call("GET", "/odd", datasource_id=source))
    assert execution["status"] == "completed"
    assert execution["result"]["body"].startswith("\ufffd\ufffd\ufffd[secret]")
    assert execution["result"]["truncated"] is True
    assert len(execution["result"]["body"]) > 1_000_000
    described = await run(scene, f'#tool:describe_schema:{{"datasource_id":"{source}"}} #say:seen')
    operation = {"method": "GET", "path": "/odd", "summary": "Odd things"}
    assert described["result"]["operations"] == [operation]
    events = await scene.team.ada.get(f"/api/projects/{scene.team.project_id}/events?limit=500")
    history = await scene.system.sql("SELECT string_agg(m::text, '') FROM messages m")
    executions = await scene.system.sql("SELECT string_agg(t::text, '') FROM tool_executions t")
    logs = "\n".join(scene.system.logs)
    prompts = json.dumps([made.body for made in scene.system.model.calls])
    for text in (events.text, history[0][0], executions[0][0], logs, prompts):
        assert CANARY not in text


async def test_a_datasource_of_another_tenant_is_unknown(scene: Scene, site: Site) -> None:
    other = await scene.system.team()
    theirs = await datasource(other, site)
    seen = len(site.seen)
    texts = []
    for source in (theirs, "6f0f64a5-57a6-4b4c-9c1c-6c2f6a7f4b11"):
        for method in ("GET", "POST"):
            execution = await run(scene, call(method, "/x", datasource_id=source))
            assert (execution["status"], execution["error"]["code"]) == ("failed", "not_found")
            texts.append(execution["error"]["message"])
    assert len(set(texts)) == 1
    assert len(site.seen) == seen


async def test_a_rate_over_all_workers(scene: Scene, site: Site) -> None:
    """N36: so many a minute to one host, for the tenant as a whole."""
    limits = {"http_requests_per_minute": 3, "messages_per_minute": 100_000}
    team = await scene.system.team(**limits)
    source = await datasource(team, site)
    await scene.hire()
    scene.team = team
    site.pages["/v1/x"] = answer("ok")
    outcomes = []
    async with team.room("ada", 0) as ada:
        turns = [
            await scene.ask(ada, call("GET", "/x", datasource_id=source) + f" {n}")
            for n in range(6)
        ]
        for turn in turns:
            assert await ada.turn(turn, timeout=60) == "completed"
            outcomes.append(await scene.execution(turn))
    refused = [each["error"]["message"] for each in outcomes if each["status"] == "failed"]
    assert len(refused) == 3
    assert all("rule 'rate'" in text and "at most 3" in text for text in refused)
