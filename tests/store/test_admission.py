"""Places of a tenant: never more than there are, none left free, and who came first goes first."""

import asyncio
import random
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import select, update

from embedded.postgres import Postgres
from store import conversations, people, projects, tenants, turns
from store.database import Database
from store.principal import Principal
from store.tables import Tenant, Turn
from workflows.types import OPEN_TURN_STATUSES, TurnRef, TurnStatus

PLACES = 3


@dataclass
class Office:
    """A tenant with three places, and what it was told to start."""

    database: Database
    principal: Principal
    project_id: UUID

    async def conversation(self) -> UUID:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            made = await conversations.create(session, self.principal, self.project_id, "Title")
            return made.id

    async def ask(self, conversation_id: UUID, on_busy: str | None = None) -> turns.Accepted:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            return await turns.accept(
                session, self.principal, conversation_id, "text", None, on_busy=on_busy
            )

    async def finish(self, turn_id: UUID | str) -> list[TurnRef]:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            return await turns.finish(session, UUID(str(turn_id)), TurnStatus.COMPLETED, "")

    async def stop(self, turn_id: UUID) -> turns.StopRequested:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            return await turns.request_stop(session, self.principal, turn_id)

    async def set_places(self, number: int, pace: int = 1_000) -> None:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            limits = {
                "messages_per_minute": 100_000,
                "concurrent_turns": number,
                "shared_turns_per_second": pace,
            }
            await session.execute(update(Tenant).values(limits=limits))

    async def admit(self) -> list[TurnRef]:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            return await turns.admit(session, self.principal.tenant_id)

    async def open_turns(self) -> list[Turn]:
        async with self.database.tenant_session(self.principal.tenant_id) as session:
            found = await session.scalars(
                select(Turn)
                .where(Turn.status.in_(OPEN_TURN_STATUSES))
                .order_by(Turn.created_at, Turn.id)
            )
            return list(found)

    async def check(self) -> None:
        """The one rule, held against the rows."""
        found = await self.open_turns()
        holding = [turn for turn in found if turn.admitted_at is not None]
        first: dict[UUID, Turn] = {}
        for turn in found:
            known = first.setdefault(turn.conversation_id, turn)
            if turn.number < known.number:
                first[turn.conversation_id] = turn
        assert len(holding) <= PLACES
        assert all(first[turn.conversation_id].id == turn.id for turn in holding)
        waiting = [turn for turn in first.values() if turn.admitted_at is None]
        assert not waiting or len(holding) == PLACES, "a turn waits beside a free place"


async def an_office(database: Database) -> Office:
    tenant_id, domain = uuid4(), f"t{uuid4().hex[:10]}.test"
    async with database.tenant_session(tenant_id) as session:
        await tenants.add(session, tenant_id, domain, domain.split(".")[0], [domain])
        user = await people.add(session, tenant_id, f"ada@{domain}", "Ada", "member")
        project = await projects.add(session, tenant_id, user.id, "Shop")
    principal = Principal(tenant_id, user.id, user.email, user.name, user.role, False)
    office = Office(database, principal, project.id)
    await office.set_places(PLACES)
    return office


@pytest.fixture
async def office(database: Database) -> Office:
    return await an_office(database)


def ids(refs: list[TurnRef] | tuple[TurnRef, ...]) -> list[str]:
    return [ref.turn_id for ref in refs]


async def test_who_came_first_goes_first(office: Office) -> None:
    asked = [await office.ask(await office.conversation()) for _ in range(PLACES + 3)]
    assert [len(accepted.start) for accepted in asked] == [1] * PLACES + [0] * 3
    for place in range(3):
        assert ids(await office.finish(asked[place].turn_id)) == [
            str(asked[PLACES + place].turn_id)
        ]
        await office.check()
    assert await office.finish(asked[PLACES].turn_id) == []


async def test_order_within_a_conversation_is_sacred(office: Office) -> None:
    busy, other = await office.conversation(), await office.conversation()
    first = await office.ask(busy)
    second, third = await office.ask(busy), await office.ask(busy)
    await office.set_places(1)
    waiting = await office.ask(other)
    assert not second.start
    assert not waiting.start
    # `second` has waited longer than the other conversation's turn.
    assert ids(await office.finish(first.turn_id)) == [str(second.turn_id)]
    assert ids(await office.finish(second.turn_id)) == [str(third.turn_id)]
    assert ids(await office.finish(third.turn_id)) == [str(waiting.turn_id)]


async def test_a_repeated_ending_names_its_successors_again(office: Office) -> None:
    await office.set_places(1)
    first = await office.ask(await office.conversation())
    second = await office.ask(await office.conversation())
    for _ in range(3):
        assert ids(await office.finish(first.turn_id)) == [str(second.turn_id)]


