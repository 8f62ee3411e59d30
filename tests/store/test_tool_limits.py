"""Limits on tool calls against the database itself: exact, however many ask at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, update

from embedded.postgres import Postgres
from store import conversations, people, projects, tenants, tool_limits, turns
from store.database import Database, clock
from store.limits import TenantLimits
from store.principal import Principal
from store.tables import Tenant, ToolExecution
from store.tool_limits import OverLimit
from tests.system import sqlalchemy_url
from workflows.types import Effect


@dataclass
class Shop:
    """A tenant with a turn of Ada's, and two processes that run its tools."""

    workers: list[Database]
    tenant_id: UUID
    turn_id: UUID
    message_id: UUID
    asked_by: UUID
    made: list[UUID] = field(default_factory=list)

    async def limit(self, **limits: int) -> None:
        async with self.workers[0].tenant_session(self.tenant_id) as session:
            await session.execute(update(Tenant).values(limits=limits))

    async def claim(self, worker: int = 0, asked_by: UUID | None = None) -> OverLimit | UUID:
        """Claim a new call, as the executor does."""
        execution_id = uuid4()
        async with self.workers[worker].tenant_session(self.tenant_id) as session:
            over = await tool_limits.over_limit(session, self.tenant_id, asked_by or self.asked_by)
            if over is not None:
                return over
            self.made.append(execution_id)
            await session.execute(
                insert(ToolExecution).values(
                    id=execution_id, tenant_id=self.tenant_id, turn_id=self.turn_id,
                    message_id=self.message_id, position=len(self.made), tool_call_id="c",
                    tool_name="look", tool_parameters={}, arguments="{}", queue="tools-files",
                    effect=Effect.READ, execution_status="executing",
                    started_at=await clock(session),
                )
            )  # fmt: skip
        return execution_id

    async def end(self, execution_id: UUID, size: int = 0, ago: float = 0) -> None:
        async with self.workers[0].tenant_session(self.tenant_id) as session:
            past = func.clock_timestamp() - timedelta(seconds=ago)
            await session.execute(
                update(ToolExecution)
                .where(ToolExecution.id == execution_id)
                .values(
                    execution_status="completed", finished_at=past, started_at=past,
                    result_bytes=size,
                )
            )  # fmt: skip


@pytest.fixture
async def shop(database: Database, server: Postgres) -> AsyncIterator[Shop]:
    other = Database(sqlalchemy_url(server.app_dsn), pool_size=5, application_name="test 2")
    tenant_id, domain = uuid4(), f"t{uuid4().hex[:10]}.test"
    async with database.tenant_session(tenant_id) as session:
        await tenants.add(session, tenant_id, domain, domain.split(".")[0], [domain])
        ada = await people.add(session, tenant_id, f"ada@{domain}", "Ada", "member")
        project = await projects.add(session, tenant_id, ada.id, "Shop")
        principal = Principal(tenant_id, ada.id, ada.email, ada.name, ada.role, False)
        thread = await conversations.create(session, principal, project.id, "Title")
        asked = await turns.accept(session, principal, thread.id, "text", None)
    yield Shop([database, other], tenant_id, asked.turn_id, asked.message_id, ada.id)
    await other.close()


def outcomes(claims: list[OverLimit | UUID]) -> Counter[str]:
    return Counter(claim.code if isinstance(claim, OverLimit) else "runs" for claim in claims)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"tool_calls_per_minute": 7}, "rate_limited"),
        ({"tool_calls_per_user_minute": 7}, "rate_limited"),
        ({"concurrent_tools": 7}, "busy"),
    ],
)
async def test_never_one_too_many(shop: Shop, limits: dict[str, int], code: str) -> None:
    await shop.limit(**limits)
    claims = await asyncio.gather(*(shop.claim(number % 2) for number in range(24)))
    assert outcomes(list(claims)) == {"runs": 7, code: 17}
    assert {c.rule for c in claims if isinstance(c, OverLimit)} == set(limits)


async def test_a_place_is_free_when_its_call_has_ended(shop: Shop) -> None:
    await shop.limit(concurrent_tools=2)
    first, second = await shop.claim(), await shop.claim(1)
    refused = await shop.claim()
    assert isinstance(refused, OverLimit)
    assert refused.passes
    assert isinstance(first, UUID)
    assert isinstance(second, UUID)
    await shop.end(first)
    assert isinstance(await shop.claim(1), UUID)
    assert isinstance(await shop.claim(), OverLimit)


async def test_another_person_has_calls_of_his_own(shop: Shop) -> None:
    await shop.limit(tool_calls_per_user_minute=1)
    assert isinstance(await shop.claim(), UUID)
    assert isinstance(await shop.claim(), OverLimit)
    assert isinstance(await shop.claim(asked_by=uuid4()), UUID)


async def test_it_says_when_to_try_again(shop: Shop) -> None:
    await shop.limit(tool_calls_per_minute=2)
    for ago in (50, 20, 5):
        await shop.limit(tool_calls_per_minute=3)
        made = await shop.claim()
        assert isinstance(made, UUID)
        await shop.end(made, ago=ago)
    # Three in the last minute, two are allowed: the second oldest has to go.
    await shop.limit(tool_calls_per_minute=2)
    refused = await shop.claim()
    assert isinstance(refused, OverLimit)
    seconds = int(refused.message.split("Try again in ")[1].split(" s")[0])
    assert 35 <= seconds <= 40
    await shop.limit(tool_calls_per_minute=3)
    refused = await shop.claim()
    assert isinstance(refused, OverLimit)
    assert int(refused.message.split("Try again in ")[1].split(" s")[0]) <= 10


async def test_bytes_are_those_of_the_last_minute(shop: Shop) -> None:
    await shop.limit(tool_result_bytes_per_minute=10_000)
    for size, ago in ((9_000, 61), (6_000, 30), (3_999, 10)):
        made = await shop.claim()
        assert isinstance(made, UUID)
        await shop.end(made, size, ago)
    made = await shop.claim()
    assert isinstance(made, UUID)
    await shop.end(made, 1)
    refused = await shop.claim()
    assert isinstance(refused, OverLimit)
    assert (refused.code, refused.passes) == ("over_budget", False)
    assert 25 <= int(refused.message.split("Try again in ")[1].split(" s")[0]) <= 30


async def test_tenants_do_not_count_each_other(shop: Shop, database: Database) -> None:
    await shop.limit(tool_calls_per_minute=1, concurrent_tools=1)
    assert isinstance(await shop.claim(), UUID)
    stranger = uuid4()
    async with database.tenant_session(stranger) as session:
        assert await tool_limits.over_limit(session, stranger, shop.asked_by) is None
        # Nor by naming another in the question: policies hold within the function.
        assert await tool_limits.over_limit(session, shop.tenant_id, shop.asked_by) is None


def test_every_limit_has_a_code() -> None:
    assert set(tool_limits._CODES) <= set(TenantLimits.model_fields)
