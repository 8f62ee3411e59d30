"""Worker versions: a turn ends on the code it began with.

A build id makes a process part of one version of the deployment ``everturn``. Turns are pinned to
the version that ran their first workflow task, and so are their activities on every queue that the
version serves. New turns begin on the *current* version, which `promote` sets. Without a build id,
the default, there are no versions and every worker takes every task.
"""

import asyncio
from datetime import timedelta

import structlog
from temporalio.api.deployment.v1 import WorkerDeploymentVersion as VersionMessage
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from workflows.types import Queue

log = structlog.get_logger(__name__)

DEPLOYMENT = "everturn"
PROMOTE_WITHIN = timedelta(seconds=60)
RPC_TIMEOUT = timedelta(seconds=10)
PAUSE = timedelta(milliseconds=300)
# Another process may be moving the same deployment; the server says so, and means "again".
_TRY_AGAIN = frozenset(
    {
        RPCStatusCode.ABORTED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNAVAILABLE,
    }
)

Polled = frozenset[tuple[str, int]]
NEEDED: Polled = frozenset(
    {
        (str(Queue.TURNS), int(TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)),
        *((str(queue), int(TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)) for queue in Queue),
    }
)


class NotPromoted(Exception):
    """The version did not become the current one; the text says what is missing."""


def config(build_id: str) -> WorkerDeploymentConfig | None:
    """What makes a `Worker` part of a version; None without a build id."""
    if not build_id:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(DEPLOYMENT, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def promote(client: Client, build_id: str, within: timedelta = PROMOTE_WITHIN) -> None:
    """Make a version current as soon as its workers serve every queue.

    New turns begin on it from now on; turns that run stay where they are.

    Args:
        within: How long to wait for its workers.

    Raises:
        NotPromoted: Its workers did not come in time, or the server refused.
    """
    reason = "no worker of it has been seen"
    try:
        async with asyncio.timeout(within.total_seconds()):
            while True:
                try:
                    missing = NEEDED - await _polled(client, build_id)
                    if not missing:
                        await _set_current(client, build_id)
                        log.info("version_promoted", build_id=build_id)
                        return
                    queues = ", ".join(sorted({queue for queue, _ in missing}))
                    reason = f"no worker of it serves {queues}"
                except RPCError as exc:
                    if exc.status not in _TRY_AGAIN:
                        raise NotPromoted(f"version {build_id}: {exc.message}") from exc
                    if exc.status is not RPCStatusCode.NOT_FOUND:
                        reason = exc.message
                await asyncio.sleep(PAUSE.total_seconds())
    except TimeoutError:
        raise NotPromoted(
            f"version {build_id} is not current after {within.total_seconds():.0f} s: {reason}"
        ) from None


async def _polled(client: Client, build_id: str) -> Polled:
    """Queues, and kinds of task, that workers of the version have asked for."""
    described = await client.workflow_service.describe_worker_deployment_version(
        DescribeWorkerDeploymentVersionRequest(
            namespace=client.namespace,
            deployment_version=VersionMessage(deployment_name=DEPLOYMENT, build_id=build_id),
        ),
        timeout=RPC_TIMEOUT,
    )
    return frozenset((each.name, int(each.type)) for each in described.version_task_queues)


async def _set_current(client: Client, build_id: str) -> None:
    await client.workflow_service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace,
            deployment_name=DEPLOYMENT,
            build_id=build_id,
            identity=client.service_client.config.identity,
        ),
        timeout=RPC_TIMEOUT,
    )
