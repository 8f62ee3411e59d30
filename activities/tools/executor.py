"""One tool call, from its row to its outcome.

Look up, authorise, validate, claim, run, bound, store. Authority comes from the database at the
moment of running, never from when the call was asked for. The claim is committed before the tool
starts: an effect of class ``once`` whose claim has no outcome is never run again, it ends
``unknown``. A tool's failure is an outcome for the model; only a fault of ours is an exception.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError
from typing_extensions import override

from activities.errors import foreseen, textless
from activities.heartbeat import beating
from activities.tools.arguments import parse_arguments
from activities.tools.cache import ResultCache
from activities.tools.datasources import ProjectDatasources
from activities.tools.http.web import ProjectWeb
from activities.tools.registry import Registry
from activities.tools.results import LargeResults
from activities.tools.tool import (
    Arguments,
    Tool,
    ToolContext,
    ToolError,
    ToolOutcomeUnknown,
)
from store import (
    audit,
    decisions,
    expiry,
    questions,
    rooms,
    tool_executions,
    tool_limits,
    turns,
    waiting,
)
from store.access import Role
from store.audit import Actor
from store.database import Database, clock
from store.fault_points import reach
from store.files.project_files import ProjectFiles
from store.handles import Handles
from store.places import Places
from store.policies import Verdict, verdict_for
from store.secrets import KeyRing
from store.settings import Settings
from store.shapes import TemporalLinks
from store.tables import ToolExecution, Turn, User
from store.texts import clean, clean_json, cut
from store.tool_executions import Outcome, result_event
from store.tool_limits import OverLimit
from workflows.interfaces import ToolActivities
from workflows.types import (
    OPEN_TURN_STATUSES,
    Effect,
    ToolRunInput,
    ToolRunResult,
    ToolStatus,
)

log = structlog.get_logger(__name__)

MAX_ERROR_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A call that this attempt, and no other, may run."""

    execution: ToolExecution
    turn: Turn
    tool: Tool[Any]
    arguments: Arguments
    actor: Actor


