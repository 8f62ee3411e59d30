"""Activities that do as they are told, on workers of a server that skips time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from typing_extensions import override

from workflows.housekeeping import Housekeeping
from workflows.interfaces import (
    HousekeepingActivities,
    ModelActivities,
    ToolActivities,
    TurnActivities,
)
from workflows.turn import ConversationTurn, priority, search_attributes
from workflows.types import (
    FinishInput,
    FinishResult,
    Queue,
    StepInput,
    StepResult,
    SweepResult,
    ToolCallRef,
    ToolRunInput,
    ToolRunResult,
    TurnRef,
)

TOOL_QUEUES = (Queue.TOOLS_DATABASE, Queue.TOOLS_HTTP, Queue.TOOLS_FILES, Queue.TOOLS_MCP)
QUICK = timedelta(milliseconds=20)

Act = Callable[..., Awaitable[Any]]


def a_turn(**changes: Any) -> TurnRef:
    """A turn nobody else has."""
    return TurnRef("tenant", "project", "conversation", uuid4().hex, **changes)


def a_call(queue: str = Queue.TOOLS_DATABASE, **changes: Any) -> ToolCallRef:
    """A call of a tool that is fine."""
    given = {"tool": "look_up", "deadline_seconds": 5.0, "max_attempts": 3} | changes
    return ToolCallRef(uuid4().hex, queue=queue, **given)


def asks(*calls: ToolCallRef) -> StepResult:
    """The model wants tools."""
    return StepResult("message", list(calls), answered=False)


ANSWER = StepResult("message")


async def until_stopped() -> None:
    """Run until somebody stops it, and hear of it soon."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(QUICK.total_seconds())


class ScriptedModel(ModelActivities):
    """Says what its script says, step by step; the last line again for ever.

    A line is a result, an exception, or a coroutine function of the step.
    """

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.script: list[StepResult | Exception | Act] = [ANSWER]
        self.attempts: list[tuple[int, float]] = []

    @override
    @activity.defn(name="generate_reply")
    async def generate_reply(self, step: StepInput) -> StepResult:
        info = activity.info()
        self.attempts.append((info.attempt, info.started_time.timestamp()))
        self.log.append(f"model {step.step}")
        line = self.script[min(step.step, len(self.script)) - 1]
        try:
            return await _play(line, step)
        except asyncio.CancelledError:
            self.log.append("model cancelled")
            raise


class ScriptedTools(ToolActivities):
    """Runs every call as `act` says."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.act: Exception | Act | ToolRunResult = ToolRunResult("completed")
        self.runs: list[tuple[ToolRunInput, str]] = []

    @override
    @activity.defn(name="run_tool")
    async def run_tool(self, run: ToolRunInput) -> ToolRunResult:
        self.runs.append((run, activity.info().task_queue))
        self.log.append(f"tool {run.call.tool}")
        try:
            return await _play(self.act, run)
        except asyncio.CancelledError:
            # As a target does that takes its time to be told.
            await asyncio.sleep(QUICK.total_seconds() * 5)
            self.log.append("tool cancelled")
            raise


class ScriptedTurns(TurnActivities):
    """Notes the endings; `following` and `also` say which turns wait behind which."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.act: Exception | Act | None = None
        self.settle: Exception | Act | ToolRunResult = ToolRunResult("failed")
        # Without interventions a call is as its run has left it.
        self.review: Exception | Act | ToolRunResult = ToolRunResult("executing")
        self.following: dict[str, TurnRef] = {}
        self.also: dict[str, list[TurnRef]] = {}
        self.endings: list[FinishInput] = []
        self.settled: list[ToolRunInput] = []

    @override
    @activity.defn(name="settle_tool")
    async def settle_tool(self, run: ToolRunInput) -> ToolRunResult:
        self.log.append(f"settle {run.call.tool}")
        self.settled.append(run)
        return await _play(self.settle, run)

    @override
    @activity.defn(name="review_tool")
    async def review_tool(self, run: ToolRunInput) -> ToolRunResult:
        self.log.append(f"review {run.call.tool}")
        return await _play(self.review, run)

    @override
    @activity.defn(name="finish_turn")
    async def finish_turn(self, finish: FinishInput) -> FinishResult:
        self.log.append("finish")
        self.endings.append(finish)
        if self.act is not None:
            await _play(self.act, finish)
        turn_id = finish.turn.turn_id
        return FinishResult(self.following.get(turn_id), self.also.get(turn_id, []))


