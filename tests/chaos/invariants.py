"""What must hold at every quiet moment, whatever was done: I1 to I15 of docs/reliability.md.

Each check reads the database past every policy, the clients' folded states, the log, and what was
counted outside (the model server's calls, the sink of effects). A check returns what is wrong, in
words; an empty list is a pass.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.chaos.load import Trial
from tests.chaos.people import Person
from tests.chaos.rows import executions, key_of, projects
from tests.chaos.scans import i8, i9, i10, i11, i12, i13
from tests.client import essence, fetch

TOKEN = re.compile(r"‹e(\d+)\.(\d{4,})›")
RIGHT_AWAY_SECONDS = 5.0

Check = Callable[[Trial], Awaitable[list[str]]]


async def i1(trial: Trial) -> list[str]:
    """Every acked message is stored once; one without an ack at most once."""
    rows = await trial.arena.system.sql(
        "SELECT m.client_message_id, m.id::text, count(t.id) AS turns FROM messages m"
        " JOIN conversations c ON c.id = m.conversation_id"
        " LEFT JOIN turns t ON t.message_id = m.id"
        " WHERE c.project_id = ANY($1) AND m.role = 'user' GROUP BY m.id",
        projects(trial),
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
        projects(trial),
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
        projects(trial),
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
        await asyncio.sleep(0.2)


async def i5(trial: Trial) -> list[str]:
    """A final text has the tokens of one attempt, each once, in order; so has what was shown."""
    rows = await trial.arena.system.sql(
        "SELECT t.id::text, m.content, m.status FROM messages m JOIN turns t ON t.id = m.turn_id"
        " WHERE t.project_id = ANY($1) AND m.role = 'assistant'",
        projects(trial),
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
    for person in trial.people:
        wrong += _mixed(person)
    return wrong


def _mixed(person: Person) -> list[str]:
    """Epochs under which this person was shown tokens of more than one generation."""
    generations: dict[tuple[str, int], set[str]] = {}
    for heard in person.room.frames:
        data = heard["data"]
        if heard["type"] == "project_joined":
            shown = data["live"]
        elif heard["type"] == "assistant_response":
            shown = [data]
        else:
            continue
        for entry in shown:
            found = {epoch for epoch, _ in TOKEN.findall(entry["content"])}
            generations.setdefault((entry["message_id"], entry["epoch"]), set()).update(found)
    return [
        f"{person.who} was shown generations {sorted(found)} of {message} as epoch {epoch}"
        for (message, epoch), found in generations.items()
        if len(found) > 1
    ]


async def i6(trial: Trial) -> list[str]:
    """An effect happened at most once, and exactly once where it is said to be done."""
    effects = trial.arena.effects()
    wrong = [
        f"{name}: {count} times"
        for name, count in effects.items()
        if name.startswith("pay ") and count > 1
    ]
    unknown = 0
    for row in await executions(trial):
        if row["tool_name"] != "pay":
            continue
        count = effects[f"pay {key_of(row)}"]
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


async def i15(trial: Trial) -> list[str]:
    """After healing, a new question is answered within five seconds on every edge.

    The first one may still be handed to somebody who has died; a second one may not.
    """
    edges = range(len(trial.arena.system.edges))
    return [
        slow
        for index in edges
        if await _slow_on(trial, index) and (slow := await _slow_on(trial, index))
    ]


async def _slow_on(trial: Trial, index: int) -> str | None:
    """Ask on an edge; what was wrong, if anything."""
    person = Person(trial.arena, trial.tenants[0], "ada", index)
    await person.arrive()
    asked = trial.question(person, await trial.conversation(person), "plain")
    began = time.monotonic()
    await trial.converse(person, asked, "plain")
    seconds = (asked.ended_at or time.monotonic()) - began
    await person.leave()
    if seconds <= RIGHT_AWAY_SECONDS and asked.status == "completed":
        return None
    return (
        f"edge {index}: {asked.status or 'no end'} after {seconds:.1f} s,"
        f" acked after {asked.acked_at - began:.1f} s, turn {asked.turn_id}"
    )


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