class ToolExecutor(ToolActivities):
    """Runs tool calls for `run_tool`.

    Args:
        registry: Every tool there is.
        places: Gives away the place of a turn that waits for people; else housekeeping does.
        files: Where results are kept that are too large for the model.
    """

    def __init__(
        self,
        *,
        database: Database,
        registry: Registry,
        keys: KeyRing,
        settings: Settings,
        places: Places | None = None,
        files: ProjectFiles,
    ) -> None:
        self._places = places
        self._database = database
        self._results = LargeResults(files)
        self._registry = registry
        self._keys = keys
        self._links = TemporalLinks(settings.temporal_ui_base, settings.temporal_namespace)
        self._cache = ResultCache(database)

    @override
    @activity.defn(name="run_tool")
    async def run_tool(self, run: ToolRunInput) -> ToolRunResult:
        async with textless(), beating():
            claimed = await self._claimed(run)
            if not isinstance(claimed, Claim):
                await self._review(run)
                return ToolRunResult(claimed)
            reach("K6")
            try:
                outcome = await self._run(claimed)
            except asyncio.CancelledError:
                await self._cancelled(claimed)
                raise
            reach("K7")
            status, others_wait = await self._store(claimed, outcome)
            reach("K8")
            if others_wait:
                await self._review(run)
            return ToolRunResult(status)

    async def _review(self, run: ToolRunInput) -> None:
        """Have the turn say that it waits for people, if that is all it does now."""
        tenant_id = UUID(run.turn.tenant_id)
        async with self._database.tenant_session(tenant_id) as session:
            waits = await waiting.review_now(session, UUID(run.turn.turn_id))
        if waits and self._places:
            await self._places.give(tenant_id)

    async def _claimed(self, run: ToolRunInput) -> Claim | ToolStatus:
        """`_claim`, which waits a little where all places of the tenant are taken."""
        until = time.monotonic() + tool_limits.MAX_WAIT.total_seconds()
        while True:
            async with self._database.tenant_session(run.turn.tenant_id) as session:
                patient = time.monotonic() < until
                claimed = await self._claim(session, run, patient=patient)
            if not isinstance(claimed, OverLimit):
                return claimed
            # With nothing locked: a stop comes through, and ends the waiting.
            await asyncio.sleep(tool_limits.WAIT_BETWEEN.total_seconds())

    async def _claim(
        self, session: AsyncSession, run: ToolRunInput, *, patient: bool
    ) -> Claim | ToolStatus | OverLimit:
        """Take the call for this attempt, or say how it has ended already.

        A limit ends the call, or is returned where waiting for it helps and there is patience.
        """
        turn = await session.get(Turn, UUID(run.turn.turn_id), with_for_update={"read": True})
        row = await session.get(
            ToolExecution, UUID(run.call.tool_execution_id), with_for_update=True
        )
        if turn is None or row is None or row.turn_id != turn.id:
            raise ApplicationError("no such tool call", type="NotFound", non_retryable=True)
        if await expiry.expire(session, turn, row, await clock(session)):
            row.told_at = row.decided_at
            event = result_event(row, turn.conversation_id, self._links)
            await rooms.append(session, turn.project_id, [event])
        if row.execution_status not in (ToolStatus.PENDING, ToolStatus.EXECUTING):
            return ToolStatus(row.execution_status)
        if run.taken_over < row.taken_over:
            # People want another run of the call than this one; it must not begin anything.
            return ToolStatus.PENDING
        actor = await _actor(session, turn)
        if row.execution_status == ToolStatus.EXECUTING:
            await _record(session, row, turn, actor, "failed", "the attempt was lost")
            if row.effect == Effect.ONCE:
                return await self._settle(session, row, turn, actor, tool_executions.unknown())
        if turn.status not in OPEN_TURN_STATUSES or turn.stop_requested_at is not None:
            return await self._settle(session, row, turn, actor, tool_executions.cancelled())

        tool = await self._registry.find(session, turn.project_id, row.tool_name)
        if tool is not None and row.approved_arguments is not None and row.attempt == 0:
            row.effect = await self._effect_of(tool, row.approved_arguments, turn)
        judged = await self._judge(session, turn, row, tool)
        if tool is None or not isinstance(judged, Verdict):
            refusal = judged if isinstance(judged, Outcome) else _denied("unknown tool")
            return await self._settle(session, row, turn, actor, refusal)
        try:
            arguments = parse_arguments(tool, row.approved_arguments or row.arguments)
        except ToolError as error:
            return await self._settle(session, row, turn, actor, _failed(error, None))
        if judged.policy == "ask" and not await decisions.covers(session, turn, row, judged.terms):
            return await self._ask(session, turn, row, tool, judged)

        # A later attempt still holds the place of the one that was lost.
        if row.execution_status == ToolStatus.PENDING:
            over = await tool_limits.over_limit(session, row.tenant_id, turn.asked_by)
            if over is not None and over.passes and patient:
                return over
            if over is not None:
                refused = Outcome(ToolStatus.FAILED, code=over.code, message=over.message)
                return await self._settle(session, row, turn, actor, refused)

        row.attempt += 1
        row.execution_status = ToolStatus.EXECUTING
        row.started_at = await clock(session)
        row.stalled = None
        row.workflow_run = activity.info().workflow_run_id
        await session.flush()
        session.expunge(row)
        await rooms.append(
            session, turn.project_id, [result_event(row, turn.conversation_id, self._links)]
        )
        return Claim(row, turn, tool, arguments, actor)

    async def _effect_of(self, tool: Tool[Any], arguments: str, turn: Turn) -> Effect:
        """What a call may do with arguments that people changed: a GET may be a POST now."""
        sources = ProjectDatasources(self._database, self._keys, turn.tenant_id, turn.project_id)
        try:
            return await tool.effect_of(parse_arguments(tool, arguments), sources)
        except ToolError:
            return tool.effect

    async def _judge(
        self, session: AsyncSession, turn: Turn, row: ToolExecution, tool: Tool[Any] | None
    ) -> Verdict | Outcome:
        """What the policies of this moment say; an outcome where the call ends here."""
        if tool is None:
            return Outcome(
                ToolStatus.FAILED,
                code="unknown_tool",
                message=f"There is no tool {cut(row.tool_name, 80)!r} any more.",
            )
        role = await turns.asker_role(session, turn)
        if role is None or role < Role.EDITOR:
            return _denied("Whoever asked may no longer use tools in this project.")
        verdict = await verdict_for(
            session, turn.project_id, tool.name, Effect(row.effect), tool.policy
        )
        if verdict.policy == "deny":
            return _denied(questions.denied_text(tool.name))
        return verdict

    async def _ask(
        self,
        session: AsyncSession,
        turn: Turn,
        row: ToolExecution,
        tool: Tool[Any],
        verdict: Verdict,
    ) -> ToolStatus:
        """The policy asks for more than was given, or asks by now: the run waits on."""
        row.argument_schema = tool.parameters()
        questions.ask(row, verdict.terms, await clock(session))
        await session.flush()
        event = result_event(row, turn.conversation_id, self._links)
        await rooms.append(session, turn.project_id, [event])
        return ToolStatus.AWAITING_APPROVAL

    async def _run(self, claim: Claim) -> Outcome:
        row, tool = claim.execution, claim.tool
        context = ToolContext(
            tenant_id=row.tenant_id,
            project_id=claim.turn.project_id,
            execution_id=row.id,
            attempt=row.attempt,
            idempotency_key=str(row.id),
            deadline=tool.deadline,
            datasources=ProjectDatasources(
                self._database, self._keys, row.tenant_id, claim.turn.project_id
            ),
            web=ProjectWeb(self._database, row.tenant_id, claim.turn.project_id),
            handles=Handles(self._keys, row.tenant_id, claim.turn.project_id),
        )
        started = time.perf_counter()
        try:
            async with asyncio.timeout(tool.deadline.total_seconds()):
                kept = await self._cache.look(tool, claim.arguments, context)
                found = kept.result() if kept else None
                if found is None:
                    result = clean_json(await tool.run(claim.arguments, context))
                else:
                    result = found
        except TimeoutError:
            seconds = tool.deadline.total_seconds()
            return Outcome(
                _failure_status(row),
                code="timeout" if row.effect == Effect.READ else "outcome_unknown",
                message=f"No result within {seconds:.0f} s. Ask for less, or narrow it down.",
                elapsed_ms=_elapsed(started),
            )
        except ToolError as error:
            return _failed(error, _elapsed(started))
        except Exception as error:
            log.exception("tool_crashed", tool=tool.name, execution_id=str(row.id))
            return Outcome(
                _failure_status(row),
                code="failed" if row.effect == Effect.READ else "outcome_unknown",
                message=f"The tool broke ({type(error).__name__}). This is a fault of ours.",
                elapsed_ms=_elapsed(started),
            )
        elapsed_ms = _elapsed(started)
        if kept is not None and found is None:
            await self._cache.keep(kept, result)
        bounded = await self._results.bound(
            result, row.tenant_id, claim.turn.project_id, f"{tool.name}-{row.id}"
        )
        return Outcome(
            ToolStatus.COMPLETED,
            result=bounded.stored,
            preview=bounded.preview,
            elapsed_ms=elapsed_ms,
            result_file=bounded.file,
            cached=found is not None,
        )

    async def _cancelled(self, claim: Claim) -> None:
        details = activity.cancellation_details()
        if details is None or not details.cancel_requested:
            # The worker shuts down or lost its lease: the next attempt decides by the claim.
            return
        risky = claim.execution.effect != Effect.READ
        await self._store(
            claim, tool_executions.unknown() if risky else tool_executions.cancelled()
        )

    async def _store(self, claim: Claim, outcome: Outcome) -> tuple[ToolStatus, bool]:
        """Store an outcome; its status, and whether another call of the turn waits for people."""
        row = claim.execution
        async with self._database.tenant_session(row.tenant_id) as session:
            stored = await tool_executions.settle(
                session,
                row.id,
                row.attempt,
                outcome,
                claim.turn,
                self._links,
                among=(ToolStatus.EXECUTING,),
            )
            if stored:
                # Else whoever took the call over has put this attempt on record.
                await _record(session, row, claim.turn, claim.actor, *_audited(outcome))
            others_wait = await waiting.anybody_is_asked(session, claim.turn.id)
        if not stored:
            raise foreseen("another attempt owns this tool call", "Superseded", retry=True)
        return outcome.status, others_wait

    async def _settle(
        self,
        session: AsyncSession,
        row: ToolExecution,
        turn: Turn,
        actor: Actor,
        outcome: Outcome,
    ) -> ToolStatus:
        await tool_executions.settle(session, row.id, row.attempt, outcome, turn, self._links)
        await _record(session, row, turn, actor, *_audited(outcome))
        return outcome.status


