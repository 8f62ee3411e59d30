"""Responses as servers really send them, and as they are taken up in the middle."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.errors import Trouble
from activities.response import Response

WORDS = ["one ", "zwölf ", "🚀", " two"]
WHOLE = "".join(WORDS)


def payload(kind: str | None, number: int | None = None, **more: Any) -> bytes:
    named = {"type": kind} if kind else {}
    numbered = {} if number is None else {"sequence_number": number}
    return json.dumps(named | numbered | more).encode()


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def stream(words: list[str] = WORDS, whole: str | None = None) -> list[bytes]:
    """Every event of a response that says some words."""
    events = [
        payload("response.created", 0, response={"id": "r1", "model": "m"}),
        payload("response.output_item.added", 1, output_index=0, item={"type": "message"}),
    ]
    for place, word in enumerate(words, 2):
        events.append(payload("response.output_text.delta", place, output_index=0, delta=word))
    output = [message("".join(words) if whole is None else whole)]
    ending = {"status": "completed", "output": output, "usage": {"input_tokens": 3}}
    return [*events, payload("response.completed", len(words) + 2, response=ending)]


def received(*payloads: bytes, **known: Any) -> tuple[str, Response]:
    answer = Response(**known)
    said = "".join(answer.take(part) for part in payloads)
    answer.end()
    return said, answer


def test_an_answer() -> None:
    said, answer = received(*stream())
    assert said == WHOLE
    assert (answer.finish_reason, answer.generation, answer.model) == ("stop", "r1", "m")
    assert answer.usage == {"prompt_tokens": 3}
    assert answer.over


@given(st.integers(0, 6), st.integers(0, 3))
def test_an_answer_taken_up_anywhere_is_the_same(place: int, overlap: int) -> None:
    """Also where the server sends again some of what was asked to be left out."""
    events = stream()
    first = Response()
    known = "".join(first.take(part) for part in events[:place])
    kept = {"generation": first.generation, "text": known, "cursor": first.cursor}
    start = place if first.cursor is not None else 0
    if first.cursor is None:
        kept["text"] = ""
    said, answer = received(*events[max(0, start - overlap) :], **kept)
    assert kept["text"] + said == WHOLE
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("cut", range(7))
def test_an_answer_cut_anywhere_is_none(cut: int) -> None:
    with pytest.raises(Trouble):
        received(*stream()[:cut])


def test_what_the_pieces_lack_at_the_end_is_added() -> None:
    assert received(*stream(WORDS[:2], WHOLE))[0] == WHOLE


def test_a_server_that_sends_no_whole_is_believed() -> None:
    assert received(*stream(whole=""))[0] == WHOLE


def test_a_hole_is_noticed_and_the_generation_given_up() -> None:
    answer = Response()
    *events, end = stream()
    del events[3]
    for part in events:
        answer.take(part)
    with pytest.raises(Trouble) as trouble:
        answer.take(end)
    assert "holes" in trouble.value.message
    assert answer.generation == ""


def test_half_a_character_is_no_place_to_go_on_from() -> None:
    answer = Response()
    answer.take(b'{"type":"response.output_text.delta","sequence_number":1,"delta":"x\\ud83d"}')
    assert answer.cursor is None
    answer.take(b'{"type":"response.output_text.delta","sequence_number":2,"delta":"\\ude80"}')
    assert answer.cursor == 2


def test_neither_is_a_call_nor_the_gap_between_two_messages() -> None:
    answer = Response()
    said = "".join(answer.take(part) for part in stream()[:-1])
    answer.take(payload("response.output_item.added", 9, item={"type": "message"}))
    assert answer.cursor is None
    said += answer.take(payload("response.output_text.delta", 10, delta="more"))
    assert (said, answer.cursor) == (f"{WHOLE}\n\nmore", 10)
    call = {"type": "function_call", "call_id": "c", "name": "f"}
    answer.take(payload("response.output_item.added", 11, output_index=2, item=call))
    assert answer.cursor is None
    output = [message(WHOLE), message("more"), call | {"arguments": '{"x": 1}'}]
    answer.take(payload("response.completed", 12, response={"output": output}))
    ((call_id, name, arguments),) = [(p.call_id, p.name, p.arguments) for p in answer.calls]
    assert (call_id, name, arguments) == ("c", "f", ['{"x": 1}'])
    assert answer.finish_reason == "tool_calls"


def test_a_refusal_is_what_the_model_says() -> None:
    no = payload("response.refusal.delta", 1, delta="I will not.")
    output = [{"type": "message", "content": [{"type": "refusal", "refusal": "I will not."}]}]
    end = payload("response.completed", 2, response={"output": output})
    assert received(no, end)[0] == "I will not."


def test_one_whole_object_instead_of_a_stream() -> None:
    whole = {"object": "response", "id": "r", "status": "completed", "output": [message("Hi")]}
    said, answer = received(json.dumps(whole).encode())
    assert (said, answer.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter"),
                           (None, "length")]
)  # fmt: skip
def test_an_incomplete_answer_says_why(reason: str | None, finish: str) -> None:
    response = {"output": [message("as far")], "incomplete_details": {"reason": reason}}
    said, answer = received(payload("response.incomplete", 1, response=response))
    assert (said, answer.finish_reason) == ("as far", finish)


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (payload("error", 3, code="server_error", message="x"), "model_unavailable"),
        (payload("error", 3, error={"code": "invalid_api_key", "message": "sk-CANARY123"}),
         "model_refused"),
        (payload(None, error={"message": "overloaded"}), "model_unavailable"),
        (payload("response.failed", 3, response={"error": {"code": "server_error"}}),
         "model_unavailable"),
        (payload("response.failed", 3, response={"error": None}), "model_unavailable"),
        (payload("response.failed", 3, response={"error": {"code": "context_length_exceeded"}}),
         "context_too_long"),
        (payload("response.failed", 3), "model_unavailable"),
        (payload("response.cancelled", 3), "model_unavailable"),
        (b"[]", "model_unavailable"), (b"null", "model_unavailable"), (b"{", "model_unavailable"),
        (b"<html>", "model_unavailable"), (b'{"a":' * 100_000, "model_unavailable"),
    ],
)  # fmt: skip
def test_trouble(part: bytes, code: str) -> None:
    with pytest.raises(Trouble) as trouble:
        received(*stream()[:4], part, *stream()[4:])
    assert trouble.value.code == code
    assert "CANARY" not in trouble.value.message


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"type": None}, {"type": 7}, {"type": "response.output_text.delta", "delta": None},
        {"type": "response.output_text.delta", "delta": ""}, {"sequence_number": "9"},
        {"sequence_number": True}, {"type": "response.output_item.added", "item": None},
        {"type": "response.output_item.done", "item": [], "output_index": "x"},
        {"type": "response.function_call_arguments.delta", "output_index": 300, "delta": 7},
        {"type": "response.in_progress", "response": None}, {"type": "response.created"},
        {"type": "response.web_search_call.searching"}, {"response": {"status": "completed!"}},
        {"type": "keepalive", "sequence_number": 4},
    ],
)  # fmt: skip
def test_odd_events_add_nothing(odd: dict[str, Any]) -> None:
    events = stream()
    answer = Response()
    said = "".join(answer.take(part) for part in events[:5])
    said += answer.take(json.dumps(odd).encode())
    said += "".join(answer.take(part) for part in events[5:])
    answer.end()
    assert said == WHOLE


def test_events_without_numbers_are_read_and_have_no_place_to_go_on_from() -> None:
    plain = [json.loads(part) for part in stream()]
    for event in plain:
        del event["sequence_number"]
    said, answer = received(*(json.dumps(event).encode() for event in plain))
    assert (said, answer.cursor) == (WHOLE, None)
