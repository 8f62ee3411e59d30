"""Completions as servers really send them: the right text, or trouble; never a part for a whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import answer
from activities.completion import Completion
from activities.errors import Trouble
from activities.sse import EventDecoder


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}
    return json.dumps({"choices": [choice | more]}).encode()


def text(content: Any) -> bytes:
    return chunk({"content": content})


STOP = chunk(finish="stop")


def received(*payloads: bytes) -> tuple[str, Completion]:
    """Everything taken in and held against its end."""
    result = Completion()
    said = "".join(result.take(payload) for payload in payloads)
    result.end()
    return said, result


def call(*fragments: dict[str, Any]) -> list[bytes]:
    return [
        *(chunk({"tool_calls": [fragment]}) for fragment in fragments),
        chunk(finish="tool_calls"),
    ]


def calls_of(result: Completion) -> list[tuple[str, str, str]]:
    return [(part.call_id, part.name, "".join(part.arguments)) for part in result.calls]


def test_a_plain_answer_with_usage() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    said, result = received(
        chunk({"role": "assistant", "content": ""}), text("Hel"), text("lo"), STOP,
        json.dumps({"choices": [], "usage": usage, "model": "m1"}).encode(), b"[DONE]",
    )  # fmt: skip
    assert said == "Hello"
    assert (result.finish_reason, result.usage, result.model) == ("stop", usage, "m1")
    assert result.over


def test_done_may_be_missing() -> None:
    assert received(text("all of it"), STOP)[0] == "all of it"


@pytest.mark.parametrize("count", range(4))
def test_a_stream_that_ends_without_a_reason_was_cut(count: int) -> None:
    with pytest.raises(Trouble) as trouble:
        received(*[text("part")] * count)
    assert trouble.value.retry


def test_done_alone_does_not_make_an_answer_whole() -> None:
    with pytest.raises(Trouble):
        received(text("part"), b"[DONE]")


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"choices": []}, {"choices": None}, {"choices": {}}, {"choices": [None]},
        {"choices": ["x"]}, {"choices": [{}]}, {"choices": [{"delta": None}]},
        {"choices": [{"delta": "text"}]}, {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": 7}}]}, {"choices": [{"delta": {"content": ["a"]}}]},
        {"choices": [{"delta": {"tool_calls": None}}]},
        {"choices": [{"delta": {"tool_calls": [None, 7]}}]},
        {"choices": [{"index": 1, "delta": {"content": "another choice"}}]},
        {"choices": [{"index": None, "delta": {}}]}, {"usage": None}, {"usage": []},
        {"usage": {"prompt_tokens": None, "completion_tokens": -1, "total_tokens": 2**40}},
        {"model": None}, {"error": None}, {"id": None, "object": 3},
        {"choices": [{"delta": {"refusal": None, "reasoning_content": "hm"}}]},
    ],
)  # fmt: skip
def test_odd_chunks_add_nothing(odd: dict[str, Any]) -> None:
    said, result = received(text("a"), json.dumps(odd).encode(), text("b"), STOP)
    assert said == "ab"
    assert result.usage == {}
    assert result.calls == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<html>bad gateway</html>",
        b"[]",
        b"7",
        b"null",
        b'"x"',
        b"{",
        b'{"choices": [',
        b"\xff",
    ],
)
def test_what_is_no_chunk_is_trouble(payload: bytes) -> None:
    with pytest.raises(Trouble) as trouble:
        received(text("part"), payload, STOP)
    assert trouble.value.retry


def test_a_nesting_too_deep_is_trouble_and_no_crash() -> None:
    with pytest.raises(Trouble):
        Completion().take(b'{"a":' * 100_000)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "overloaded", "type": "server_error"}, "model_unavailable"),
        ({"message": "bad key sk-CANARY1234", "code": "invalid_api_key"}, "model_refused"),
        ({"message": None, "code": None}, "model_unavailable"),
        ({"message": "maximum context length", "code": 400}, "context_too_long"),
        ("overloaded", "model_unavailable"),
        (["a"], "model_unavailable"),
        (True, "model_unavailable"),
    ],
)
def test_an_error_object_in_a_stream_is_trouble(error: Any, code: str) -> None:
    with pytest.raises(Trouble) as trouble:
        received(text("part"), json.dumps({"error": error}).encode())
    assert trouble.value.code == code
    assert "CANARY" not in trouble.value.message


def test_length_is_a_reason_to_end() -> None:
    said, result = received(text("as far as it goes"), chunk(finish="length"))
    assert said == "as far as it goes"
    assert result.finish_reason == "length"


def test_a_reason_and_text_in_one_chunk() -> None:
    assert received(chunk({"content": "all"}, "stop"))[0] == "all"


def test_one_whole_object_instead_of_a_stream() -> None:
    whole = {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    said, result = received(json.dumps(whole).encode())
    assert said == "Hi"
    assert result.usage["total_tokens"] == 2


# --- text ---------------------------------------------------------------------------------------


def test_a_surrogate_pair_cut_over_two_chunks_is_joined() -> None:
    first, second = (b'{"choices":[{"delta":{"content":%s}}]}' % half
                     for half in (b'"x\\ud83d"', b'"\\ude80y"'))  # fmt: skip
    assert received(first, second, STOP)[0] == "x🚀y"


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([b"\\ud83d", b"\\ude80"], "🚀"),
        ([b"\\ud83d", b"x"], "\ufffdx"),
        ([b"\\ude80", b"x"], "\ufffdx"),
        ([b"a\\ud83d"], "a\ufffd"),
        ([b"\\ud83d", b"\\ud83d", b"\\ude80"], "\ufffd🚀"),
        ([b"a\\u0000b"], "a\ufffdb"),
        ([b"\\ud83d", b"", b"\\ude80"], "🚀"),
    ],
)
def test_half_pairs_and_nul_become_replacement_characters(pieces: list[bytes], said: str) -> None:
    payloads = [b'{"choices":[{"delta":{"content":"%s"}}]}' % piece for piece in pieces]
    assert received(*payloads, STOP)[0] == said


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    st.data(),
)
def test_any_text_survives_any_cut_of_utf16_and_of_the_network(
    whole: str, data: st.DataObject
) -> None:
    """Servers in JavaScript cut between UTF-16 units, networks between bytes."""
    units = whole.encode("utf-16-le")
    places = data.draw(st.lists(st.integers(0, len(units) // 2), max_size=8).map(sorted))
    edges = [0, *(place * 2 for place in places), len(units)]
    pieces = [
        units[start:end].decode("utf-16-le", "surrogatepass")
        for start, end in zip(edges, edges[1:], strict=False)  # noqa: RUF007
    ]
    stream = b"".join(b"data: " + part + b"\n\n" for part in (*map(text, pieces), STOP, b"[DONE]"))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    ends = [0, *cuts, len(stream)]
    decoder, result, said = EventDecoder(), Completion(), ""
    for start, end in zip(ends, ends[1:], strict=False):  # noqa: RUF007
        for payload in decoder.feed(stream[start:end]):
            said += result.take(payload)
    result.end()
    assert said == whole


@given(st.integers(0, 400))
def test_a_stream_cut_after_any_byte_is_whole_or_trouble(place: int) -> None:
    stream = b"".join(
        b"data: " + part + b"\n\n" for part in (text("one "), text("zwölf "), text("🚀"), STOP)
    )
    decoder, result, said = EventDecoder(), Completion(), ""
    try:
        for payload in [*decoder.feed(stream[:place]), *decoder.finish()]:
            said += result.take(payload)
        result.end()
    except Trouble:
        return
    assert said == "one zwölf 🚀"


def test_an_answer_of_ten_megabytes_is_cut_and_says_so() -> None:
    result, said = Completion(), ""
    piece = "ä" * 1024
    for _ in range(10 * 1024):
        said += result.take(text(piece))
        if result.over:
            break
    result.end()
    assert result.truncated
    assert len(said) == answer.MAX_ANSWER_CHARS


def test_an_answer_of_exactly_the_limit_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MAX_ANSWER_CHARS", 10)
    assert not received(text("x" * 10), STOP)[1].truncated
    said, result = received(text("x" * 9), text("yz"), STOP)
    assert (said, result.truncated) == ("x" * 9 + "y", True)


# --- calls --------------------------------------------------------------------------------------


def test_fragments_with_indexes_may_come_mixed() -> None:
    _, result = received(
        *call(
            {"index": 0, "id": "a", "function": {"name": "one", "arguments": ""}},
            {"index": 1, "id": "b", "function": {"name": "two", "arguments": '{"x"'}},
            {"index": 0, "function": {"arguments": "{}"}},
            {"index": 1, "function": {"arguments": ":1}"}},
        )
    )
    assert calls_of(result) == [("a", "one", "{}"), ("b", "two", '{"x":1}')]


def test_fragments_without_an_index() -> None:
    _, result = received(
        *call(
            {"id": "a", "function": {"name": "one", "arguments": "{"}},
            {"function": {"arguments": "}"}},
            {"id": "b", "function": {"name": "two", "arguments": "{}"}},
        )
    )
    assert calls_of(result) == [("a", "one", "{}"), ("b", "two", "{}")]


def test_several_calls_in_one_chunk_without_an_index() -> None:
    both = [
        {"id": "a", "function": {"name": "one", "arguments": "{}"}},
        {"id": "b", "function": {"name": "two", "arguments": "{}"}},
        {"id": "c", "function": {"name": "three", "arguments": "{}"}},
    ]
    _, result = received(chunk({"tool_calls": both}), chunk(finish="tool_calls"))
    assert calls_of(result) == [("a", "one", "{}"), ("b", "two", "{}"), ("c", "three", "{}")]


def test_an_id_that_is_repeated_with_every_fragment_is_one_call() -> None:
    _, result = received(
        *call(
            {"id": "a", "function": {"name": "one", "arguments": "{"}},
            {"id": "a", "function": {"name": "one", "arguments": "}"}},
        )
    )
    assert calls_of(result) == [("a", "one", "{}")]


def test_arguments_as_an_object() -> None:
    _, result = received(
        *call({"index": 0, "id": "a", "function": {"name": "one", "arguments": {"x": "é"}}})
    )
    ((_, _, arguments),) = calls_of(result)
    assert json.loads(arguments) == {"x": "é"}


@pytest.mark.parametrize(
    "fragment",
    [
        {"index": 0},
        {"index": 0, "function": None},
        {"index": 0, "function": {"name": None, "arguments": None}},
        {"index": 0, "id": 7, "function": {"name": 7, "arguments": 7}},
        {"index": "0", "id": None, "function": []},
    ],
)
def test_null_fields_are_a_call_without_a_name(fragment: dict[str, Any]) -> None:
    _, result = received(*call(fragment))
    assert calls_of(result) == [("", "", "")]


def test_calls_and_arguments_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MAX_CALLS", 3)
    monkeypatch.setattr(answer, "MAX_ARGUMENTS_CHARS", 10)
    fragments = [
        {"index": index, "id": str(index), "function": {"name": "f" * 999, "arguments": "x" * 7}}
        for index in (0, 1, 2, 3, 0, 1)
    ]
    _, result = received(*call(*fragments))
    assert [len(arguments) for _, _, arguments in calls_of(result)] == [10, 10, 7]
    assert {len(name) for _, name, _ in calls_of(result)} == {answer.MAX_NAME_CHARS}


def test_an_endless_stream_of_arguments_costs_no_memory() -> None:
    result = Completion()
    piece = chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 65_536}}]})
    for _ in range(100):
        result.take(piece)
    assert sum(map(len, result.calls[0].arguments)) == answer.MAX_ARGUMENTS_CHARS
