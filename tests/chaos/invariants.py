"""What must hold at every quiet moment, whatever was done: I1 to I15 of docs/reliability.md.

Each check reads the database past every policy, the clients' folded states, the log, and what was
counted outside (the model server's calls, the sink of effects). A check returns what is wrong, in
words; an empty list is a pass.
"""

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote
from uuid import UUID

from temporalio.client import Client

from tests.chaos.load import Trial
from tests.chaos.people import Person
from tests.client import essence, fetch
from tests.system import ADMIN_PASSWORD, CANARY_KEY, PASSWORD

TOKEN = re.compile(r"‹e(\d+)\.(\d{4,})›")
# A line of trouble is explained by a fault that was going on at most this long before.
ECHO_SECONDS = 25.0
RIGHT_AWAY_SECONDS = 5.0
MOST_HISTORY_EVENTS, MOST_HISTORY_BYTES = 2_000, 2_000_000
SAMPLED_RUNS = 200
NEVER = ("exception was never retrieved", "TMPRL1103", "was destroyed but it is pending")

Check = Callable[[Trial], Awaitable[list[str]]]


def _projects(trial: Trial) -> list[UUID]:
    return [UUID(tenant.team.project_id) for tenant in trial.tenants]


async def i1(trial: Trial) -> list[str]:
    """Every acked message is stored once; one without an ack at most once."""
    rows = await trial.arena.system.sql(
        "SELECT m.client_message_id, m.id::text, count(t.id) AS turns FROM messages m"
        " JOIN conversations c ON c.id = m.conversation_id"
        " LEFT JOIN turns t ON t.message_id = m.id"
        " WHERE c.project_id = ANY($1) AND m.role = 'user' GROUP BY m.id",
        _projects(trial),
    )
    stored = Counter(row[0] for row in rows)
    ids = {row[0]: row[1] for row in rows}
    wrong = []
    for asked in trial.asked:
        count = stored[asked.client_message_id]
        if asked.acked_at and (count != 1 or ids[asked.client_message_id] != asked.message_id):
            wrong.append(f"{asked.client_message_id}: acked, stored {count} times")
        elif count > 1:
            wrong.append(f"{asked.client_message_id}: stored {count} times")
    return wrong


async def i2(trial: Trial) -> list[str]:
    """Every question has exactly one end, the one that is right for it; nothing stays open."""
    rows = await trial.arena.system.sql(
        "SELECT t.id::text, t.status, t.code,"
        " count(m.id) FILTER (WHERE m.status = 'streaming') AS streaming,"
        " count(m.id) FILTER (WHERE m.status = 'complete' AND m.tool_calls = '[]') AS answers"
        " FROM turns t LEFT JOIN messages m ON m.turn_id = t.id AND m.role = 'assistant'"
        " WHERE t.project_id = ANY($1) GROUP BY t.id",
        _projects(trial),
    )
    found = {row["id"]: row for row in rows}
    wrong = []
    for row in rows:
        if row["status"] in ("queued", "running", "awaiting_approval") or row["streaming"]:
            wrong.append(f"turn {row['id']}: {row['status']}, {row['streaming']} texts stream")
        if row["answers"] != (row["status"] == "completed"):
            wrong.append(f"turn {row['id']}: {row['status']} with {row['answers']} answers")
    for asked in trial.asked:
        row = found.get(asked.turn_id)
        if row is not None and row["status"] not in asked.expected:
            wrong.append(f"{asked.client_message_id}: {row['status']} {row['code'] or ''}")
    return wrong


async def i3(trial: Trial) -> list[str]:
    """Numbers of a project's events have no hole and no double."""
    rows = await trial.arena.system.sql(
        "SELECT r.project_id::text, r.head, count(e.seq), count(DISTINCT e.seq), min(e.seq),"
        " max(e.seq) FROM rooms r LEFT JOIN room_events e ON e.project_id = r.project_id"
        " WHERE r.project_id = ANY($1) GROUP BY r.project_id, r.head",
        _projects(trial),
    )
    return [
        f"project {project}: head {head}, {count} events from {low} to {high}"
        for project, head, count, distinct, low, high in rows
        if count and not (count == distinct == high - low + 1 and high == head)
    ]


async def i4(trial: Trial) -> list[str]:
    """What each person's page has folded is what a fresh page shows."""
    wrong = []
    for person in trial.people:
        wrong += await _same_as_fresh(person)
        wrong += person.assertions
    return wrong


async def _same_as_fresh(person: Person) -> list[str]:
    http = person.room.http
    http.base_url = person.arena.system.edges[0].url
    deadline = time.monotonic() + 10
    while True:
        fresh = essence(await fetch(http, person.room.project_id))
        folded = essence(person.room.state)
        if folded == fresh:
            return []
        if time.monotonic() > deadline:
            differing = [
                f"{person.who} of {person.tenant.canary}: {what} {key}:"
                f" {str(folded[what].get(key))[:120]} instead of {str(fresh[what].get(key))[:120]}"
                for what in fresh
                for key in {*fresh[what], *folded[what]}
                if folded[what].get(key) != fresh[what].get(key)
            ]
            return differing[:5]
        await person.room.changed(0.5)


