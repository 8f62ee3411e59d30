"""Who may decide, how many must, about what: held against a model that knows nothing of rows."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from store import (
    conversations,
    decisions,
    grants,
    people,
    projects,
    questions,
    tenants,
    turns,
    waiting,
)
from store.database import Database, clock
from store.decisions import Decided, Word
from store.errors import Conflict, Forbidden, Invalid, NotFound, Refusal
from store.principal import Principal
from store.shapes import TemporalLinks
from store.tables import (
    AuditEntry,
    Message,
    ProjectMember,
    ToolDecision,
    ToolExecution,
    Turn,
)
from store.terms import Terms

LINKS = TemporalLinks("", "default")
ORIGINAL = {"path": "a", "n": 1}
# What a person may send: nothing, what the model sent, or one of two changes.
ARGUMENTS: tuple[dict[str, Any] | None, ...] = (
    None,
    ORIGINAL,
    {"path": "b", "n": 1},
    {"path": "c"},
)
SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["path"],
    "additionalProperties": False,
}
RANKS = {"viewer": 1, "asker": 2, "joiner": 2, "editor": 2, "owner": 3, "owner2": 3, "admin": 4}
NEEDED = {"editor": 2, "owner": 3, "admin": 4}


@dataclass
class Desk:
    """A project with people of every kind, and calls to decide about."""

    database: Database
    tenant_id: UUID
    project_id: UUID
    people: dict[str, Principal]

    async def call(self, terms: Terms, *, joined: bool = True) -> UUID:
        """A call of the asker's turn that asks on these terms."""
        asker = self.people["asker"]
        async with self.database.tenant_session(self.tenant_id) as session:
            conversation = await conversations.create(session, asker, self.project_id, "Title")
            accepted = await turns.accept(session, asker, conversation.id, "do it", None)
            turn = await session.get_one(Turn, accepted.turn_id)
            turn.status, turn.steps = "running", 1
            message = self.message(turn, 1, role="assistant", step=1)
            session.add(message)
            if joined:
                joiner = self.people["joiner"]
                session.add(self.message(turn, 2, role="user", user_id=joiner.user_id))
            await session.flush()
            row = ToolExecution(
                id=uuid4(), tenant_id=self.tenant_id, turn_id=turn.id, message_id=message.id,
                position=0, tool_call_id="c", tool_name="write_file", tool_parameters=ORIGINAL,
                arguments='{"path":"a","n":1}', queue="tools-files", effect="once",
                argument_schema=SCHEMA, attempt=0,
            )  # fmt: skip
            session.add(row)
            questions.ask(row, terms, await clock(session))
            await session.flush()
            await waiting.review(session, turn)
            return row.id

    def message(self, turn: Turn, position: int, **more: Any) -> Message:
        return Message(
            id=uuid4(), tenant_id=self.tenant_id, conversation_id=turn.conversation_id,
            turn_id=turn.id, turn_number=turn.number, position=position, content="",
            status="complete", epoch=1, tool_calls=[], extra={}, **more,
        )  # fmt: skip

    async def says(self, who: str, call: UUID, word: Word) -> Decided:
        async with self.database.tenant_session(self.tenant_id) as session:
            return await decisions.decide(session, self.people[who], call, word, LINKS)

    async def row(self, call: UUID) -> ToolExecution:
        async with self.database.tenant_session(self.tenant_id) as session:
            return await session.get_one(ToolExecution, call)

    async def turn(self, call: UUID) -> Turn:
        async with self.database.tenant_session(self.tenant_id) as session:
            row = await session.get_one(ToolExecution, call)
            return await session.get_one(Turn, row.turn_id)

    async def covered(self, call: UUID, terms: Terms) -> bool:
        async with self.database.tenant_session(self.tenant_id) as session:
            row = await session.get_one(ToolExecution, call)
            turn = await session.get_one(Turn, row.turn_id)
            return await decisions.covers(session, turn, row, terms)

    async def set_role(self, who: str, role: str) -> None:
        async with self.database.tenant_session(self.tenant_id) as session:
            await session.execute(
                update(ProjectMember)
                .where(ProjectMember.user_id == self.people[who].user_id)
                .values(role=role)
            )


