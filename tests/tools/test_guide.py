"""docs/tools.md: its example is taken out of the page, installed, and called by a model."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from activities.tools.plugins import BrokenPlugin, Surroundings, with_plugins
from activities.tools.registry import Registry, default_tools
from embedded.processes import ROOT, Child
from tests.system import System, Team, checked, running
from tests.tools.world import Caller

GUIDE = (ROOT / "docs/tools.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))


def install(files: dict[str, str], folder: Path) -> Path:
    """Install a package with pip; the folder to put on PYTHONPATH."""
    source, target = folder / "source", folder / "site"
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    # pip fetches the build tool that the package names, as for anybody who installs it.
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--target", str(target), str(source)],
        check=True, cwd=folder,
    )  # fmt: skip
    return target


def fake(folder: Path, module: str, text: str, point: str = "tools") -> Path:
    """A package as pip would leave it, without the building."""
    site = folder / module
    info = site / f"{module}-2.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[everturn.tools]\n{module} = {module}:{point}\n")
    return site


@dataclass
class Words:
    """A system whose only worker has the package of the guide."""

    system: System
    team: Team

    async def ask(self, *calls: str) -> tuple[str, list[dict[str, Any]], list[str]]:
        """Calls in one turn: how it ended, its executions, what grace's room heard of them."""
        async with self.team.room("ada") as ada, self.team.room("grace") as grace:
            ack = await ada.ask(await self.team.conversation(), " ".join(calls) + " #say:done")
            turn_id = ack["data"]["turn_id"]
            status = await grace.turn(turn_id)
            heard = [
                frame["data"] for frame in grace.frames
                if frame["type"] == "tool_result" and frame["data"]["turn_id"] == turn_id
            ]  # fmt: skip
        last = {data["tool_execution_id"]: data for data in heard}
        return status, list(last.values()), [data["status"] for data in heard]


def call(name: str, **arguments: Any) -> str:
    return f"#tool:{name}:{json.dumps(arguments, separators=(',', ':'))}"


@pytest.fixture(scope="module")
async def words(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Words]:
    folder = tmp_path_factory.mktemp("words")
    site = install(FILES, folder)
    async with running(folder, edges=1, workers=0) as system:
        system.workers.append(await system.start_worker(PYTHONPATH=str(site)))
        yield Words(system, await system.team())


def test_the_guide_has_its_files() -> None:
    assert set(FILES) == {"everturn_words/__init__.py", "pyproject.toml"}


async def test_a_model_calls_the_tools_of_a_package(words: Words) -> None:
    status, results, heard = await words.ask(
        call("count_words", text="to be or not to be", word="be"),
        call("count_words", text=" "),
        call("count_words", text="a", count=1),
        call("take_note", text="buy milk"),
        call("take_note", text="my password is 12345"),
    )
    assert status == "completed"
    assert heard.count("executing") == 4
    by_outcome = [(r["status"], r["result"] or r["error"]["code"]) for r in results]
    assert sorted(map(str, by_outcome)) == sorted(
        map(
            str,
            [
                ("completed", {"words": 2}),
                ("failed", "failed"),
                ("failed", "invalid_arguments"),
                ("completed", {"noted": "buy milk"}),
                ("failed", "refused"),
            ],
        )
    )
    notes = words.system.folder / "data/notes" / words.team.tenant_id
    (note,) = notes.iterdir()
    assert note.read_text() == "buy milk\n"
    (kept,) = [r for r in results if r["result"] == {"noted": "buy milk"}]
    assert note.stem == kept["tool_execution_id"]


