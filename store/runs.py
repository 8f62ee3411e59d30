"""Turns as Temporal runs: started once, cancelled by id, from the edge and from housekeeping."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from workflows import policies
from workflows.turn import ConversationTurn, priority, run_timeout, search_attributes
from workflows.types import Queue, TurnRef, turn_workflow_id

log = structlog.get_logger(__name__)

# Long enough for a server under load, short enough that a sender hears "queued" within 5 s.
RPC_TIMEOUT = timedelta(seconds=2)


class TurnRuns:
    """Starts and cancels the runs of turns.

    Args:
        client: Connected, or lazily connecting, Temporal client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, turn: TurnRef) -> bool:
        """Start a turn's workflow; a second start changes nothing.

        Returns:
            Whether a run exists now. False when Temporal is away: housekeeping starts it later.
        """
        try:
            await self._client.start_workflow(
                ConversationTurn.run,
                turn,
                id=turn.workflow_id,
                task_queue=Queue.TURNS,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=search_attributes(turn),
                run_timeout=run_timeout(turn),
                task_timeout=policies.WORKFLOW_TASK_TIMEOUT,
                static_summary=f"turn in conversation {turn.conversation_id}",
                priority=priority(turn),
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return True
        except (RPCError, RuntimeError) as exc:
            # RuntimeError: a lazy client could not connect.
            log.warning("turn_not_started", turn_id=turn.turn_id, error=type(exc).__name__)
            return False
        return True

    async def polled(self) -> bool | None:
        """Whether workers serve turns and models now; None when Temporal is away."""
        try:
            return all(
                [await self._pollers(Queue.TURNS, workflows=True), await self._pollers(Queue.MODEL)]
            )
        except (RPCError, RuntimeError):
            return None

    async def _pollers(self, queue: Queue, *, workflows: bool = False) -> bool:
        kind = (
            TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
            if workflows
            else (TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
        )
        described = await self._client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=kind,
            ),
            timeout=RPC_TIMEOUT,
        )
        return len(described.pollers) > 0

    async def tell_decided(self, turn_id: UUID, execution_id: UUID) -> bool:
        """Tell a turn's run that people have decided about a call; twice is harmless.

        Returns:
            Whether the run knows, or there is none to know. If not, housekeeping tells it.
        """
        return await self._deliver(
            turn_id,
            lambda run: run.signal(
                ConversationTurn.tool_decided, str(execution_id), rpc_timeout=RPC_TIMEOUT
            ),
        )

    async def take_over(self, turn_id: UUID, execution_id: UUID, intervention_id: UUID) -> bool:
        """Tell a turn's run that people have intervened in one of its tool calls.

        Returns:
            Whether it was told, or there is none to tell. If not, housekeeping tells it again.
        """
        return await self._deliver(
            turn_id,
            lambda run: run.signal(
                ConversationTurn.tool_taken_over,
                args=[str(execution_id), str(intervention_id)],
                rpc_timeout=RPC_TIMEOUT,
            ),
        )

    async def cancel(self, turn_id: UUID) -> bool:
        """Ask a turn's workflow to stop.

        Returns:
            Whether the request was delivered or there is nothing to stop. The stop is on record in
            any case, and housekeeping delivers it again.
        """
        return await self._deliver(turn_id, lambda run: run.cancel(rpc_timeout=RPC_TIMEOUT))

    async def _deliver(
        self, turn_id: UUID, send: Callable[[WorkflowHandle[Any, Any]], Awaitable[None]]
    ) -> bool:
        try:
            await send(self._client.get_workflow_handle(turn_workflow_id(turn_id)))
        except RPCError as exc:
            if exc.status is RPCStatusCode.NOT_FOUND:
                return True
            log.warning("turn_not_told", turn_id=str(turn_id), error=exc.status.name)
            return False
        except RuntimeError:
            return False
        return True