async def _actor(session: AsyncSession, turn: Turn) -> Actor:
    user = await session.get(User, turn.asked_by) if turn.asked_by else None
    return Actor(user.id, user.email) if user else Actor()


async def _record(
    session: AsyncSession,
    row: ToolExecution,
    turn: Turn,
    actor: Actor,
    outcome: str,
    reason: str | None,
) -> None:
    await audit.record(
        session,
        row.tenant_id,
        actor,
        "tool.run",
        "tool",
        row.tool_name,
        outcome=outcome,
        reason=reason,
        project_id=turn.project_id,
        turn_id=turn.id,
        tool_execution_id=row.id,
    )


def _audited(outcome: Outcome) -> tuple[str, str | None]:
    if outcome.status is ToolStatus.COMPLETED:
        return "allowed", "cached" if outcome.cached else None
    refused = outcome.code in {
        "refused", "denied", "invalid_arguments", "unknown_tool", "not_found",
        "rate_limited", "over_budget", "busy",
    }  # fmt: skip
    # The reason names the rule; what a target answered may hold its data, so its code must do.
    return (
        ("refused", f"{outcome.code}: {outcome.message}") if refused else ("failed", outcome.code)
    )


def _denied(message: str) -> Outcome:
    return Outcome(ToolStatus.FAILED, code="denied", message=message)


def _failed(error: ToolError, elapsed_ms: int | None) -> Outcome:
    unknown = isinstance(error, ToolOutcomeUnknown)
    return Outcome(
        ToolStatus.UNKNOWN if unknown else ToolStatus.FAILED,
        code=error.code,
        message=cut(clean(error.message), MAX_ERROR_CHARS),
        elapsed_ms=elapsed_ms,
    )


def _failure_status(row: ToolExecution) -> ToolStatus:
    return ToolStatus.FAILED if row.effect == Effect.READ else ToolStatus.UNKNOWN


def _elapsed(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
