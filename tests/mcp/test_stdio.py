"""MCP servers that are processes, which only the operator can name."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from activities.tools.mcp_results import result_of
from store.mcp import session
from store.mcp.client import talk, tools_of
from store.mcp.endpoint import Endpoint
from store.mcp.errors import McpTrouble
from store.mcp.operator import Command, Commands, ConfigurationError
from store.mcp.surroundings import Surroundings


def python(*args: str, **more: Any) -> Command:
    return Command(name="it", command=sys.executable, args=args, **more)


def at(command: Command) -> Surroundings:
    return Surroundings((), Commands([command]))


IT = Endpoint("stdio:it")


@pytest.fixture
def good(tmp_path: Path) -> Command:
    return python("-m", "tests.mcp.good_server", "stdio", str(tmp_path), env={"GIVEN": "yes"})


async def call(surroundings: Surroundings, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    async def work(conversation: session.Conversation) -> dict[str, Any]:
        return result_of(await conversation.call(name, arguments))

    return await talk(IT, work, surroundings)


async def test_a_process_is_asked_and_ends(good: Command, tmp_path: Path) -> None:
    surroundings = at(good)
    assert {"add", "spend"} <= {tool.name for tool in (await tools_of(IT, surroundings)).tools}
    assert (await call(surroundings, "add", {"a": 2, "b": 3}))["structured"] == {"result": 5}
    await call(surroundings, "spend", {"what": "lamps"})
    assert (tmp_path / "done").read_text() == "spend lamps\n"


async def test_it_is_given_nothing_of_ours(good: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVERTURN_SECRET_KEYS", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "CANARY")
    found = (await call(at(good), "environment", {}))["structured"]
    assert found["GIVEN"] == "yes"
    assert "CANARY" not in json.dumps(found)


async def test_a_cancelled_call_ends_the_process(good: Command, tmp_path: Path) -> None:
    task = asyncio.create_task(call(at(good), "slow", {"seconds": 60}))
    async with asyncio.timeout(20):
        while not (tmp_path / "done").exists():  # noqa: ASYNC110 -- it is another process
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "slow ended" not in (tmp_path / "done").read_text()


FLOOD = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
JUNK = "print('hello'); input()"
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], 'w').write(str(os.getpid()))
if os.fork(): print('not JSON', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (python("-c", FLOOD), "too_large"),
        (python("-c", JUNK), "unavailable"),
        (python("-c", "pass"), "unavailable"),
        (python("-c", "import time; time.sleep(60)"), "timeout"),
        (Command(name="it", command="/nowhere/at/all"), "unavailable"),
    ],
)
async def test_bad_processes_end_as_trouble(
    command: Command, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "OPEN_SECONDS", 2.0)
    with pytest.raises(McpTrouble) as raised:
        await tools_of(IT, at(command))
    assert raised.value.code == code, raised.value.message


async def test_no_process_outlives_its_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "OPEN_SECONDS", 1.0)
    with pytest.raises(McpTrouble):
        await tools_of(IT, at(python("-c", STUBBORN, str(tmp_path / "pid"))))
    assert living(int((tmp_path / "pid").read_text())) == []


def living(group: int) -> list[str]:
    """Processes of a group that run; one that has ended may wait to be fetched by init."""
    stats = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats.append(file.read_text().rpartition(") ")[2].split())
    return [stat[0] for stat in stats if int(stat[2]) == group and stat[0] not in "ZX"]


# --- the operator's file ------------------------------------------------------------------------


def test_who_may_use_what(tmp_path: Path) -> None:
    tenant, project, other = uuid4(), uuid4(), uuid4()
    servers = [
        {"name": "all", "command": "x", "tenants": ["*"]},
        {"name": "tenant", "command": "x", "tenants": ["acme"]},
        {"name": "id", "command": "x", "tenants": [str(tenant)]},
        {"name": "project", "command": "x", "projects": [str(project)]},
        {"name": "both", "command": "x", "tenants": ["acme"], "projects": [str(project)]},
        {"name": "nobody", "command": "x"},
    ]
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"servers": servers}))
    commands = Commands.read(file)

    def names(tenant_id: Any, slug: str, project_id: Any) -> list[str]:
        return [command.name for command in commands.for_project(tenant_id, slug, project_id)]

    assert names(tenant, "acme", project) == ["all", "both", "id", "project", "tenant"]
    assert names(tenant, "acme", other) == ["all", "id", "tenant"]
    assert names(uuid4(), "else", other) == ["all"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "Invalid JSON"),
        ('{"servers": [{"name": "a b", "command": "CANARY"}]}', "servers.0.name"),
        ('{"servers": [{"name": "a", "command": "CANARY", "shell": true}]}', "servers.0.shell"),
        ('{"servers": [{"name": "a", "command": "x"}, {"name": "a", "command": "y"}]}', "one name"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "mcp.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as raised:
        Commands.read(file)
    assert "CANARY" not in str(raised.value)