@pytest.fixture(scope="module")
async def desk(database: Database) -> Desk:
    tenant_id, domain = uuid4(), f"t{uuid4().hex[:10]}.test"
    found: dict[str, Principal] = {}
    async with database.tenant_session(tenant_id) as session:
        await tenants.add(session, tenant_id, domain, domain.split(".")[0], [domain])
        tenant = await tenants.get(session)
        tenant.limits = {"messages_per_minute": 100_000, "concurrent_turns": 10_000}
        project_id = None
        for name in ("owner", "owner2", "asker", "joiner", "editor", "viewer", "admin", "outsider"):
            role = "admin" if name == "admin" else "member"
            user = await people.add(session, tenant_id, f"{name}@{domain}", name.title(), role)
            found[name] = Principal(tenant_id, user.id, user.email, user.name, user.role, False)
            if project_id is None:
                project_id = (await projects.add(session, tenant_id, user.id, "Shop")).id
            elif name not in ("admin", "outsider"):
                member = {"viewer": "viewer", "owner2": "owner"}.get(name, "editor")
                session.add(
                    ProjectMember(
                        tenant_id=tenant_id, project_id=project_id, user_id=user.id, role=member
                    )
                )
    assert project_id is not None
    return Desk(database, tenant_id, project_id, found)


@dataclass
class Model:
    """The rules, once more."""

    terms: Terms
    proposal: dict[str, Any] | None = None
    votes: list[str] = field(default_factory=list)
    outcome: str = ""
    by: str = ""

    def hears(self, who: str, word: Word) -> type[Refusal] | str:
        """The refusal, or ``duplicate`` or ``heard``."""
        if word.decision == "deny" and word.arguments is not None:
            return Invalid
        if who == "outsider":
            return NotFound
        if self.outcome:
            return "duplicate"
        if RANKS[who] < NEEDED[self.terms.approvers]:
            return Forbidden
        if word.decision == "deny":
            self.outcome, self.by = "denied", who
            return "heard"
        if self.terms.not_asker and who in ("asker", "joiner"):
            return Forbidden
        wanted = None if word.arguments == ORIGINAL else word.arguments
        if wanted != self.proposal:
            if word.arguments is None:
                return Conflict
            self.proposal, self.votes = wanted, []
        elif who in self.votes:
            return "duplicate"
        self.votes.append(who)
        if len(self.votes) >= self.terms.approvals:
            self.outcome, self.by = "approved", who
        return "heard"


