"""Conversations with MCP servers, good ones and others (M03, M06)."""

import asyncio
import json
import resource
import time
from typing import Any

import pytest

from activities.tools.bounds import CUT_MARK, MAX_STORED_BYTES, shrink
from activities.tools.mcp_results import result_of
from store.mcp import session
from store.mcp.client import talk, tools_of
from store.mcp.endpoint import Endpoint
from store.mcp.errors import McpTrouble
from store.mcp.surroundings import Surroundings
from store.texts import clean_json
from tests.mcp.conftest import GoodServer
from tests.mcp.hostile_server import FLOOD_BYTES, HostileServer, tool


async def call(
    endpoint: Endpoint, name: str, arguments: dict[str, Any], surroundings: Surroundings
) -> dict[str, Any]:
    async def work(conversation: session.Conversation) -> dict[str, Any]:
        return result_of(await conversation.call(name, arguments))

    return await talk(endpoint, work, surroundings)


async def trouble(endpoint: Endpoint, surroundings: Surroundings, name: str = "look") -> McpTrouble:
    with pytest.raises(McpTrouble) as raised:
        await call(endpoint, name, {}, surroundings)
    return raised.value


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OPEN_SECONDS", 1.0)


# --- a good server ------------------------------------------------------------------------------


async def test_tools_are_listed(good: GoodServer, surroundings: Surroundings) -> None:
    listing = await tools_of(Endpoint(good.url), surroundings)
    found = {tool.name: tool for tool in listing.tools}
    assert {"add", "spend", "slow"} <= found.keys()
    assert found["add"].description == "Adds two numbers."
    assert found["add"].hints == {"readOnlyHint": True}
    assert found["add"].input_schema["required"] == ["a", "b"]
    assert listing.dropped == []
    again = await tools_of(Endpoint(good.url), surroundings)
    assert [tool.hash for tool in again.tools] == [tool.hash for tool in listing.tools]


async def test_results_are_kept_and_described(good: GoodServer, surroundings: Surroundings) -> None:
    endpoint = Endpoint(good.url)
    added = await call(endpoint, "add", {"a": 2, "b": 3}, surroundings)
    assert added == {"text": "5", "structured": {"result": 5}}
    picture = await call(endpoint, "picture", {}, surroundings)
    assert picture["attachments"] == [{"type": "image", "mime_type": "image/png", "size": 4000}]
    assert "PNG" not in json.dumps(picture)
    document = await call(endpoint, "document", {}, surroundings)
    assert document["text"] == "See:\n\nthe text"
    assert document["attachments"] == [
        {"type": "resource", "uri": "file:///a.txt"},
        {"type": "resource", "uri": "file:///a.bin", "mime_type": "a/b", "size": 3},
    ]