class ScriptedSweep(HousekeepingActivities):
    """Returns, or raises, what it was given."""

    def __init__(self) -> None:
        self.result: SweepResult | Exception = SweepResult(1, 2, 3, 4)
        self.sweeps = 0

    @override
    @activity.defn(name="sweep")
    async def sweep(self) -> SweepResult:
        self.sweeps += 1
        return await _play(self.result)


async def _play(line: Any, *given: Any) -> Any:
    if isinstance(line, Exception):
        raise line
    return await line(*given) if callable(line) else line


@dataclass
class World:
    """Workers, and what went on in them."""

    env: WorkflowEnvironment
    runner: WorkflowRunner = field(default_factory=SandboxedWorkflowRunner)
    log: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = ScriptedModel(self.log)
        self.tools = ScriptedTools(self.log)
        self.turns = ScriptedTurns(self.log)
        self.sweep = ScriptedSweep()

    @property
    def client(self) -> Client:
        return self.env.client

    async def start(self, turn: TurnRef) -> WorkflowHandle[Any, str]:
        """Start a turn as the edge does (`store.runs`)."""
        return await self.client.start_workflow(
            ConversationTurn.run,
            turn,
            id=turn.workflow_id,
            task_queue=Queue.TURNS,
            search_attributes=search_attributes(turn),
            priority=priority(turn),
        )

    async def run(self, turn: TurnRef) -> str:
        """Run a turn to its end."""
        return await (await self.start(turn)).result()

    def handle(self, turn: TurnRef) -> WorkflowHandle[Any, str]:
        return self.client.get_workflow_handle_for(ConversationTurn.run, turn.workflow_id)

    async def exists(self, turn: TurnRef) -> None:
        """Wait until a turn's run was started."""
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.handle(turn).describe()
                except RPCError:
                    await asyncio.sleep(0.01)
                else:
                    return

    async def heard(self, what: str, times: int = 1) -> None:
        """Wait until the log has it."""
        async with asyncio.timeout(10):
            while self.log.count(what) < times:  # noqa: ASYNC110 -- it grows in other tasks
                await asyncio.sleep(0.005)

    async def completed(self, handle: WorkflowHandle[Any, str], activities: int) -> None:
        """Wait until the run knows of so many activities that they have completed."""
        async with asyncio.timeout(10):
            while True:
                history = await handle.fetch_history()
                kinds = [event.WhichOneof("attributes") for event in history.events]
                if kinds.count("activity_task_completed_event_attributes") >= activities:
                    return
                await asyncio.sleep(0.01)

    @property
    def endings(self) -> list[tuple[str, str]]:
        """Terminal states that were written, in order."""
        return [(finish.status, finish.code) for finish in self.turns.endings]

    def activities(self, queue: str) -> list[Any]:
        if queue == Queue.TURNS:
            turns = self.turns
            return [turns.finish_turn, turns.settle_tool, turns.review_tool, self.sweep.sweep]
        return [self.model.generate_reply] if queue == Queue.MODEL else [self.tools.run_tool]

    def worker(self, queue: str, cached: int) -> Worker:
        return Worker(
            self.client,
            task_queue=queue,
            workflows=[ConversationTurn, Housekeeping] if queue == Queue.TURNS else [],
            activities=self.activities(queue),
            workflow_runner=self.runner,
            max_cached_workflows=cached,
            max_heartbeat_throttle_interval=QUICK,
            default_heartbeat_throttle_interval=QUICK,
        )

    @asynccontextmanager
    async def serving(
        self, *, cached: int = 0, without: tuple[str, ...] = ()
    ) -> AsyncIterator["World"]:
        """A worker per queue. Without a cache every workflow task replays its history."""
        async with AsyncExitStack() as stack:
            for queue in Queue:
                if queue not in without:
                    await stack.enter_async_context(self.worker(queue, cached))
            yield self