@pytest.mark.parametrize("seed", range(60))
async def test_any_words_in_any_order_lead_to_what_the_rules_say(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    terms = Terms(chance.choice(list(NEEDED)), chance.choice((1, 2, 2)), chance.random() < 0.5, 60)
    call, model = await desk.call(terms), Model(terms)
    who = [*RANKS, "outsider", "owner", "editor", "admin"]
    for _ in range(12):
        word = Word(
            "deny" if chance.random() < 0.08 else "approve",
            chance.choice(ARGUMENTS) if chance.random() < 0.5 else None,
        )
        person = chance.choice(who)
        expected = model.hears(person, word)
        said = f"{terms} {person}: {word}"
        if isinstance(expected, str):
            decided = await desk.says(person, call, word)
            assert decided.duplicate == (expected == "duplicate"), said
            assert decided.tell == (expected == "heard" and bool(model.outcome)), said
        else:
            with pytest.raises(expected):
                await desk.says(person, call, word)
        row = await desk.row(call)
        view = questions.shown(row)
        assert view is not None
        assert (view.decision or "") == model.outcome, said
        assert view.arguments == model.proposal, said
        if model.outcome != "denied":
            assert [vote.user.name for vote in view.votes] == [n.title() for n in model.votes]
        status = {"": "awaiting_approval", "approved": "pending", "denied": "failed"}
        assert row.execution_status == status[model.outcome], said
        turn = await desk.turn(call)
        assert turn.status == ("running" if model.outcome else "awaiting_approval")
        assert (turn.waiting_since is None) == bool(model.outcome)
        if model.outcome:
            assert view.decided_by is not None
            assert view.decided_by.name == model.by.title()
            assert await desk.covered(call, terms) == (model.outcome == "approved")


async def test_all_at_once_is_one_after_the_other(desk: Desk) -> None:
    """Two approvals are needed and five people answer in the same moment: two count."""
    for _ in range(5):
        call = await desk.call(Terms("editor", 2, True))
        words = [desk.says(who, call, Word("approve"))
                 for who in ("editor", "owner", "owner2", "admin")]  # fmt: skip
        heard = await asyncio.gather(*words)
        assert sorted(each.duplicate for each in heard) == [False, False, True, True]
        assert sum(each.tell for each in heard) == 1
        async with desk.database.tenant_session(desk.tenant_id) as session:
            rows = await session.scalars(
                select(ToolDecision).where(ToolDecision.tool_execution_id == call)
            )
            assert len(rows.all()) == 2


async def test_an_approval_counts_while_its_giver_may_give_it(desk: Desk) -> None:
    call = await desk.call(Terms("editor", 2))
    await desk.says("editor", call, Word("approve"))
    await desk.set_role("editor", "viewer")
    try:
        second = await desk.says("owner", call, Word("approve"))
        assert second.execution.execution_status == "awaiting_approval"
        third = await desk.says("admin", call, Word("approve"))
        assert third.execution.execution_status == "pending"
    finally:
        await desk.set_role("editor", "editor")
    # Once decided it stands, whatever becomes of them.
    await desk.set_role("owner2", "viewer")
    assert await desk.covered(call, Terms("editor", 2))
    await desk.set_role("owner2", "owner")


async def test_a_question_has_its_time(desk: Desk) -> None:
    call = await desk.call(Terms(expires_minutes=90))
    async with desk.database.tenant_session(desk.tenant_id) as session:
        row = await session.get_one(ToolExecution, call)
        assert row.expires_at is not None
        assert (
            timedelta(minutes=89) < row.expires_at - await clock(session) <= timedelta(minutes=90)
        )
        row.expires_at = await clock(session) - timedelta(seconds=1)
    late = await desk.says("editor", call, Word("approve"))
    assert (late.duplicate, late.tell) == (True, True)
    assert late.execution.execution_status == "failed"
    assert late.execution.error_code == "denied"
    assert "expired" in (late.execution.error_message or "")
    async with desk.database.tenant_session(desk.tenant_id) as session:
        audited = await session.scalars(
            select(AuditEntry.action).where(AuditEntry.tool_execution_id == call)
        )
        assert list(audited) == ["tool.expire"]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({}, "arguments"),
        ({"path": 1}, "arguments.path"),
        ({"path": "a", "n": 1.0}, "arguments.n"),
        ({"path": "a", "n": True}, "arguments.n"),
        ({"path": "a", "more": 1}, "arguments"),
        ({"path": "a\0"}, "arguments"),
        ({"path": "\ud800"}, "arguments"),
        ({"path": "a", "n": 2**70}, "arguments"),
        ({"path": "a" * 300_000}, "arguments"),
        ({"path": float("nan")}, "arguments"),
    ],
)
async def test_arguments_that_do_not_fit_change_nothing(
    desk: Desk, wrong: dict[str, Any], where: str
) -> None:
    call = await desk.call(Terms())
    before = (await desk.row(call)).approval
    with pytest.raises(Invalid) as refused:
        await desk.says("editor", call, Word("approve", wrong))
    assert refused.value.specific_code == "invalid_arguments"
    assert refused.value.errors is not None
    assert refused.value.errors[0]["field"] == where
    assert (await desk.row(call)).approval == before