async def test_a_stop_ends_what_waits_for_a_place(office: Office) -> None:
    await office.set_places(1)
    conversation = await office.conversation()
    running = await office.ask(await office.conversation())
    waiting, behind = await office.ask(conversation), await office.ask(conversation)
    stopped = await office.stop(waiting.turn_id)
    assert (stopped.turn.status, stopped.cancel, stopped.start) == ("cancelled", False, [])
    asked = await office.stop(running.turn_id)
    assert (asked.turn.status, asked.cancel) == ("queued", True)
    assert ids(await office.finish(running.turn_id)) == [str(behind.turn_id)]


async def test_an_interruption_takes_the_turn_of_what_waits(office: Office) -> None:
    await office.set_places(1)
    conversation = await office.conversation()
    running = await office.ask(await office.conversation())
    await office.ask(conversation)
    instead = await office.ask(conversation, "interrupt")
    assert instead.interrupted == []
    assert [turn.id for turn in await office.open_turns()] == [running.turn_id, instead.turn_id]
    assert ids(await office.finish(running.turn_id)) == [str(instead.turn_id)]


async def test_a_message_joins_a_turn_that_waits_for_a_place(office: Office) -> None:
    await office.set_places(1)
    conversation = await office.conversation()
    running = await office.ask(await office.conversation())
    waiting = await office.ask(conversation)
    joined = await office.ask(conversation, "steer")
    assert (joined.turn_id, joined.status) == (waiting.turn_id, "queued")
    assert list(joined.start) == []
    assert ids(await office.finish(running.turn_id)) == [str(waiting.turn_id)]
    joined = await office.ask(conversation, "steer")
    assert ids(list(joined.start)) == [str(waiting.turn_id)], "a second start is harmless"


async def test_more_places_are_given_out_by_whoever_looks(office: Office) -> None:
    await office.set_places(1)
    asked = [await office.ask(await office.conversation()) for _ in range(4)]
    await office.set_places(3)
    assert ids(await office.admit()) == [str(accepted.turn_id) for accepted in asked[1:3]]
    assert await office.admit() == []


def waits(asked: list[turns.Accepted]) -> list[float]:
    return [accepted.start[0].wait_seconds for accepted in asked]


async def test_beside_others_turns_begin_at_a_pace(database: Database, office: Office) -> None:
    await (other := await an_office(database)).ask(await other.conversation())
    await office.set_places(6, pace=1)
    asked = [await office.ask(await office.conversation()) for _ in range(8)]
    # Three begin together, the others one after another.
    assert [round(seconds) for seconds in waits(asked[:6])] == [0, 0, 0, 1, 2, 3]
    assert not asked[6].start
    # A place that becomes free is given at once, for the moment that is next.
    (successor,) = await office.finish(asked[0].turn_id)
    assert successor.turn_id == str(asked[6].turn_id)
    assert round(successor.wait_seconds) == 4
    # Asking itself waits for nobody, and a pace is one tenant's own.
    assert waits([await other.ask(await other.conversation())]) == [0]


async def test_a_tenant_alone_has_no_pace(server: Postgres, office: Office) -> None:
    owner = await asyncpg.connect(server.owner_dsn)
    await owner.execute(
        "UPDATE turns SET created_at = created_at - interval '61 seconds' WHERE tenant_id <> $1",
        office.principal.tenant_id,
    )
    await owner.close()
    await office.set_places(6, pace=1)
    asked = [await office.ask(await office.conversation()) for _ in range(6)]
    assert waits(asked) == [0] * 6


@pytest.mark.parametrize("seed", range(4))
async def test_all_at_once(office: Office, seed: int) -> None:
    """Accepts, ends and stops of one tenant at the same moment, round after round."""
    chance = random.Random(seed)
    talks = [await office.conversation() for _ in range(6)]
    for _ in range(12):
        acts = [office.ask(chance.choice(talks), chance.choice([None, "interrupt", "steer"]))
                for _ in range(4)]  # fmt: skip
        found = await office.open_turns()
        holding = [turn.id for turn in found if turn.admitted_at is not None]
        waiting = [turn.id for turn in found if turn.admitted_at is None]
        acts += [office.finish(turn_id) for turn_id in holding if chance.random() < 0.7]
        acts += [office.stop(turn_id) for turn_id in waiting if chance.random() < 0.3]
        chance.shuffle(acts)
        await asyncio.gather(*acts)
        await office.check()
    while found := await office.open_turns():
        await asyncio.gather(
            *(office.finish(turn.id) for turn in found if turn.admitted_at is not None)
        )
        await office.check()