async def test_the_secret_is_the_servers_alone(
    good: GoodServer, surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (good.folder / "token").write_text("CANARY-mcp")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    refused = await trouble(Endpoint(good.url), surroundings)
    assert (refused.code, refused.answered) == ("failed", True)
    assert "sign-in" in refused.message
    assert (await tools_of(Endpoint(good.url, "CANARY-mcp"), surroundings)).tools
    last = json.loads(good.headers().splitlines()[-1])
    assert last["authorization"] == "Bearer CANARY-mcp"
    assert "CANARY" not in repr(Endpoint("http://h/?key=CANARY", "CANARY-mcp"))


async def test_a_cancelled_call_is_cancelled_there(
    good: GoodServer, surroundings: Surroundings
) -> None:
    task = asyncio.create_task(call(Endpoint(good.url), "slow", {"seconds": 30}, surroundings))
    async with asyncio.timeout(10):
        await good.until("slow begun")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await good.until("slow cancelled")
    assert "slow ended" not in good.done()


async def test_progress_is_no_matter(good: GoodServer, surroundings: Surroundings) -> None:
    assert (await call(Endpoint(good.url), "slow", {"seconds": 0.5}, surroundings))[
        "text"
    ] == "at last"


async def test_a_deadline_of_the_callers_is_told_as_such(
    good: GoodServer, surroundings: Surroundings
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await call(Endpoint(good.url), "slow", {"seconds": 30}, surroundings)


# --- others -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misdeed", "code"),
    [
        ("flood", "too_large"),
        ("flood_events", "too_large"),
        ("notify_for_ever", "too_large"),
        ("comment_for_ever", "too_large"),
        ("end_of_stream", "too_large"),
        ("zip", "too_large"),
        ("junk", "failed"),
        ("html", "failed"),
        ("no_result", "failed"),
        ("disconnect", "unavailable"),
        ("break", "unavailable"),
        ("redirect", "refused"),
        ("sign_in", "failed"),
        ("error", "failed"),
    ],
)
@pytest.mark.parametrize("step", ["greet", "list", "call"])
async def test_misdeeds_end_as_trouble(
    hostile: HostileServer, surroundings: Surroundings, step: str, misdeed: str, code: str
) -> None:
    hostile.elsewhere = "http://127.0.0.1:1/mcp"
    endpoint = Endpoint(hostile.url(f"{step}/{misdeed}"), "CANARY-mcp")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    if step == "call":
        found = await trouble(endpoint, surroundings)
        assert len(hostile.calls("tools/call")) == 1
    else:
        with pytest.raises(McpTrouble) as raised:
            await tools_of(endpoint, surroundings)
        found = raised.value
    assert found.code == code, found.message
    assert time.monotonic() - began < 20
    assert hostile.sent < FLOOD_BYTES / 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 120 * 1024
    assert found.answered == (misdeed in ("redirect", "sign_in", "error"))


async def test_an_error_is_the_servers_own_words(
    hostile: HostileServer, surroundings: Surroundings
) -> None:
    found = await trouble(Endpoint(hostile.url("call/error")), surroundings)
    assert found.message == "It answered: q is no good"


@pytest.mark.parametrize("step", ["greet", "list"])
@pytest.mark.usefixtures("quick")
async def test_a_silent_server_has_so_long(
    hostile: HostileServer, surroundings: Surroundings, step: str
) -> None:
    with pytest.raises(McpTrouble) as raised:
        await tools_of(Endpoint(hostile.url(f"{step}/hang")), surroundings)
    assert raised.value.code == "timeout"


@pytest.mark.parametrize("misdeed", ["hang", "other_id"])
async def test_a_call_without_an_answer_waits_for_the_callers_deadline(
    hostile: HostileServer, surroundings: Surroundings, misdeed: str
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await call(Endpoint(hostile.url(f"call/{misdeed}")), "look", {}, surroundings)
    # It was told, and the session was closed.
    assert hostile.calls("notifications/cancelled")
    assert hostile.asked[-1][0] == "DELETE"


async def test_whoever_is_away_is_unavailable(surroundings: Surroundings) -> None:
    found = await trouble(Endpoint("http://127.0.0.1:1/mcp"), surroundings)
    assert found.code == "unavailable"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/mcp/call/none",
        "http://[::ffff:127.0.0.1]:{port}/mcp/call/none",
        "http://localhost:{port}/mcp/call/none",
        "http://169.254.169.254/mcp",
        "http://0x7f000001:{port}/mcp",
    ],
)
async def test_private_addresses_are_for_the_operator_to_allow(
    hostile: HostileServer, url: str
) -> None:
    found = await trouble(Endpoint(url.format(port=hostile.port)), Surroundings(()))
    assert found.code == "refused", found.message
    assert hostile.asked == []