async def test_true_is_not_one(desk: Desk) -> None:
    """Arguments that are equal to Python and different to a tool are different."""
    call = await desk.call(Terms(approvals=2))
    async with desk.database.tenant_session(desk.tenant_id) as session:
        row = await session.get_one(ToolExecution, call)
        row.argument_schema = {"type": "object"}
    await desk.says("editor", call, Word("approve", {"n": True}))
    second = await desk.says("owner", call, Word("approve", {"n": 1}))
    assert second.execution.execution_status == "awaiting_approval"


@pytest.mark.parametrize("schema", [{"$ref": "http://127.0.0.1:9/never"}, {"$ref": "#"}])
async def test_a_schema_from_elsewhere_fetches_nothing(desk: Desk, schema: dict[str, Any]) -> None:
    call = await foreign(desk, schema)
    async with asyncio.timeout(5):
        with pytest.raises(Invalid, match="cannot be followed"):
            await desk.says("editor", call, Word("approve", {"path": "b"}))


async def test_a_schema_from_elsewhere_hangs_nobody(desk: Desk) -> None:
    text = {"type": "string", "pattern": "^(a+)+$"}
    call = await foreign(desk, {"type": "object", "properties": {"path": text}})
    async with asyncio.timeout(5):
        await desk.says("editor", call, Word("approve", {"path": "a" * 60 + "!"}))


async def foreign(desk: Desk, schema: dict[str, Any]) -> UUID:
    """A call of a tool that a server of somebody else's describes."""
    call = await desk.call(Terms())
    async with desk.database.tenant_session(desk.tenant_id) as session:
        row = await session.get_one(ToolExecution, call)
        row.argument_schema, row.tool_name = schema, "mcp__evil__tool"
    return call


async def test_a_grant_is_no_more_than_was_given(desk: Desk) -> None:
    call = await desk.call(Terms("editor", 2), joined=False)
    await desk.says("editor", call, Word("approve", scope="conversation"))
    await desk.says("owner", call, Word("approve", scope="turn"))

    async def holds(terms: Terms, effect: str = "once") -> bool:
        async with desk.database.tenant_session(desk.tenant_id) as session:
            row = await session.get_one(ToolExecution, call)
            turn = await session.get_one(Turn, row.turn_id)
            found = await grants.covering(session, turn, "write_file", effect, terms)
            assert found is None or found.turn_id == turn.id, "the lesser of the two scopes"
            return found is not None

    assert await holds(Terms("editor", 2))
    assert await holds(Terms("editor", 1))
    assert not await holds(Terms("owner", 1))
    assert not await holds(Terms("editor", 1, True))
    assert not await holds(Terms("editor", 1), effect="idempotent")
    await desk.set_role("editor", "viewer")
    try:
        assert not await holds(Terms("editor", 2)), "one of its givers could not give it now"
    finally:
        await desk.set_role("editor", "editor")
    assert await holds(Terms("editor", 2))
    async with desk.database.tenant_session(desk.tenant_id) as session:
        row = await session.get_one(ToolExecution, call)
        turn = await session.get_one(Turn, row.turn_id)
        joiner = desk.people["joiner"].user_id
        session.add(desk.message(turn, 3, role="user", user_id=joiner))
    assert not await holds(Terms("editor", 2)), "somebody else has written in the turn"


@pytest.mark.parametrize(
    ("word", "why"),
    [
        (Word("deny", {"path": "a"}), "no arguments"),
        (Word("deny", scope="turn"), "no scope"),
        (Word("approve", scope="for ever"), "one of"),
        (Word("approve", note="n" * 501), "500"),
    ],
)
async def test_a_word_that_makes_no_sense(desk: Desk, word: Word, why: str) -> None:
    call = await desk.call(Terms())
    with pytest.raises(Invalid, match=why):
        await desk.says("editor", call, word)
