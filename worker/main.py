"""Composition root of a worker process: which queues it serves, and with what."""

import asyncio
import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.conversation import ConversationActivities
from activities.housekeeping import HousekeepingSweep
from activities.model import OpenAIModel
from activities.providers.client import Client as ModelClient
from activities.tools.executor import ToolExecutor
from activities.tools.mcp import McpTools
from activities.tools.mcp_upkeep import keep_fresh
from activities.tools.plugins import Surroundings as PluginSurroundings
from activities.tools.plugins import with_plugins
from activities.tools.registry import Registry, default_tools
from activities.tools.tool import Tool
from store.bus import Publisher, Signer
from store.buses import new_publisher
from store.database import Database
from store.datasource.check import own_identity
from store.datasource.pools import Pools
from store.files.janitor import keep_tidy
from store.files.project_files import ProjectFiles
from store.mcp.operator import Commands
from store.mcp.surroundings import Surroundings
from store.places import Places
from store.runs import TurnRuns
from store.secrets import KeyRing
from store.settings import Settings
from store.temporal import connect
from worker import deployment, metrics
from workflows.housekeeping import INTERVAL, SCHEDULE_ID, Housekeeping
from workflows.turn import ConversationTurn
from workflows.types import Queue

log = structlog.get_logger(__name__)

# Running activities get this long to finish before they are handed over (docs: exit within 15 s).
GRACE = timedelta(seconds=10)
# A stop reaches an activity with the next heartbeat that is let through.
HEARTBEAT_THROTTLE = timedelta(milliseconds=500)
# How long a workflow waits for the worker that has it cached. One that died is asked in vain for as
# long, also after its activity has been run again elsewhere; one that is only busy loses its cache.
STICKY_TIMEOUT = timedelta(seconds=1)
ALL_QUEUES: tuple[Queue, ...] = tuple(Queue)
# Concurrent activities of one process, by queue.
SLOTS = {Queue.TURNS: 100, Queue.MODEL: 200}
TOOL_SLOTS = 50


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker's activities are made of."""

    settings: Settings
    client: Client
    database: Database
    publisher: Publisher
    keys: KeyRing
    registry: Registry
    files: ProjectFiles
    mcp: McpTools


async def compose(
    settings: Settings, stack: AsyncExitStack, extra_tools: Sequence[Tool[Any]] = ()
) -> Parts:
    """Open everything a worker needs; `stack` closes it.

    Args:
        extra_tools: Tools of whoever composes, beside ours and those of installed packages.

    Raises:
        BrokenPlugin: An installed package's tools cannot be used.
    """
    keys = KeyRing([key.get_secret_value() for key in settings.secret_keys])
    url = settings.database_url.get_secret_value()
    publisher = new_publisher(settings, Signer(keys))
    stack.push_async_callback(publisher.close)
    await publisher.start()
    database = Database(
        url,
        pool_size=settings.database_pool_size,
        application_name="worker",
        announce=publisher.announce,
    )
    stack.push_async_callback(database.close)
    pools = Pools(
        settings.private_hosts, settings.files_root, lambda: own_identity(settings.listen_url)
    )
    stack.push_async_callback(pools.close)
    files = ProjectFiles(database, settings.files_root)
    stack.callback(files.close)
    commands = Commands.read(settings.mcp_stdio)
    mcp = McpTools(database, keys, Surroundings(tuple(settings.private_hosts), commands))
    registry = with_plugins(
        [*default_tools(pools, files), *extra_tools],
        PluginSurroundings(pools, settings.data_dir),
        [mcp],
    )
    client = await _connected(settings)
    return Parts(settings, client, database, publisher, keys, registry, files, mcp)


async def _connected(settings: Settings) -> Client:
    delay = 0.2
    port = settings.metrics_port
    address = f"{settings.host}:{port}" if port is not None else None
    while True:
        try:
            return await connect(settings, metrics_address=address)
        except (RPCError, RuntimeError):
            log.warning("temporal_away", address=settings.temporal_address)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)


