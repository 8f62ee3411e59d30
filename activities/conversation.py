"""Short database work of a turn: its end, and the settling of what was lost."""

from uuid import UUID

from temporalio import activity
from typing_extensions import override

from activities.errors import textless
from store import interventions, rooms, tool_executions, turns, waiting
from store.database import Database
from store.runs import TurnRuns
from store.settings import Settings
from store.shapes import TemporalLinks
from store.tables import ToolExecution, Turn
from store.tool_executions import Outcome
from workflows.interfaces import TurnActivities
from workflows.types import (
    OPEN_TOOL_STATUSES,
    Effect,
    FinishInput,
    FinishResult,
    ToolRunInput,
    ToolRunResult,
    ToolStatus,
    TurnCode,
    TurnStatus,
)

ENDINGS = {
    TurnCode.TOO_MANY_STEPS: "Stopped after {steps} steps without an answer. Ask for less at once.",
    TurnCode.TIMED_OUT: "This took longer than a turn may. Ask for less at once.",
    TurnCode.INTERNAL_ERROR: "Something broke on our side. Ask again; an operator can see the run.",
}


class ConversationActivities(TurnActivities):
    """`finish_turn`, `settle_tool` and `review_tool`.

    Args:
        successors: Starts the next queued turn from here. Where workers have versions it must not
            be the workflow's child: a child inherits its parent's version, and a queue that never
            runs empty would keep an old version busy for ever.
    """

    def __init__(
        self, *, database: Database, settings: Settings, successors: TurnRuns | None = None
    ) -> None:
        self._database = database
        self._successors = successors
        self._links = TemporalLinks(settings.temporal_ui_base, settings.temporal_namespace)

    @override
    @activity.defn(name="settle_tool")
    async def settle_tool(self, run: ToolRunInput) -> ToolRunResult:
        async with textless(), self._database.tenant_session(run.turn.tenant_id) as session:
            turn = await session.get_one(Turn, UUID(run.turn.turn_id), with_for_update=True)
            row = await session.get_one(
                ToolExecution, UUID(run.call.tool_execution_id), with_for_update=True
            )
            if row.execution_status in OPEN_TOOL_STATUSES and row.taken_over == run.taken_over:
                risky = row.effect != Effect.READ and row.execution_status == ToolStatus.EXECUTING
                outcome = tool_executions.unknown() if risky else _lost()
                await tool_executions.settle(
                    session, row.id, row.attempt, outcome, turn, self._links
                )
                if events := await waiting.review(session, turn):
                    await rooms.append(session, turn.project_id, events)
                return ToolRunResult(outcome.status)
            return ToolRunResult(row.execution_status, row.taken_over)

    @override
    @activity.defn(name="review_tool")
    async def review_tool(self, run: ToolRunInput) -> ToolRunResult:
        async with textless(), self._database.tenant_session(run.turn.tenant_id) as session:
            row = await interventions.hear(session, UUID(run.call.tool_execution_id))
            return ToolRunResult(row.execution_status, row.taken_over)

    @override
    @activity.defn(name="finish_turn")
    async def finish_turn(self, finish: FinishInput) -> FinishResult:
        detail = ENDINGS.get(TurnCode(finish.code)) if finish.code else None
        async with textless(), self._database.tenant_session(finish.turn.tenant_id) as session:
            following = await turns.finish(
                session,
                UUID(finish.turn.turn_id),
                TurnStatus(finish.status),
                finish.code,
                detail.format(steps=finish.turn.max_steps) if detail else None,
            )
        if self._successors:
            following = [ref for ref in following if not await self._successors.start(ref)]
        return FinishResult(following[0] if following else None, following[1:])


def _lost() -> Outcome:
    return Outcome(
        ToolStatus.FAILED,
        code="unavailable",
        message="The tool's worker was lost again and again. Try once more, or another way.",
    )
