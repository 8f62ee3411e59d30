"""What must be found nowhere, and what must have come back: I8 to I13 of docs/reliability.md."""

import base64
import json
from collections import Counter
from urllib.parse import quote

from temporalio.client import Client

from tests import nats_server
from tests.chaos.load import Trial
from tests.chaos.rows import executions, key_of, projects
from tests.system import ADMIN_PASSWORD, CANARY_KEY, PASSWORD

# A line of trouble is explained by a fault that was going on at most this long before.
ECHO_SECONDS = 25.0
MOST_HISTORY_EVENTS, MOST_HISTORY_BYTES = 2_000, 2_000_000
SAMPLED_RUNS = 200
NEVER = ("Task exception was never retrieved", "TMPRL1103", "was destroyed but it is pending")


async def i8(trial: Trial) -> list[str]:
    """A tenant's word is in no other tenant's prompts or frames, and in no log."""
    words = [tenant.canary for tenant in trial.tenants]
    wrong = []
    for call in trial.arena.system.model.calls:
        text = json.dumps(call.body)
        heard = [word for word in words if word in text]
        if len(heard) > 1:
            wrong.append(f"one prompt has the words of {len(heard)} tenants")
    for person in trial.people:
        shown = person.frames_text()
        wrong += [
            f"{person.who} of {person.tenant.canary} was shown {word}"
            for word in words
            if word != person.tenant.canary and word in shown
        ]
    wrong += [f"log: {line[:120]}" for line in trial.arena.log if any(w in line for w in words)]
    return wrong


def _spellings(secret: str) -> set[bytes]:
    raw = secret.encode()
    return {
        raw, base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"="),
        raw.hex().encode(), quote(secret, safe="").encode(),
    }  # fmt: skip


async def i9(trial: Trial) -> list[str]:
    """No secret in logs, rows, histories or frames, however it is spelled; no text in histories."""
    arena = trial.arena
    secrets = [CANARY_KEY, PASSWORD, ADMIN_PASSWORD, nats_server.PASSWORD]
    secrets += [
        value
        for tenant in trial.tenants
        for who in (tenant.team.ada, tenant.team.grace)
        for value in who.cookies.values()
    ]
    spelled = {spelling for secret in secrets for spelling in _spellings(secret)}
    stores = {
        "log": "\n".join(arena.log).encode(),
        "frames": "\n".join(person.frames_text() for person in trial.people).encode(),
        "database": await _dump(trial),
        "histories": b"".join(
            path.read_bytes() for path in sorted(arena.folder.glob("temporal.db*"))
        ),
    }
    wrong = [
        f"{name} holds a secret"
        for name, content in stores.items()
        if any(spelling in content for spelling in spelled)
    ]
    wrong += [
        "histories hold what people wrote"
        for tenant in trial.tenants
        if any(spelling in stores["histories"] for spelling in _spellings(tenant.canary))
    ]
    return wrong


async def _dump(trial: Trial) -> bytes:
    """Every text of every table; what is sealed is bytes and says nothing."""
    system = trial.arena.system
    tables = await system.sql(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    parts = []
    for (name,) in tables:
        rows = await system.sql(f'SELECT to_jsonb(t)::text FROM "{name}" t')
        parts += [row[0] for row in rows]
    return "\n".join(parts).encode()


async def i10(trial: Trial) -> list[str]:
    """No turn's run is open, none failed a task of its workflow, none grew large."""
    client = await Client.connect(trial.arena.system.temporal.address)
    wrong = []
    turns = {asked.turn_id for asked in trial.asked if asked.turn_id}
    most, checked = 0, 0
    async for run in client.list_workflows("WorkflowType = 'ConversationTurn'"):
        if run.id.removeprefix("turn-") not in turns:
            continue
        if run.status is not None and run.status.name == "RUNNING":
            wrong.append(f"{run.id} is running")
        size = run.raw_info.history_size_bytes
        most = max(most, run.history_length)
        if run.history_length > MOST_HISTORY_EVENTS or size > MOST_HISTORY_BYTES:
            wrong.append(f"{run.id}: {run.history_length} events, {size} bytes")
        if checked < SAMPLED_RUNS:
            checked += 1
            wrong += await _task_failures(client, run.id)
    trial.figures["longest history"] = f"{most} events"
    return wrong


async def _task_failures(client: Client, run_id: str) -> list[str]:
    history = await client.get_workflow_handle(run_id).fetch_history()
    failed = [event for event in history.events if event.HasField(
        "workflow_task_failed_event_attributes")]  # fmt: skip
    return [
        f"{run_id}: workflow task failed, cause {event.workflow_task_failed_event_attributes.cause}"
        for event in failed
    ]


async def i11(trial: Trial) -> list[str]:
    """Tool runs, audit rows and effects outside tell the same story."""
    audited = {
        row[0]: row[1]
        for row in await trial.arena.system.sql(
            "SELECT tool_execution_id::text, count(*) FROM audit_log"
            " WHERE project_id = ANY($1) AND tool_execution_id IS NOT NULL"
            " GROUP BY tool_execution_id",
            projects(trial),
        )
    }
    wrong = []
    known = Counter[str]()
    for row in await executions(trial):
        if row["attempt"] and not audited.get(row["id"]):
            wrong.append(f"execution {row['id']} ({row['execution_status']}) is not in the audit")
        known[f"{row['tool_name']} {key_of(row)}"] += row["attempt"]
    label = f"{trial.label}-"
    for name, count in trial.arena.effects().items():
        if name.partition(" ")[2].startswith(label) and count > known[name]:
            wrong.append(f"{name}: {count} effects, {known[name]} attempts on record")
    return wrong


async def i12(trial: Trial) -> list[str]:
    """Connections, listeners and locks of the database are back to what the parts need."""
    system = trial.arena.system
    rows = await system.sql(
        "SELECT application_name, count(*) FROM pg_stat_activity"
        " WHERE datname = 'everturn' AND pid <> pg_backend_pid() GROUP BY 1"
    )
    connections = {row[0]: row[1] for row in rows}
    edges, workers = len(system.edges), len(system.workers)
    # Ten pooled connections a process; one that was cut is noticed by the server a moment later.
    bounds = {"edge": 10 * edges, "worker": 10 * workers, "everturn-listen": edges}
    bounds["everturn-bus"] = edges + workers
    wrong = [
        f"{connections.get(name, 0)} connections of {name}, {most} are its share"
        for name, most in bounds.items()
        if connections.get(name, 0) > 2 * most
    ]
    (locks,) = await system.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    if locks[0]:
        wrong.append(f"{locks[0]} advisory locks are held")
    return wrong


async def i13(trial: Trial) -> list[str]:
    """No error in the log that no fault explains, and never an exception nobody took."""
    log = trial.arena.log
    wrong = []
    for at, line in zip(log.at, log, strict=False):
        if at < trial.began:
            continue
        explained = any(
            fault.began - 1 <= at <= fault.ended + ECHO_SECONDS for fault in trial.arena.injected
        )
        trouble = "level=error" in line or "Traceback" in line
        if any(text in line for text in NEVER) or (trouble and not explained):
            wrong.append(line[:200])
    return wrong