async def i5(trial: Trial) -> list[str]:
    """A final text has the tokens of one attempt, each once, in order."""
    rows = await trial.arena.system.sql(
        "SELECT t.id::text, m.content, m.status FROM messages m JOIN turns t ON t.id = m.turn_id"
        " WHERE t.project_id = ANY($1) AND m.role = 'assistant'",
        _projects(trial),
    )
    wanted = {asked.turn_id: asked.tokens for asked in trial.asked if asked.turn_id}
    wrong = []
    for turn_id, content, status in rows:
        tokens = TOKEN.findall(content)
        if not tokens:
            continue
        whole = "".join(f"‹e{epoch}.{number}›" for epoch, number in tokens)
        numbers = [int(number) for _, number in tokens]
        count = wanted.get(turn_id)
        if len({epoch for epoch, _ in tokens}) > 1:
            wrong.append(f"turn {turn_id}: tokens of several attempts")
        elif numbers != list(range(1, len(numbers) + 1)) or content != whole:
            wrong.append(f"turn {turn_id}: tokens missing, doubled or cut")
        elif status == "complete" and count is not None and len(numbers) != count:
            wrong.append(f"turn {turn_id}: {len(numbers)} of {count} tokens, said to be complete")
    return wrong


async def i6(trial: Trial) -> list[str]:
    """An effect happened at most once, and exactly once where it is said to be done."""
    effects = trial.arena.effects()
    wrong = [
        f"{name}: {count} times"
        for name, count in effects.items()
        if name.startswith("pay ") and count > 1
    ]
    unknown = 0
    for row in await _executions(trial):
        if row["tool_name"] != "pay":
            continue
        count = effects[f"pay {_key(row)}"]
        unknown += row["execution_status"] == "unknown"
        if row["execution_status"] == "completed" and count != 1:
            wrong.append(f"execution {row['id']}: completed, counted {count} times")
        if row["execution_status"] in ("pending", "executing"):
            wrong.append(f"execution {row['id']}: {row['execution_status']}")
    faults = sum(not what.what.startswith("slow") for what in trial.arena.injected)
    if unknown and not faults:
        wrong.append(f"{unknown} outcomes are unknown although nothing was hurt")
    if unknown:
        trial.figures["unknown effects"] = str(unknown)
    return wrong


async def _executions(trial: Trial) -> list[Any]:
    return await trial.arena.system.sql(
        "SELECT e.id::text, e.tool_name, e.arguments, e.execution_status, e.attempt"
        " FROM tool_executions e JOIN turns t ON t.id = e.turn_id WHERE t.project_id = ANY($1)",
        _projects(trial),
    )


def _key(row: Any) -> str:
    """Name of the effect a call was to have; empty where the model's arguments name none."""
    try:
        return str(json.loads(row["arguments"])["key"])
    except (ValueError, TypeError, LookupError):
        return ""


async def i7(trial: Trial) -> list[str]:
    """No question was put to the model more often than its retries allow."""
    calls = Counter[str]()
    for call in trial.arena.system.model.calls:
        calls[call.user_text] += 1
    return [
        f"{asked.client_message_id}: {calls[asked.content]} calls"
        for asked in trial.asked
        if calls[asked.content] > asked.most_calls
    ]


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
    secrets = [CANARY_KEY, PASSWORD, ADMIN_PASSWORD]
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
            _projects(trial),
        )
    }
    wrong = []
    known = Counter[str]()
    for row in await _executions(trial):
        if row["attempt"] and not audited.get(row["id"]):
            wrong.append(f"execution {row['id']} ({row['execution_status']}) is not in the audit")
        known[f"{row['tool_name']} {_key(row)}"] += row["attempt"]
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


async def i15(trial: Trial) -> list[str]:
    """After healing, a new question is answered within five seconds on every edge."""
    wrong = []
    for index in range(len(trial.arena.system.edges)):
        person = Person(trial.arena, trial.tenants[0], "ada", index)
        await person.arrive()
        conversation = await trial.conversation(person)
        asked = trial.question(person, conversation, "plain")
        began = time.monotonic()
        await trial.converse(person, asked, "plain")
        seconds = (asked.ended_at or time.monotonic()) - began
        if seconds > RIGHT_AWAY_SECONDS or asked.status != "completed":
            wrong.append(f"edge {index}: {asked.status or 'no end'} after {seconds:.1f} s")
        await person.leave()
    return wrong


# I14 (neighbours unharmed) belongs to the scenarios that hurt one tenant alone; they judge it.
CHECKS: dict[str, Check] = {
    "I15": i15, "I1": i1, "I2": i2, "I3": i3, "I4": i4, "I5": i5, "I6": i6, "I7": i7, "I8": i8,
    "I9": i9, "I10": i10, "I11": i11, "I12": i12, "I13": i13,
}  # fmt: skip


async def judge(trial: Trial) -> None:
    """Hold everything against the invariants."""
    for name, check in CHECKS.items():
        try:
            trial.checks[name] = await check(trial)
        except Exception as broken:  # noqa: BLE001 -- a check that cannot look is a violation
            trial.checks[name] = [f"could not be checked: {type(broken).__name__}: {broken}"]