def workers(parts: Parts, queues: Sequence[Queue], stack: AsyncExitStack) -> list[Worker]:
    """One `Worker` per queue."""
    model_client = ModelClient(parts.settings)
    stack.push_async_callback(model_client.close)
    common: dict[str, Any] = {"database": parts.database, "settings": parts.settings}
    runs = TurnRuns(parts.client)
    places = Places(parts.database, runs)
    model = OpenAIModel(
        client=model_client,
        publisher=parts.publisher,
        registry=parts.registry,
        keys=parts.keys,
        places=places,
        **common,
    )
    version = deployment.config(parts.settings.build_id)
    turn = ConversationActivities(**common, successors=runs if version else None)
    tools = ToolExecutor(
        registry=parts.registry, keys=parts.keys, files=parts.files, places=places, **common
    )
    sweep = HousekeepingSweep(client=parts.client, runs=runs, **common)
    by_queue: dict[Queue, list[Any]] = {
        Queue.TURNS: [turn.finish_turn, turn.settle_tool, turn.review_tool, sweep.sweep],
        Queue.MODEL: [model.generate_reply],
    }
    return [
        Worker(
            parts.client,
            task_queue=queue,
            workflows=[ConversationTurn, Housekeeping] if queue is Queue.TURNS else [],
            # The sandbox would load the module anew for every turn, some 10 ms before its first
            # token; purity is held by import contracts, and the tests run inside the sandbox.
            workflow_runner=UnsandboxedWorkflowRunner(),
            activities=by_queue.get(queue, [tools.run_tool]),
            max_concurrent_activities=SLOTS.get(queue, TOOL_SLOTS),
            graceful_shutdown_timeout=GRACE,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            deployment_config=version,
        )
        for queue in queues
    ]


async def schedule_housekeeping(client: Client) -> None:
    """Create the housekeeping schedule, once per namespace."""
    try:
        await client.create_schedule(
            SCHEDULE_ID,
            Schedule(
                action=ScheduleActionStartWorkflow(
                    Housekeeping.run,
                    id=SCHEDULE_ID,
                    task_queue=Queue.TURNS,
                    run_timeout=timedelta(minutes=2),
                ),
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=INTERVAL)]),
                policy=SchedulePolicy(
                    overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=10)
                ),
            ),
        )
    except ScheduleAlreadyRunningError:
        return


async def run(
    settings: Settings,
    queues: Sequence[Queue],
    stop: asyncio.Event,
    extra_tools: Sequence[Tool[Any]] = (),
) -> None:
    """Serve `queues` until `stop` is set; then drain within the grace time."""
    async with AsyncExitStack() as stack:
        parts = await compose(settings, stack, extra_tools)
        if Queue.TURNS in queues:
            await schedule_housekeeping(parts.client)
        serving = workers(parts, queues, stack)
        running = [asyncio.create_task(served.run()) for served in serving]
        stopping = asyncio.create_task(_wait(stop))
        beside = [asyncio.create_task(metrics.observe(parts.client, parts.database, queues))]
        if Queue.TOOLS_FILES in queues:
            beside.append(asyncio.create_task(keep_tidy(parts.files)))
        if Queue.TOOLS_MCP in queues:
            beside.append(asyncio.create_task(keep_fresh(parts.mcp)))
        if settings.build_id and settings.promote:
            beside.append(asyncio.create_task(_promote(parts)))
        # Long-lived objects of start-up leave the collector's sight: full collections over them
        # were the likely cause of stalls near a second.
        gc.collect()
        gc.freeze()
        log.info("worker_ready", queues=",".join(queues), build_id=settings.build_id)
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        broken = [task for task in running if task.done()]
        await asyncio.gather(*(served.shutdown() for served in serving), return_exceptions=True)
        await asyncio.gather(*running, return_exceptions=True)
        for task in (stopping, *beside):
            task.cancel()
        await asyncio.gather(stopping, *beside, return_exceptions=True)
        for task in broken:
            task.result()


async def _promote(parts: Parts) -> None:
    """Make this worker's version current, however long its other queues take to be served."""
    while True:
        try:
            return await deployment.promote(parts.client, parts.settings.build_id)
        except deployment.NotPromoted as exc:
            log.warning("version_not_promoted", reason=str(exc))


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
