"""A Temporal server that skips time and a world of scripted activities, for each test."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.common import RetryPolicy
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.workflows.world import World
from workflows import policies
from workflows.turn import SEARCH_ATTRIBUTES
from workflows.types import Queue


@cache
def quiet() -> Runtime:
    """The SDK's core for all servers: silent, and without a pulse that outlives them."""
    logging = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    return Runtime(telemetry=TelemetryConfig(logging=logging), worker_heartbeat_interval=None)


@asynccontextmanager
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    program = Path(sys.executable).with_name("temporal-test-server")
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(program), runtime=quiet()
    ) as env:
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await env.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=env.client.namespace,
                search_attributes={key.name: keyword for key in SEARCH_ATTRIBUTES},
            )
        )
        yield env


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """One per test: an activity that never reports keeps its server from skipping."""
    async with skipping_server() as env:
        yield env


@pytest.fixture(params=[0, 100], ids=["replaying", "cached"])
async def world(
    skipping: WorkflowEnvironment, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Each test runs twice: once with every workflow task replayed from its history."""
    async with World(skipping).serving(cached=request.param) as world:
        yield world


@pytest.fixture
async def hasty(
    skipping: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Real seconds where the server does not skip: while an activity runs, or waits for a worker.

    Without the sandbox, because that gives every workflow policies of its own.
    """
    monkeypatch.setattr(policies, "HEARTBEAT_TIMEOUT", timedelta(milliseconds=300))
    monkeypatch.setattr(
        policies,
        "MODEL_RETRY",
        RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=3),
    )
    monkeypatch.setattr(policies, "TOOL_RETRY_INTERVAL", timedelta(milliseconds=20))
    world = World(skipping, runner=UnsandboxedWorkflowRunner())
    async with world.serving(without=(Queue.TOOLS_MCP,)):
        yield world
