"""`generate_reply` against a Responses API: what was cut off is continued, and paid for once."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select

from activities.providers.responses import to_input
from store.tables import Draft, Message
from tests.activities.office import INSTALLATION_KEY, TENANT_KEY, Office
from tests.responses_server import Generated, ResponsesServer, expected
from workflows.types import StepInput, TurnRef, TurnStatus


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[ResponsesServer]:
    async with ResponsesServer().running() as running:
        yield running


@pytest.fixture(autouse=True)
async def kind(office: Office, upstream: ResponsesServer) -> None:
    await office.set_model(url=upstream.url, key=TENANT_KEY, model="stub", kind="responses")


def shown(office: Office, epoch: int) -> str:
    """What the room was shown of an attempt, token for token."""
    text = ""
    for frame in office.publisher.frames:
        data = json.loads(frame)["data"]
        if data["epoch"] == epoch:
            assert data["offset"] == len(text)
            text += data["content"]
    return text


async def until_shown(office: Office, words: bytes) -> None:
    async with asyncio.timeout(10):
        while words not in b"".join(office.publisher.frames):  # noqa: ASYNC110 -- grows elsewhere
            await asyncio.sleep(0.02)


async def draft(office: Office, turn: TurnRef) -> Draft | None:
    async with office.database.tenant_session(turn.tenant_id) as session:
        return await session.scalar(
            select(Draft).join(Message, Message.id == Draft.message_id)
            .where(Message.turn_id == UUID(turn.turn_id))
        )  # fmt: skip


def paid(upstream: ResponsesServer, marker: str) -> Generated:
    (one,) = upstream.of(marker)
    return one


# --- answers ------------------------------------------------------------------------------------


async def test_an_answer(office: Office, upstream: ResponsesServer) -> None:
    turn = await office.ask("plainly #text:20:200")
    result = await office.reply(turn)
    message = await office.message(turn)
    assert (result.answered, message.content) == (True, expected(1, 20))
    assert (message.status, message.generation) == ("complete", None)
    assert message.extra == {"finish_reason": "stop", "model": "stub"}
    assert (await office.turn(turn)).usage == {
        "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
    }  # fmt: skip
    assert shown(office, 1) == message.content
    one = paid(upstream, "plainly")
    assert one.headers["authorization"] == f"Bearer {TENANT_KEY}"
    assert (one.body["background"], one.body["stream"], one.body["store"]) == (True, True, True)
    assert one.body["tools"][0]["name"] == "look_up"
    assert one.body["tools"][0]["strict"] is False
    assert "You are the assistant" in one.body["instructions"]


async def test_an_answer_cut_by_length_says_so(office: Office) -> None:
    turn = await office.ask("#length #text:3")
    await office.reply(turn)
    message = await office.message(turn)
    assert (message.content, message.extra["finish_reason"]) == (expected(1, 3), "length")


async def test_tools(office: Office, upstream: ResponsesServer) -> None:
    turn = await office.ask('tools #tool:look_up:{"name":"a"} #tool:nope:{} #text:2')
    result = await office.reply(turn)
    rows = await office.executions(turn)
    assert [(r.tool_name, r.error_code) for r in rows] == [
        ("look_up", None), ("nope", "unknown_tool"),
    ]  # fmt: skip
    assert rows[0].tool_parameters == {"name": "a"}
    assert [ref.tool_execution_id for ref in result.tool_calls] == [str(rows[0].id)]
    assert (await office.reply(turn, step=2)).answered
    items = upstream.of("tools #tool")[-1].body["input"]
    kinds = [item.get("type", item.get("role")) for item in items]
    assert kinds == ["user", "function_call", "function_call", *["function_call_output"] * 2]
    assert {item["call_id"] for item in items[1:3]} == {item["call_id"] for item in items[3:]}
    assert "unknown_tool" in items[4]["output"]


@pytest.mark.parametrize("marker", ["badjson", "lengthcall"])
async def test_unreadable_calls_never_run(office: Office, marker: str) -> None:
    turn = await office.ask(f"#{marker}:1:look_up #text:2")
    assert (await office.reply(turn)).tool_calls == []
    (row,) = await office.executions(turn)
    assert row.error_code == "invalid_arguments"
    assert (await office.reply(turn, step=2)).answered


# --- continued ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 12, 39])
async def test_what_was_cut_off_is_continued(
    office: Office, upstream: ResponsesServer, place: int
) -> None:
    turn = await office.ask(f"#cut:{place} #text:40:100")
    error = await office.fails(turn)
    assert (error.type, error.non_retryable) == ("model_unavailable", False)
    one = paid(upstream, f"#cut:{place} #text:40")
    assert (await office.message(turn)).generation == one.id
    await office.reply(turn, attempt=2)
    message = await office.message(turn)
    assert (message.content, message.status, message.epoch) == (expected(1, 40), "complete", 2)
    assert shown(office, 2) == message.content, "every token once, from the beginning"
    assert paid(upstream, f"#cut:{place} #text:40") is one
    assert len(one.reads) == 2


async def test_it_is_continued_from_the_checkpoint(
    office: Office, upstream: ResponsesServer
) -> None:
    turn = await office.ask("checkpoint #cut:60 #text:80:100")
    await office.fails(turn)
    kept = await draft(office, turn)
    assert kept is not None
    assert kept.cursor is not None
    assert kept.content == expected(1, 60)[: len(kept.content)] != ""
    await office.reply(turn, attempt=2)
    assert paid(upstream, "checkpoint").reads == [None, kept.cursor]
    assert (await office.message(turn)).content == expected(1, 80)


async def test_without_a_checkpoint_it_is_read_again_and_not_paid_again(
    office: Office, upstream: ResponsesServer
) -> None:
    """The table of checkpoints is unlogged: a crash of PostgreSQL empties it."""
    turn = await office.ask("unlogged #cut:60 #text:80:100")
    await office.fails(turn)
    async with office.database.tenant_session(turn.tenant_id) as session:
        await session.execute(delete(Draft))
    await office.reply(turn, attempt=2)
    assert paid(upstream, "unlogged").reads == [None, None]
    assert (await office.message(turn)).content == shown(office, 2) == expected(1, 80)


async def test_a_worker_that_is_gone_is_continued_by_another(
    office: Office, upstream: ResponsesServer
) -> None:
    turn = await office.ask("gone #text:60:60")
    running = asyncio.create_task(
        office.attempt().run(office.model.generate_reply, StepInput(turn, 1))
    )
    await until_shown(office, b"0025")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await office.reply(turn, attempt=2)
    message = await office.message(turn)
    assert message.content == shown(office, 2) == expected(1, 60)
    assert len(paid(upstream, "gone").reads) == 2
    assert not paid(upstream, "gone").cancelled


async def test_silence_is_continued_too(office: Office, upstream: ResponsesServer) -> None:
    office.settings.model_first_byte_seconds = 0.5
    turn = await office.ask("silent #hang #text:9")
    await office.fails(turn)
    await office.reply(turn, attempt=2)
    # Nothing had come of the first, not even its name.
    assert len(upstream.of("silent")) == 2
    assert (await office.message(turn)).content == expected(2, 9)


async def test_tool_calls_are_read_again_whole(office: Office, upstream: ResponsesServer) -> None:
    turn = await office.ask('again #tool:look_up:{"name":"abcdefghij"}')
    await office.reply(turn)
    one = paid(upstream, "again")
    # The same generation, read again by an attempt that knows its name alone.
    async with office.database.tenant_session(turn.tenant_id) as session:
        second = await session.get_one(Message, (await office.message(turn)).id)
        assert second.generation is None
    other = await office.ask("reads the same")
    async with office.database.tenant_session(turn.tenant_id) as session:
        session.add(
            Message(
                tenant_id=UUID(turn.tenant_id), conversation_id=office.conversation_id,
                turn_id=UUID(other.turn_id), turn_number=2, position=1, step=1, role="assistant",
                content="", status="streaming", epoch=1, tool_calls=[], extra={},
                generation=one.id,
            )
        )  # fmt: skip
    result = await office.reply(other, attempt=2)
    (row,) = await office.executions(other)
    assert row.tool_parameters == {"name": "abcdefghij"}
    assert len(result.tool_calls) == 1
    assert upstream.of("reads the same") == []


# --- begun anew ---------------------------------------------------------------------------------


async def test_a_response_that_has_expired_is_generated_anew(
    office: Office, upstream: ResponsesServer
) -> None:
    turn = await office.ask("expired #expire #cut:30 #text:40:100")
    await office.fails(turn)
    await office.reply(turn, attempt=2)
    message = await office.message(turn)
    assert message.content == shown(office, 2) == expected(2, 40)
    assert len(upstream.of("expired #expire")) == 2


@pytest.mark.parametrize("marker", ["fail:12", "holes"])
async def test_a_generation_that_failed_is_not_continued(
    office: Office, upstream: ResponsesServer, marker: str
) -> None:
    turn = await office.ask(f"#{marker} #text:40")
    error = await office.fails(turn)
    assert (error.type, error.non_retryable) == ("model_unavailable", False)
    assert (await office.message(turn)).generation is None
    await office.reply(turn, attempt=2)
    message = await office.message(turn)
    assert message.content == shown(office, 2) == expected(2, 40)
    assert len(upstream.of(f"#{marker} #text:40")) == 2


async def test_a_server_without_background_is_asked_for_a_plain_stream(
    office: Office, upstream: ResponsesServer
) -> None:
    refused = upstream.refused
    turn = await office.ask("#plain #cut:3 #text:9")
    await office.fails(turn)
    assert (await office.message(turn)).generation is None
    await office.reply(turn, attempt=2)
    assert (await office.message(turn)).content == shown(office, 2) == expected(2, 9)
    assert upstream.refused == refused + 1, "it is not asked again what it does not know"
    assert all("background" not in one.body for one in upstream.of("#plain #cut:3"))


# --- stopped, refused, too long -------------------------------------------------------------------


async def test_a_stop_is_passed_on(office: Office, upstream: ResponsesServer) -> None:
    turn = await office.ask("stopped #text:2000:100")
    env = office.attempt()
    running = asyncio.create_task(env.run(office.model.generate_reply, StepInput(turn, 1)))
    await until_shown(office, b"0005")
    env.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    message = await office.message(turn)
    assert message.status == "stopped"
    assert message.content == shown(office, 1)
    assert paid(upstream, "stopped #text").cancelled


@pytest.mark.parametrize(
    ("marker", "code", "final"),
    [
        ("#429:1", "model_unavailable", False), ("#500:1", "model_unavailable", False),
        ("#status:401", "model_refused", True), ("#status:404", "model_refused", True),
        ("#html", "model_unavailable", False), ("#ctx:0", "context_too_long", True),
        ("#redirect", "model_refused", True), ("#errorobject", "model_unavailable", False),
        ("#halfobject", "model_unavailable", False), ("#emptybody", "model_unavailable", False),
    ],
)  # fmt: skip
async def test_trouble_is_the_same_trouble(
    office: Office, upstream: ResponsesServer, marker: str, code: str, final: bool
) -> None:
    turn = await office.ask(f"{marker} #text:2")
    error = await office.fails(turn)
    assert (error.type, error.non_retryable) == (code, final)
    told = ((await office.turn(turn)).last_error or {})["message"]
    assert "CANARY" not in told
    if not final:
        await office.reply(turn, attempt=2)
        assert (await office.message(turn)).content == expected(1, 2)


async def test_a_conversation_that_is_too_long_is_shortened(
    office: Office, upstream: ResponsesServer
) -> None:
    for number in range(4):
        earlier = await office.ask(f"question {number} #say:{'x' * 200}")
        await office.reply(earlier)
        await office.finish(earlier, TurnStatus.COMPLETED)
    turn = await office.ask("shorter #ctx:5 #text:3")
    await office.reply(turn)
    assert len(paid(upstream, "shorter #ctx").body["input"]) <= 5
    assert (await office.message(turn)).extra["omitted_messages"] > 0


async def test_the_installations_model_may_be_asked_this_way(
    office: Office, upstream: ResponsesServer
) -> None:
    office.settings.openai_base_url = upstream.url
    await office.set_model(kind="responses")
    await office.reply(await office.ask("installation"))
    assert paid(upstream, "installation").headers["authorization"] == f"Bearer {INSTALLATION_KEY}"


def test_messages_become_items() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Rules."},
        {"role": "user", "content": "Hi", "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "7"},
        {"role": "assistant", "content": "Seven."},
    ]
    assert to_input(messages) == (
        "Rules.",
        [
            {"role": "user", "content": "[Ada] Hi"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "7"},
            {"role": "assistant", "content": "Seven."},
        ],
    )
