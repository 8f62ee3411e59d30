"""What housekeeping leaves of a room's log is what the settings say."""

from typing import Any, cast

from sqlalchemy import text
from temporalio.testing import ActivityEnvironment

from activities.housekeeping import HousekeepingSweep
from store import rooms
from tests.activities.office import Office
from workflows.events import TurnStatusChanged


async def swept(office: Office, *, events: int, seconds: int) -> list[int]:
    """Numbers that a sweep under these settings leaves."""
    settings = office.settings.model_copy(
        update={"replay_events": events, "replay_seconds": seconds}
    )
    # Nothing here has a run to be compared with.
    nobody = cast("Any", None)
    housekeeping = HousekeepingSweep(
        database=office.database, settings=settings, client=nobody, runs=nobody
    )
    await ActivityEnvironment().run(housekeeping.sweep)
    async with office.database.tenant_session(office.principal.tenant_id) as session:
        left = await rooms.read(session, office.project_id, 0, 1000)
    return [event.seq for event in left]


async def test_the_log_keeps_the_newest_and_the_young(office: Office) -> None:
    tenant = office.principal.tenant_id
    async with office.database.tenant_session(tenant) as session:
        event = TurnStatusChanged(
            turn_id=office.project_id, conversation_id=office.conversation_id,
            message_id=office.project_id, status="completed",
        )  # fmt: skip
        head = await rooms.append(session, office.project_id, [event] * 20)
    async with office.database.tenant_session(tenant) as session:
        await session.execute(
            text(
                "UPDATE room_events SET created_at = now() - interval '90 seconds'"
                " WHERE project_id = :project AND seq <= :upto"
            ),
            {"project": office.project_id, "upto": head - 5},
        )
    everything = list(range(1, head + 1))
    assert await swept(office, events=5, seconds=120) == everything
    assert await swept(office, events=head, seconds=60) == everything
    assert await swept(office, events=8, seconds=60) == everything[-8:]
    assert await swept(office, events=2, seconds=60) == everything[-5:]
    assert await swept(office, events=2, seconds=0) == everything[-2:]
