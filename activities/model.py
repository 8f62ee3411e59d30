"""The model step: one streamed answer, shown live, stored once.

Retries are Temporal's: every attempt opens a new epoch, and text of two attempts never meets.
What a provider's API looks like is `activities.providers`' business.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError
from typing_extensions import override

from activities.answer import Answer
from activities.attempt import Attempt, Patience, superseded
from activities.calls import calls_of
from activities.endpoint import Endpoint, Endpoints
from activities.errors import Trouble, foreseen, textless
from activities.heartbeat import beating
from activities.providers.chat_completions import ChatCompletions
from activities.providers.client import Client
from activities.providers.provider import Provider
from activities.providers.responses import Responses
from activities.streaming import StreamingText
from activities.tools.datasources import ProjectDatasources
from activities.tools.registry import Registry, Toolbox
from store import steering, steps
from store.bus import Publisher, room_channel
from store.database import Database
from store.fault_points import reach
from store.places import Places
from store.secrets import KeyRing
from store.settings import Settings
from store.shapes import TemporalLinks
from store.steps import BROKEN_CALLS, BegunStep
from store.tables import ToolExecution
from store.tool_executions import of_messages
from workflows import policies
from workflows.interfaces import ModelActivities
from workflows.types import Queue, StepInput, StepResult, ToolCallRef, ToolStatus, TurnCode

log = structlog.get_logger(__name__)

# How often in a turn a model is told that its tool calls cannot be read.
MAX_BROKEN_STEPS = 2
GONE_DEADLINE = timedelta(seconds=10)
STOPPED = StepResult("", answered=False, stopped=True)
BROKEN_TEXT = (
    "The model's tool calls could not be read, although it was told so twice."
    " Ask again, in other words if you can."
)


class OpenAIModel(ModelActivities):
    """Calls an OpenAI-compatible server for `generate_reply`.

    Args:
        client: Shares its connections; address and key are set per tenant.
        registry: Where the tools come from that the model is offered.
        places: Gives away the place of a turn that waits for people; else housekeeping does.
    """

    def __init__(
        self,
        *,
        client: Client,
        database: Database,
        publisher: Publisher,
        registry: Registry,
        keys: KeyRing,
        settings: Settings,
        places: Places | None = None,
    ) -> None:
        self._client = client
        self._database = database
        self._publisher = publisher
        self._registry = registry
        self._keys = keys
        self._settings = settings
        self._endpoints = Endpoints(keys, settings)
        self._links = TemporalLinks(settings.temporal_ui_base, settings.temporal_namespace)
        self._without_background: set[str] = set()
        self._places = places

    @override
    @activity.defn(name="generate_reply")
    async def generate_reply(self, step: StepInput) -> StepResult:
        async with textless(), beating():
            async with self._database.tenant_session(step.turn.tenant_id) as session:
                begun = await steps.begin(session, step)
                toolbox: Toolbox = self._registry
                if begun is not None and not begun.stop:
                    toolbox = await self._registry.for_project(session, begun.turn.project_id)
            if begun is None or begun.stop:
                return STOPPED
            if begun.settled:
                return await self._stored(begun, toolbox)
            try:
                endpoint = self._endpoints.choose(begun.config, begun.turn.tenant_id)
            except Trouble as trouble:
                raise await self._report(begun, trouble) from None
            return await self._attempt(begun, endpoint, toolbox)

    async def _attempt(self, begun: BegunStep, endpoint: Endpoint, toolbox: Toolbox) -> StepResult:
        channel = room_channel(begun.turn.project_id)

        async def publish(frame: bytes) -> None:
            await self._publisher.publish(channel, frame)

        text = StreamingText(
            begun.message, begun.turn.id, begun.turn.project_id, publish, self._database
        )
        attempt = Attempt(
            begun,
            self._provider(begun, endpoint),
            text,
            tools=toolbox.specs(),
            patience=Patience.of(self._settings),
            database=self._database,
        )
        async with text.running():
            try:
                answer = await attempt.run()
                await text.drain()
                reach("K5")
            except Trouble as trouble:
                error = await self._report(begun, trouble, attempt)
                if error.non_retryable:
                    await attempt.abandon()
                raise error from None
            except asyncio.CancelledError:
                if _stopped_by_people():
                    # What people have been shown and what is kept are the same text.
                    await text.drain()
                    await self._store(
                        begun, endpoint, toolbox, attempt.answer, text.text, stopped=True
                    )
                    await attempt.abandon()
                raise
        if answer.truncated:
            await attempt.abandon()
        result = await self._store(begun, endpoint, toolbox, answer, text.text)
        reach("K10")
        if self._places and any(call.asks for call in result.tool_calls):
            await self._places.give(begun.turn.tenant_id)
        return result

    def _provider(self, begun: BegunStep, endpoint: Endpoint) -> Provider:
        if endpoint.kind == "responses":
            return Responses(self._client, endpoint, self._without_background, begun.generation)
        return ChatCompletions(self._client, endpoint)

    async def _store(
        self,
        begun: BegunStep,
        endpoint: Endpoint,
        toolbox: Toolbox,
        answer: Answer,
        content: str,
        *,
        stopped: bool = False,
    ) -> StepResult:
        most = begun.limits.tool_calls_per_step
        turn = begun.turn
        sources = ProjectDatasources(self._database, self._keys, turn.tenant_id, turn.project_id)
        found = await calls_of(answer, toolbox, begun.message.id, most, sources)
        broken_steps = begun.broken_steps + 1 if found.broken and not stopped else 0
        failed = broken_steps > MAX_BROKEN_STEPS
        reason = "length" if answer.truncated else answer.finish_reason
        async with self._database.tenant_session(begun.turn.tenant_id) as session:
            stored = await steps.complete(
                session,
                begun,
                content=content,
                status="stopped" if stopped else "complete",
                finish_reason="cancelled" if stopped else reason,
                truncated=answer.truncated,
                calls=[] if stopped else found.calls,
                model=answer.model or endpoint.model,
                usage=answer.usage,
                links=self._links,
                broken_steps=broken_steps,
                failure=(TurnCode.MODEL_UNAVAILABLE, BROKEN_TEXT) if failed else None,
            )
            # With the turn still locked: nobody can join it between its answer and this.
            steered = stored is not None and await steering.steered_since(session, begun.message)
        if stored is None and not stopped:
            raise superseded()
        return self._result(begun.message.id, toolbox, stored or (), broken_steps, steered=steered)

    async def _stored(self, begun: BegunStep, toolbox: Toolbox) -> StepResult:
        if begun.message.status != "complete":
            return STOPPED
        async with self._database.tenant_session(begun.turn.tenant_id) as session:
            executions = await of_messages(session, [begun.message.id])
            steered = await steering.steered_since(session, begun.message)
        broken_steps = begun.message.extra.get(BROKEN_CALLS, 0)
        return self._result(begun.message.id, toolbox, executions, broken_steps, steered=steered)

    def _result(
        self,
        message_id: UUID,
        toolbox: Toolbox,
        executions: Sequence[ToolExecution],
        broken_steps: int,
        *,
        steered: bool,
    ) -> StepResult:
        if broken_steps > MAX_BROKEN_STEPS:
            raise foreseen(
                f"unreadable tool calls in {broken_steps} steps", TurnCode.MODEL_UNAVAILABLE
            )
        calls = []
        for row in executions:
            asks = row.execution_status == ToolStatus.AWAITING_APPROVAL
            if asks or row.execution_status == ToolStatus.PENDING:
                # One that is gone by now is told so by the executor; its row waits for that.
                tool = toolbox.get(row.tool_name)
                calls.append(
                    ToolCallRef(
                        tool_execution_id=str(row.id),
                        tool=row.tool_name,
                        queue=Queue(row.queue),
                        deadline_seconds=(tool.deadline if tool else GONE_DEADLINE).total_seconds(),
                        max_attempts=tool.max_attempts if tool else policies.TOOL_MAX_ATTEMPTS,
                        asks=asks,
                        patience_seconds=_patience(row) if asks else 0.0,
                    )
                )
        return StepResult(str(message_id), calls, answered=not executions and not steered)

    async def _report(
        self, begun: BegunStep, trouble: Trouble, attempt: Attempt | None = None
    ) -> ApplicationError:
        """Put a failed attempt on record; what Temporal is told of it."""
        number = activity.info().attempt
        most = policies.MODEL_RETRY.maximum_attempts
        delay = trouble.delay(number)
        away = attempt.away_seconds if attempt else begun.away_seconds
        if trouble.retry_after is None:
            away += delay.total_seconds()
        again = trouble.retry and number < most and away < self._settings.model_away_seconds
        message, notice = trouble.message, None
        if again:
            notice = (
                f"{message} Trying again in {max(delay.total_seconds(), 1):.0f} s"
                f" (attempt {number + 1} of {most})."
            )
        elif trouble.retry:
            message = f"{message} It was asked {number} times; try again later."
        async with self._database.tenant_session(begun.turn.tenant_id) as session:
            await steps.report_trouble(
                session,
                begun,
                trouble.code,
                message,
                away_seconds=away,
                notice=notice,
                lost=attempt is not None and attempt.lost,
            )
        log.warning(
            "model_attempt_failed",
            turn_id=str(begun.turn.id),
            attempt=number,
            code=trouble.code,
            again=again,
        )
        # The text stays in the database; histories hold the code.
        return foreseen(
            f"{trouble.code}: attempt {number} of {most} failed",
            trouble.code,
            retry=again,
            delay=delay if again else None,
        )


def _patience(row: ToolExecution) -> float:
    """How long the run waits for people: a moment longer than the question stands."""
    if row.expires_at is None:
        return 0.0
    return (row.expires_at - row.created_at).total_seconds() + 1.0


def _stopped_by_people() -> bool:
    # A worker that shuts down cancels its activities too: then the attempt is handed over, and
    # nothing is marked as stopped.
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested
