"""What must hold for every workflow and activity, read from the code itself."""

import ast
import inspect
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

import worker.main
from activities.tools.registry import Registry
from store.secrets import KeyRing
from store.settings import Settings
from workflows import interfaces, policies
from workflows.housekeeping import Housekeeping
from workflows.turn import ConversationTurn
from workflows.types import Queue

ROOT = Path(worker.main.__file__).parents[1]
SOURCES = sorted((ROOT / "workflows").glob("*.py"))
STARTS = re.compile(r"(execute|start)_(local_)?activity(_\w+)?$")


def calls(path: Path) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = (
                node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            )
            yield name, {keyword.arg or "": keyword.value for keyword in node.keywords}


def test_every_activity_has_a_timeout_a_queue_and_a_retry_policy() -> None:
    found = 0
    for path in SOURCES:
        for name, given in calls(path):
            if STARTS.search(name):
                found += 1
                assert "start_to_close_timeout" in given, path
                assert {"task_queue", "retry_policy", "summary"} <= given.keys(), path
    assert found == 5


def test_no_activity_or_child_is_started_in_another_way() -> None:
    """The check above reads calls by their names: a renamed import or `getattr` would hide one."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("temporalio"):
                for alias in node.names:
                    assert not STARTS.search(alias.name), f"{path.name}: call it by its module"
                    assert alias.asname is None, f"{path.name}: {alias.asname}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "partial"}:
                raise AssertionError(f"{path.name}: {ast.unparse(node)}")
            # Passed on without being called, or with its arguments in a dictionary.
            if isinstance(node, ast.Call):
                for given in (*node.args, *(keyword.value for keyword in node.keywords)):
                    assert not (isinstance(given, ast.Attribute) and STARTS.search(given.attr)), (
                        ast.unparse(node)
                    )
                if isinstance(node.func, ast.Attribute) and STARTS.search(node.func.attr):
                    assert all(keyword.arg for keyword in node.keywords), ast.unparse(node)


def test_timeouts_are_never_none_and_runs_end_by_the_servers_word() -> None:
    limits = {"start_to_close_timeout", "retry_policy", "run_timeout", "heartbeat_timeout"}
    for path in (*SOURCES, ROOT / "store" / "runs.py", ROOT / "worker" / "main.py"):
        for name, given in calls(path):
            for limit in limits & given.keys():
                assert ast.unparse(given[limit]) != "None", f"{path.name}: {name} {limit}"
            if name in {"start_workflow", "start_child_workflow", "ScheduleActionStartWorkflow"}:
                assert "run_timeout" in given, f"{path.name}: {name}"
    for name, value in vars(policies).items():
        if isinstance(value, timedelta):
            assert timedelta() < value < timedelta(hours=1), name


def test_every_retry_policy_has_a_maximum_of_attempts() -> None:
    """0, the default, would mean for ever."""
    bounds = {
        "call.max_attempts": policies.TOOL_MAX_ATTEMPTS,
    }
    found = 0
    for path in SOURCES:
        for name, given in calls(path):
            if name == "RetryPolicy":
                found += 1
                most = given["maximum_attempts"]
                value = most.value if isinstance(most, ast.Constant) else bounds[ast.unparse(most)]
                assert isinstance(value, int), path
                assert value >= 1, path
    assert found >= 4
    for value in vars(policies).values():
        if isinstance(value, RetryPolicy):
            assert value.maximum_attempts >= 1


def test_attempts_to_write_an_ending_go_on_for_half_an_hour_and_no_longer_than_an_hour() -> None:
    policy = policies.FINISH_RETRY
    wait, waited = policy.initial_interval, timedelta()
    assert policy.maximum_interval is not None
    for _ in range(policy.maximum_attempts - 1):
        waited += wait
        wait = min(wait * policy.backoff_coefficient, policy.maximum_interval)
    assert timedelta(minutes=29) < waited < timedelta(hours=1)


def test_a_lost_worker_is_noticed_within_ten_seconds() -> None:
    assert timedelta(seconds=10) >= policies.HEARTBEAT_TIMEOUT
    assert worker.main.HEARTBEAT_THROTTLE <= policies.HEARTBEAT_TIMEOUT / 10


@pytest.mark.parametrize("defined", [ConversationTurn, Housekeeping])
async def test_workflows_pass_the_sandbox(defined: type) -> None:
    definition = workflow._Definition.must_from_class(defined)
    SandboxedWorkflowRunner().prepare_workflow(definition)
    assert definition.sandboxed
    assert definition.name == defined.__name__


# --- registration -------------------------------------------------------------------------------


def declared() -> dict[str, tuple[type, Any]]:
    """Activities by name: the interface that asks for each, and its method."""
    found: dict[str, tuple[type, Any]] = {}
    for _, interface in inspect.getmembers(interfaces, inspect.isclass):
        if interface.__module__ == interfaces.__name__:
            for _, method in inspect.getmembers(interface, inspect.isfunction):
                name = activity._Definition.must_from_callable(method).name
                assert name is not None
                found[name] = (interface, method)
    return found


@pytest.fixture
async def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What `worker.main` puts on each queue."""
    seen: dict[str, dict[str, Any]] = {}

    def note(_client: object, **given: Any) -> None:
        seen[given["task_queue"]] = given

    monkeypatch.setattr(worker.main, "Worker", note)
    nothing: Any = object()
    parts = worker.main.Parts(
        settings=Settings(_env_file=None),  # type: ignore[call-arg]
        client=nothing,
        database=nothing,
        publisher=nothing,
        keys=KeyRing(["c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0="]),
        registry=Registry([]),
        files=nothing,
    )
    async with AsyncExitStack() as stack:
        worker.main.workers(parts, worker.main.ALL_QUEUES, stack)
    return seen


def documented_queues() -> set[str]:
    text = (ROOT / "docs" / "protocol.md").read_text()
    table = text.split("## 5. Task queues")[1].split("\n\n")[1]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z-]+)`", row)}


def queues_of(interface: type) -> set[str]:
    """Queues an interface's docstring names; ``tools-*`` stands for all of them."""
    names = re.findall(r"``([a-z*-]+)``", interface.__doc__ or "")
    return {
        str(queue)
        for queue in Queue
        for name in names
        if re.fullmatch(name.replace("*", ".*"), queue)
    }


def test_every_documented_queue_is_served_and_no_other(
    registered: dict[str, dict[str, Any]],
) -> None:
    assert registered.keys() == documented_queues() == {str(queue) for queue in Queue}


def test_every_activity_is_registered_where_its_interface_says(
    registered: dict[str, dict[str, Any]],
) -> None:
    where: dict[str, set[str]] = {}
    for queue, given in registered.items():
        for done in given["activities"]:
            definition = activity._Definition.must_from_callable(done)
            where.setdefault(definition.name or "", set()).add(queue)
            interface, method = declared()[definition.name or ""]
            assert isinstance(done.__self__, interface)
            assert get_type_hints(done) == get_type_hints(method)
    assert where == {name: queues_of(interface) for name, (interface, _) in declared().items()}


def test_workflows_are_registered_on_the_queue_of_turns(
    registered: dict[str, dict[str, Any]],
) -> None:
    assert {
        queue: given["workflows"] for queue, given in registered.items() if given["workflows"]
    } == {"turns": [ConversationTurn, Housekeeping]}


def test_a_stop_is_heard_within_a_second(registered: dict[str, dict[str, Any]]) -> None:
    for given in registered.values():
        assert given["max_heartbeat_throttle_interval"] <= timedelta(seconds=1)
        assert given["default_heartbeat_throttle_interval"] <= timedelta(seconds=1)
