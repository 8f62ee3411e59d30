"""P27: conversations of thousands of turns, and turns of hundreds of steps."""

import json
import time
import uuid

from temporalio.client import Client

from store.history import MAX_HISTORY_CHARS, MAX_HISTORY_MESSAGES
from tests.limits.conftest import FULL
from tests.limits.giant_model import GiantModel
from tests.limits.histories import MAX_EVENTS, must_be_small
from tests.system import System, Team, checked
from workflows import policies

TURNS = 2_000
STEPS = 200 if FULL else 90


async def with_past(system: System, team: Team, turns: int, chars: int = 400) -> str:
    """A conversation that has had so many turns already."""
    conversation = await team.conversation("long")
    one = uuid.UUID
    arguments = (one(team.tenant_id), one(team.project_id), one(conversation),
                 one(team.people["ada"]), turns, chars)  # fmt: skip
    await system.sql(
        """
        WITH made AS (
            INSERT INTO turns (id, tenant_id, project_id, conversation_id, message_id, number,
                               status, asked_by, created_at, steps, usage)
            SELECT gen_random_uuid(), $1, $2, $3, gen_random_uuid(), n, 'completed', $4,
                   now() - make_interval(secs => ($5 - n) * 60), 1, '{}'
            FROM generate_series(1, $5) n
            RETURNING id, message_id, number, created_at
        )
        INSERT INTO messages (id, tenant_id, conversation_id, turn_id, turn_number, position, step,
                              role, user_id, content, status, epoch, tool_calls, metadata,
                              created_at)
        SELECT message_id, $1, $3, id, number, 0, NULL::int, 'user', $4, 'question ' || number,
               'complete', 0, '[]'::jsonb, '{}'::jsonb, created_at FROM made
        UNION ALL
        SELECT gen_random_uuid(), $1, $3, id, number, 1, 1, 'assistant', NULL::uuid,
               rpad('answer ' || number || ' ', $6, 'x'), 'complete', 1, '[]'::jsonb,
               '{}'::jsonb, created_at
        FROM made
        """,
        *arguments,
    )
    await system.sql("UPDATE conversations SET turn_count = $2 WHERE id = $1",
                     uuid.UUID(conversation), turns)  # fmt: skip
    return conversation


async def test_a_conversation_of_two_thousand_turns(
    system: System, giants: Team, giant: GiantModel, temporal: Client
) -> None:
    team = await giants.elsewhere()
    conversation = await with_past(system, team, TURNS)
    started = time.monotonic()
    page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages?limit=50"))
    assert time.monotonic() - started < 2
    assert [m["content"] for m in page["items"]][-2] == f"question {TURNS}"
    async with team.room() as room:
        ack = await room.ask(conversation, "and now #say:short")
        turn_id = ack["data"]["turn_id"]
        assert await room.turn(turn_id, timeout=60) == "completed"
    *_, call = giant.calls_for("and now")
    messages = call.body["messages"]
    assert len(messages) <= MAX_HISTORY_MESSAGES + 1
    assert len(json.dumps(messages)) <= MAX_HISTORY_CHARS * 1.2
    # The newest are there, in order, and the oldest of them is a question.
    assert messages[1]["role"] == "user"
    assert [m["content"].split()[0] for m in messages[-3:]] == ["question", "answer", "and"]
    (run,) = await must_be_small(temporal, turn_id)
    assert run.events < 20


async def test_old_turns_are_left_out_by_size_too(
    system: System, giants: Team, giant: GiantModel
) -> None:
    team = await giants.elsewhere()
    conversation = await with_past(system, team, 30, chars=50_000)
    async with team.room() as room:
        ack = await room.ask(conversation, "by size #say:short")
        assert await room.turn(ack["data"]["turn_id"], timeout=60) == "completed"
    (call,) = giant.calls_for("by size")
    assert len(json.dumps(call.body["messages"])) <= MAX_HISTORY_CHARS * 1.2
    assert call.body["messages"][1]["role"] == "user"


async def test_a_turn_of_hundreds_of_steps_is_several_small_runs(
    giants: Team, giant: GiantModel, temporal: Client
) -> None:
    team = await giants.elsewhere()
    marker = f"#steps:{STEPS} #say:arrived"
    async with team.room() as room:
        ack = await room.ask(await team.conversation(), marker)
        turn_id = ack["data"]["turn_id"]
        assert await room.turn(turn_id, timeout=110) == "completed"
        assert len(room.state.executions) == STEPS
        assert {row["status"] for row in room.state.executions.values()} == {"completed"}
    runs = await must_be_small(temporal, turn_id)
    print(f"{STEPS} steps: {runs}")
    assert len(runs) == 1 + sum(run.events for run in runs[:-1]) // policies.MAX_RUN_EVENTS
    assert len(runs) >= 2
    assert policies.MAX_RUN_EVENTS * 2 <= MAX_EVENTS
    calls = giant.calls_for(marker)
    assert len(calls) == STEPS + 1, "no step was asked for twice"
    assert calls[-1].body["messages"][1]["content"] == marker, "the question is still there"
