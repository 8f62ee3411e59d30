"""How a turn ends, and how a lost tool call is given its outcome; both safe to repeat."""

from uuid import UUID

import pytest
from sqlalchemy import text as sql
from sqlalchemy import update
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.conversation import ConversationActivities
from activities.errors import textless
from store.tables import ToolExecution
from tests.activities.office import Office
from workflows.types import FinishInput, StepResult, ToolRunInput, TurnCode, TurnRef


@pytest.fixture
def turns(office: Office) -> ConversationActivities:
    return ConversationActivities(database=office.database, settings=office.settings)


async def called(office: Office) -> tuple[TurnRef, StepResult]:
    turn = await office.ask("#tool:look_up:{}")
    return turn, await office.reply(turn)


async def claim(office: Office, turn: TurnRef, effect: str) -> None:
    """As an executor does before it runs the tool."""
    async with office.database.tenant_session(turn.tenant_id) as session:
        await session.execute(
            update(ToolExecution)
            .where(ToolExecution.turn_id == UUID(turn.turn_id))
            .values(execution_status="executing", attempt=1, effect=effect)
        )


@pytest.mark.parametrize(
    ("claimed", "status", "code"),
    [
        (None, "failed", "unavailable"),
        ("read", "failed", "unavailable"),
        ("idempotent", "unknown", "outcome_unknown"),
        ("once", "unknown", "outcome_unknown"),
    ],
)
async def test_a_lost_call_is_settled_by_what_it_may_have_done(
    office: Office, turns: ConversationActivities, claimed: str | None, status: str, code: str
) -> None:
    turn, reply = await called(office)
    if claimed:
        await claim(office, turn, claimed)
    run = ToolRunInput(turn, reply.tool_calls[0])
    for _ in range(2):
        assert (await ActivityEnvironment().run(turns.settle_tool, run)).status == status
    (row,) = await office.executions(turn)
    assert (row.execution_status, row.error_code) == (status, code)


async def test_an_ending_names_the_turn_that_waits_and_is_safe_to_repeat(
    office: Office, turns: ConversationActivities
) -> None:
    turn, following = await office.ask("first"), await office.ask("second")
    await office.reply(turn)
    for status in ("completed", "failed", "completed"):
        ended = await ActivityEnvironment().run(turns.finish_turn, FinishInput(turn, status))
        assert ended.next_turn == following
    assert (await office.turn(turn)).status == "completed", "the first ending counts"
    said = [
        event["status"] for event in await office.statuses() if event["turn_id"] == turn.turn_id
    ]
    assert said == ["queued", "running", "completed"]
    last = await ActivityEnvironment().run(turns.finish_turn, FinishInput(following, "completed"))
    assert last.next_turn is None


@pytest.mark.parametrize("code", TurnCode)
async def test_every_code_ends_a_turn(
    office: Office, turns: ConversationActivities, code: TurnCode
) -> None:
    turn, _ = await called(office)
    status = "cancelled" if code is TurnCode.STOPPED else "failed"
    await ActivityEnvironment().run(turns.finish_turn, FinishInput(turn, status, code))
    row = await office.turn(turn)
    assert (row.status, row.code) == (status, code)
    assert [e.execution_status for e in await office.executions(turn)] == ["cancelled"]
    assert "{" not in (row.detail or "")


async def test_the_end_of_a_deleted_turn_is_nothing(turns: ConversationActivities) -> None:
    nobody = TurnRef(*(str(UUID(int=n)) for n in range(1, 5)))
    ended = await ActivityEnvironment().run(turns.finish_turn, FinishInput(nobody, "completed"))
    assert ended.next_turn is None


async def test_a_database_error_loses_its_words(office: Office) -> None:
    with pytest.raises(ApplicationError) as failed:
        async with textless(), office.database.session() as session:
            await session.execute(sql("SELECT CAST(:text AS json)"), {"text": "{a secret"})
    assert failed.value.__cause__ is None
    assert "secret" not in str(failed.value)
    assert failed.value.type == "DBAPIError"
    assert not failed.value.non_retryable