async def test_the_address_that_was_judged_is_dialled(
    hostile: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere when it is looked up again."""
    loop, looked_up = asyncio.get_running_loop(), 0

    async def rebinding(host: Any, port: Any, **_: Any) -> Any:
        nonlocal looked_up
        if str(host) != "rebind.test":
            return [(2, 1, 6, "", (host, port))]
        looked_up += 1
        return [(2, 1, 6, "", ("127.0.0.1" if looked_up == 1 else "127.0.0.2", port))]

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    url = f"http://rebind.test:{hostile.port}/mcp/call/none"
    found = await trouble(Endpoint(url), Surroundings(("127.0.0.1",)))
    # The first connection went where its own look-up led; the next one was judged anew.
    assert hostile.asked[0][2]["host"] == f"rebind.test:{hostile.port}"
    assert found.code == "refused"
    assert looked_up > 1


async def test_begging_is_in_vain(hostile: HostileServer, surroundings: Surroundings) -> None:
    """M06: nothing is offered, everything asked for is refused, and the call goes on."""
    endpoint = Endpoint(hostile.url("call/beg"), "CANARY-mcp")
    assert (await call(endpoint, "look", {}, surroundings))["text"] == "seen"
    [greeting] = hostile.calls("initialize")
    assert greeting["params"]["capabilities"] == {}
    answers = [body for _, _, _, body in hostile.asked if body and "method" not in body]
    assert [answer["id"] for answer in answers] == [100, 101, 102]
    assert all("error" in answer and "result" not in answer for answer in answers)


@pytest.mark.parametrize("misdeed", ["redirect", "sign_in"])
async def test_credentials_go_nowhere_else(
    hostile: HostileServer, surroundings: Surroundings, misdeed: str
) -> None:
    """M06: neither a redirect nor a sign-in that names another place is followed."""
    async with HostileServer().running() as other:
        hostile.elsewhere = other.url()
        await trouble(Endpoint(hostile.url(f"call/{misdeed}"), "CANARY-mcp"), surroundings)
        assert other.asked == []
    for _, _, headers, _ in hostile.asked:
        assert headers["authorization"] == "Bearer CANARY-mcp"
        assert not headers.keys() & {"x-forwarded-for", "referer", "origin", "traceparent"}


async def test_lists_are_bounded(hostile: HostileServer, surroundings: Surroundings) -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        deep = {"type": "object", "properties": {"p": deep}}
    good = tool("kept")
    hostile.tools = [
        good,
        tool("kept"),
        tool("large", inputSchema={"type": "object", "description": "x" * 40_000}),
        tool("deep", inputSchema=deep),
        tool("remote", inputSchema={"type": "object", "properties": {"p": {"$ref": "http://h/s"}}}),
        tool("file", inputSchema={"type": "object", "allOf": [{"$ref": "file:///etc/passwd"}]}),
        tool("odd", inputSchema={"type": "object", "properties": {"p": {"type": 5}}}),
        tool("wordy", description="x" * 100_000),
        tool("long", description="x" * 10_000),
        tool("n" * 200),
        *(tool(f"more{number}") for number in range(100)),
    ]
    listing = await tools_of(Endpoint(hostile.url()), surroundings)
    names = [found.name for found in listing.tools]
    assert names[:3] == ["kept", "long", "more0"]
    assert len(names) == 64
    assert len(listing.tools[1].description) <= 4_096
    reasons = {item["name"][:10]: item["reason"] for item in listing.dropped}
    assert reasons.keys() == {
        "kept", "large", "deep", "remote", "file", "odd", "wordy", "n" * 10, "…",
    }  # fmt: skip
    assert "another document" in reasons["remote"]
    assert hostile.calls("tools/list")


async def test_results_can_be_stored(hostile: HostileServer, surroundings: Surroundings) -> None:
    deep: Any = 1
    for _ in range(150):
        deep = {"d": deep}
    hostile.result["structuredContent"] = {
        "large": 10**30, "most": 2**63 - 1, "text": "\0 nul", "yes": True, "deep": deep,
    }  # fmt: skip
    made = await call(Endpoint(hostile.url()), "look", {}, surroundings)
    stored = shrink(clean_json(made), MAX_STORED_BYTES)["structured"]
    assert stored["large"] == hex(10**30)
    assert (stored["most"], stored["yes"]) == (2**63 - 1, True)
    assert "\0" not in stored["text"]
    assert CUT_MARK in json.dumps(stored["deep"], ensure_ascii=False)
