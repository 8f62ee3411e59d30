"""Server-sent events, however the network cuts them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import sse
from activities.sse import EventDecoder

STREAM = (
    ": keep-alive\r\n\r\n"
    'data: {"a":"é👩‍🚀"}\n\n'
    "event: x\nid: 1\ndata:first\ndata: second\n\n"
    "data: [DONE]\r\n\r\n"
).encode()
PAYLOADS = ['{"a":"é👩‍🚀"}'.encode(), b"first\nsecond", b"[DONE]"]


def decode(*chunks: bytes) -> list[bytes]:
    decoder = EventDecoder()
    found = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return found + decoder.finish()


def cut_at(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in zip(edges, edges[1:], strict=False)]  # noqa: RUF007


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
def test_a_cut_at_any_byte_changes_nothing(place: int) -> None:
    assert decode(STREAM[:place], STREAM[place:]) == PAYLOADS


def test_byte_by_byte() -> None:
    assert decode(*(STREAM[n : n + 1] for n in range(len(STREAM)))) == PAYLOADS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_cuts_change_nothing(places: list[int]) -> None:
    assert decode(*cut_at(STREAM, places)) == PAYLOADS


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=5
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 300), max_size=10),
)
def test_what_is_sent_arrives(texts: list[str], newline: str, places: list[int]) -> None:
    stream = "".join(f"data: {text}{newline}{newline}" for text in texts).encode()
    chunks = cut_at(stream, [min(place, len(stream)) for place in places])
    assert decode(*chunks) == [text.encode() for text in texts]


def test_an_event_without_its_empty_line_comes_with_the_end() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: 1\n\ndata: 2") == [b"1"]
    assert decoder.finish() == [b"2"]
    assert decoder.finish() == []


def test_an_event_comes_as_soon_as_it_is_complete() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\n") == [b"1"]


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b": only a comment\n\n", []),
        (b"data\n\n", []),
        (b"data:\n\n", [b""]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"retry: 3\nunknown: x\ndata: 1\n\n", [b"1"]),
        (b"<html>\n<body>bad gateway</body>\n", []),
        (b"\xff\xfe\n\ndata: \xff\n\n", [b"\xff"]),
    ],
)
def test_odd_streams(stream: bytes, payloads: list[bytes]) -> None:
    assert decode(stream) == payloads


def test_a_line_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_LINE_BYTES", 1000)
    decoder = EventDecoder()
    decoder.feed(b"data: " + b"x" * 900)
    with pytest.raises(ValueError, match="too long"):
        decoder.feed(b"x" * 200)


def test_an_event_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_LINE_BYTES", 1000)
    decoder = EventDecoder()
    line = b"data: " + b"x" * 100 + b"\n"
    with pytest.raises(ValueError, match="too long"):
        decode_all(decoder, [line] * 20)


def decode_all(decoder: EventDecoder, chunks: list[bytes]) -> None:
    for chunk in chunks:
        decoder.feed(chunk)


def test_a_long_line_in_small_pieces_takes_no_quadratic_time() -> None:
    decoder = EventDecoder()
    piece = b"x" * 4096
    started = time.perf_counter()
    for _ in range(sse.MAX_LINE_BYTES // len(piece)):
        decoder.feed(piece)
    assert decoder.feed(b"\n\n") == []
    assert time.perf_counter() - started < 1