async def test_the_model_is_offered_them_as_declared(words: Words) -> None:
    await words.ask(call("count_words", text="offered"))
    (first, *_) = [c for c in words.system.model.calls if "offered" in c.user_text]
    offered = {t["function"]["name"]: t["function"] for t in first.body["tools"]}
    assert offered["count_words"]["parameters"] == {
        "type": "object",
        "properties": {
            "text": {"description": "The text.", "maxLength": 10_000, "type": "string"},
            "word": {"description": "Only this word; leave it out for all.", "type": "string"},
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert "database_query" in offered


async def test_what_it_declares_is_what_holds(words: Words) -> None:
    """Attempts and deadline reach the workflow; an owner's word wins over the tool's policy."""
    path = f"/api/projects/{words.team.project_id}/tool-policies"
    rules = {"items": [{"tool": "take_note", "policy": "deny"}]}
    checked(await words.team.ada.put(path, json=rules))
    _, (result,), _ = await words.ask(call("take_note", text="again"))
    checked(await words.team.ada.put(path, json={"items": []}))
    assert result["error"]["code"] == "denied"

    from temporalio.client import Client

    _, (result,), _ = await words.ask(call("take_note", text="attempts"))
    client = await Client.connect(words.system.temporal.address)
    run = client.get_workflow_handle(f"turn-{result['turn_id']}")
    (scheduled,) = [
        event.activity_task_scheduled_event_attributes
        async for event in run.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
        and event.activity_task_scheduled_event_attributes.activity_type.name == "run_tool"
    ]
    assert scheduled.retry_policy.maximum_attempts == 3
    assert scheduled.start_to_close_timeout.seconds == 20  # its deadline, and ours around it
    assert scheduled.task_queue.name == "tools-files"


def test_in_the_tree_it_is_one_line(pools: Any, tmp_path: Path, project_files) -> None:
    """The same file beside ours, and its tools behind `default_tools`."""
    file = tmp_path / "count_words.py"
    file.write_text(FILES["everturn_words/__init__.py"])
    spec = importlib.util.spec_from_file_location("count_words", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    registry = Registry([*default_tools(pools, project_files), module.CountWords()])
    assert registry.get("count_words") is not None


async def test_it_can_be_called_without_a_worker(pools: Any, tmp_path: Path) -> None:
    """As unit tests of a package would."""
    namespace: dict[str, Any] = {"__name__": "words"}
    exec(compile(FILES["everturn_words/__init__.py"], "words.py", "exec"), namespace)
    made = namespace["tools"](Surroundings(pools, tmp_path))
    caller = Caller(Registry(made), [])
    assert await caller("count_words", text="one two") == {"words": 2}


# --- packages that cannot be used --------------------------------------------------------------

TOOL = FILES["everturn_words/__init__.py"].partition("def tools")[0]
BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "lacks": ("other = 1", "AttributeError"),
    "nothing": ("tools = 5", "TypeError"),
    "strings": ("def tools():\n    return ['count_words']", "it returned str, which is no Tool"),
    "classes": (TOOL + "def tools():\n    return [CountWords]", "which is no Tool"),
    "shadows": (
        TOOL + "CountWords.name = 'database_query'\ndef tools():\n    return [CountWords()]",
        "two tools are named 'database_query'",
    ),
    "named": (
        TOOL + "CountWords.name = 'rm -rf'\ndef tools():\n    return [CountWords()]",
        "a model cannot call a tool named 'rm -rf'",
    ),
    "queues": (
        TOOL + "CountWords.queue = 'turns'\ndef tools():\n    return [CountWords()]",
        "'turns' is none of tools-",
    ),
    "caches": (
        TOOL + "CountWords.cacheable = True\ndef tools():\n    return [CountWords()]",
        "a cacheable tool has an argument datasource_id",
    ),
    "writes": (
        TOOL + "TakeNote.cacheable = True\ndef tools(s):\n    return [TakeNote(s.data_dir)]",
        "only a tool that reads is cacheable",
    ),
    "tries": (
        TOOL + "CountWords.max_attempts = 0\ndef tools():\n    return [CountWords()]",
        "max_attempts is from 1 to 100",
    ),
    "lasts": (
        TOOL + "CountWords.deadline = timedelta(days=1)\ndef tools():\n    return [CountWords()]",
        "a deadline is above 0 and at most 15 min",
    ),
    "silent": (
        TOOL + "del CountWords.effect\ndef tools():\n    return [CountWords()]",
        "does not say its effect",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named(
    name: str, pools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project_files
) -> None:
    text, why = BROKEN[name]
    monkeypatch.syspath_prepend(fake(tmp_path, f"broken_{name}", text))
    with pytest.raises(BrokenPlugin) as caught:
        with_plugins(default_tools(pools, project_files), Surroundings(pools, tmp_path))
    assert f"the plugin 'broken_{name}' (broken_{name}:tools of broken_{name} 2.0)" in str(
        caught.value
    )
    assert why in str(caught.value)


def test_without_packages_there_are_our_own(pools: Any, tmp_path: Path, project_files) -> None:
    registry = with_plugins(default_tools(pools, project_files), Surroundings(pools, tmp_path))
    assert registry.specs() == Registry(default_tools(pools, project_files)).specs()


async def test_a_worker_does_not_start_beside_a_broken_package(
    words: Words, tmp_path: Path
) -> None:
    site = fake(tmp_path, "broken_here", BROKEN["shadows"][0])
    system, heard = words.system, len(words.system.logs)
    child: Child = system._start(
        "worker", ["-m", "worker"], system.environment(PYTHONPATH=str(site))
    )
    assert await child.wait() == 2
    said = [line for line in system.logs[heard:] if "broken" in line]
    assert said[-1].startswith("worker worker: the plugin 'broken_here' (broken_here:tools of")
    assert "two tools are named 'database_query'" in said[-1]
    assert not any("Traceback" in line for line in system.logs[heard:])
