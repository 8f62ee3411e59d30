"""Rows of a trial, read past every policy."""

import json
from typing import Any
from uuid import UUID

from tests.chaos.load import Trial


def projects(trial: Trial) -> list[UUID]:
    """The trial's own projects."""
    return [UUID(tenant.team.project_id) for tenant in trial.tenants]


async def executions(trial: Trial) -> list[Any]:
    """Its tool executions."""
    return await trial.arena.system.sql(
        "SELECT e.id::text, e.tool_name, e.arguments, e.execution_status, e.attempt"
        " FROM tool_executions e JOIN turns t ON t.id = e.turn_id WHERE t.project_id = ANY($1)",
        projects(trial),
    )


def key_of(row: Any) -> str:
    """Name of the effect a call was to have; empty where the model's arguments name none."""
    try:
        return str(json.loads(row["arguments"])["key"])
    except (ValueError, TypeError, LookupError):
        return ""
