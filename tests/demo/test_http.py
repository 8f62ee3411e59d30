"""The server on a real socket, as the official client sees it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError

from embedded.demo_model.answers import LABEL
from tests.demo.conftest import serving
from tests.demo.described import FLIGHTS

MODEL = "everturn-demo"
HELLO: Any = [{"role": "user", "content": "Hello!"}]
QUESTION: Any = [{"role": "user", "content": "Which two airlines had the most flights?"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("list_datasources", "describe_schema", "database_query")
]
RESULTS = {
    "list_datasources": {"datasources": [{"id": "d", "name": "NYC", "kind": "postgresql"}]},
    "describe_schema": FLIGHTS,
    "database_query": {
        "columns": [{"name": "carrier"}, {"name": "airline"}, {"name": "flights"}],
        "rows": [["UA", "United Air Lines Inc.", 58665], ["B6", "JetBlue Airways", 54635]],
        "row_count": 2,
        "truncated": False,
        "elapsed_ms": 40,
    },
}


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=20) as client:
        yield client


async def test_it_lists_its_model(client: AsyncOpenAI, base_url: str) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    async with httpx.AsyncClient() as plain:
        health = await plain.get(base_url.removesuffix("/v1") + "/health")
        assert health.json()["status"] == "ok"


async def test_an_answer_in_one_piece(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=HELLO)
    choice = completion.choices[0]
    assert choice.finish_reason == "stop"
    assert (choice.message.content or "").endswith(LABEL)
    assert completion.usage
    assert completion.usage.total_tokens > 0


async def test_an_answer_as_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    text = "".join(delta.content or "" for delta in deltas)
    whole = await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert text == whole.choices[0].message.content
    assert deltas[0].role == "assistant"
    assert len(deltas) > 10
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_loop_over_http(client: AsyncOpenAI, streamed: bool) -> None:
    messages: Any = list(QUESTION)
    seen = []
    for _ in range(3):
        if streamed:
            async with client.chat.completions.stream(
                model=MODEL, messages=messages, tools=TOOLS
            ) as stream:
                completion: Any = await stream.get_final_completion()
        else:
            completion = await client.chat.completions.create(
                model=MODEL, messages=messages, tools=TOOLS
            )
        choice = completion.choices[0]
        assert choice.finish_reason == "tool_calls"
        messages.append(choice.message.model_dump(exclude_none=True))
        for call in choice.message.tool_calls:
            seen.append((call.function.name, json.loads(call.function.arguments)))
            content = json.dumps(RESULTS[call.function.name])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    assert [name for name, _ in seen] == ["list_datasources", "describe_schema", "database_query"]
    assert "LIMIT 2" in seen[2][1]["query"]
    final = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    answer = final.choices[0].message.content or ""
    assert "| UA | United Air Lines Inc. | 58,665 |" in answer
    assert answer.endswith(LABEL)


async def test_a_tool_call_comes_in_several_pieces(client: AsyncOpenAI) -> None:
    listing = json.dumps(RESULTS["list_datasources"])
    function = {"name": "list_datasources", "arguments": "{}"}
    messages: Any = [
        *QUESTION,
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "a", "content": listing},
    ]
    stream = await client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, stream=True
    )
    deltas = [chunk.choices[0].delta async for chunk in stream]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert len(calls) > 3
    assert calls[0].id
    assert calls[0].function
    assert calls[0].function.name == "describe_schema"
    assert all(call.id is None for call in calls[1:])
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert json.loads(arguments) == {"datasource_id": "d"}


async def test_the_bytes_of_a_stream(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url) as plain:
        body = {"model": "other", "messages": HELLO, "stream": True}
        answer = await plain.post("/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    first = json.loads(events[0].removeprefix("data: "))
    assert first["object"] == "chat.completion.chunk"
    assert first["model"] == "other"
    assert "usage" not in first


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        ({"messages": HELLO}, "model"),
        ({"model": MODEL}, "messages"),
        ({"model": MODEL, "messages": []}, "messages"),
        ({"model": MODEL, "messages": [{"role": "king"}]}, "messages.[0].role"),
        ({"model": MODEL, "messages": [{"role": "user", "content": 7}]}, "messages.[0].content"),
        ({"model": MODEL, "messages": HELLO, "n": 2}, "n"),
        ({"model": MODEL, "messages": HELLO, "stream": "yes"}, "stream"),
        ({"model": MODEL, "messages": HELLO, "stream_options": {"include_usage": True}},
         "stream_options"),
        ({"model": MODEL, "messages": HELLO, "tools": [{"type": "function"}]},
         "tools.[0].function"),
        ({"model": MODEL, "messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]},
         "messages.[0].role"),
        ({"model": MODEL, "messages": [{"role": "assistant", "tool_calls": "x"}]},
         "messages.[0].tool_calls"),
    ],
)  # fmt: skip
async def test_a_bad_request_is_refused(base_url: str, body: Any, param: str | None) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body)
    async with httpx.AsyncClient(base_url=base_url) as plain:
        answer = await plain.post("/chat/completions", content=content)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


async def test_a_call_without_its_result_is_refused(client: AsyncOpenAI) -> None:
    function = {"name": "list_datasources", "arguments": "{}"}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    messages: Any = [*HELLO, {"role": "assistant", "tool_calls": calls}]
    with pytest.raises(BadRequestError, match="call_1"):
        await client.chat.completions.create(model=MODEL, messages=messages)


async def test_half_an_emoji_does_no_harm(base_url: str) -> None:
    text = '{"model": "m", "messages": [{"role": "user", "content": "How many \\ud83d?"}]%s}'
    tools = ', "tools": ' + json.dumps(TOOLS) + ', "stream": true'
    async with httpx.AsyncClient(base_url=base_url) as plain:
        answer = await plain.post("/chat/completions", content=text % tools)
        assert answer.text.endswith("data: [DONE]\n\n")


async def test_unknown_paths_are_refused_in_json(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url) as plain:
        assert (await plain.get("/embeddings")).json()["error"]["code"] == "unknown_url"


async def test_the_pace_is_kept() -> None:
    async with serving(tokens_per_second=100) as url, AsyncOpenAI(base_url=url, api_key="x") as ai:
        started = time.monotonic()
        stream = await ai.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        arrivals = [time.monotonic() - started async for _ in stream]
    assert arrivals[0] < 0.3 < arrivals[-1]
    assert arrivals[-1] >= (len(arrivals) - 1) / 100 - 0.05


async def test_a_client_that_leaves_ends_its_stream() -> None:
    async with serving(tokens_per_second=1) as url, httpx.AsyncClient(base_url=url) as plain:
        body = {"model": MODEL, "messages": HELLO, "stream": True}
        async with plain.stream("POST", "/chat/completions", json=body) as answer:
            async for _ in answer.aiter_lines():
                break
        async with asyncio.timeout(5):
            assert (await plain.get("/models")).status_code == 200
