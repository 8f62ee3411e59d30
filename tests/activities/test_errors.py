"""What a failed model call means."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import errors
from activities.errors import MAX_PROVIDER_TEXT_CHARS, Trouble

KEY = "sk-CANARY0123456789abcdef"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_passes_by_itself_is_tried_again(status: int) -> None:
    trouble = errors.of_status(status, f"{KEY} overloaded")
    assert trouble.retry
    assert trouble.code == "model_unavailable"
    assert KEY not in trouble.message


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 415, 422, 451])
def test_what_does_not_is_not(status: int) -> None:
    trouble = errors.of_status(status, f"Incorrect API key provided: {KEY}")
    assert not trouble.retry
    assert trouble.code == "model_refused"
    assert "CANARY" not in trouble.message
    assert str(status) in trouble.message


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_said_without_the_providers_text(status: int) -> None:
    trouble = errors.of_status(status, "anything at all")
    assert "anything" not in trouble.message
    assert "key" in trouble.message


def test_the_providers_own_word_overrides_ours() -> None:
    assert not errors.of_status(429, "insufficient quota", should_retry=False).retry
    assert errors.of_status(400, "try again", should_retry=True).retry


@pytest.mark.parametrize(
    "text",
    [
        "context_length_exceeded This model's maximum context length is 8192 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "the request exceeds the available context window",
        "exceed_context_size_error the request exceeds the available context size",
        "The input token count (1234567) exceeds the maximum number of tokens allowed (1048575).",
        "input length and `max_tokens` exceed context limit: 199999 + 4096 > 200000",
        "Please reduce the length of the messages or completion.",
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_conversation_that_no_longer_fits_is_said_to_be_too_long(text: str, status: int) -> None:
    trouble = errors.of_status(status, text)
    assert (trouble.code, trouble.retry) == ("context_too_long", False)


@pytest.mark.parametrize(
    ("code", "text", "ending", "retry"),
    [
        ("server_error", "overloaded", "model_unavailable", True),
        ("", "", "model_unavailable", True),
        ("rate_limit_exceeded", "slow down", "model_unavailable", True),
        ("429", "slow down", "model_unavailable", True),
        ("503", "later", "model_unavailable", True),
        ("401", KEY, "model_refused", False),
        ("invalid_api_key", KEY, "model_refused", False),
        ("authentication_error", KEY, "model_refused", False),
        ("invalid_request_error", "no such field", "model_refused", False),
        ("400", "no such field", "model_refused", False),
        ("context_length_exceeded", "", "context_too_long", False),
    ],
)
def test_errors_inside_a_stream(code: str, text: str, ending: str, retry: bool) -> None:
    trouble = errors.of_stream_error(code, text)
    assert (trouble.code, trouble.retry) == (ending, retry)
    assert "CANARY" not in trouble.message


@pytest.mark.parametrize(
    ("asked", "given"), [(None, None), (0.0, 0.0), (-5, 0.0), (7, 7), (60, 60), (3600, 60.0)]
)
def test_a_provider_may_ask_for_a_minute_and_no_more(
    asked: float | None, given: float | None
) -> None:
    assert errors.bounded_retry_after(asked) == given
    assert errors.of_status(429, "", retry_after=asked).retry_after == given


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_an_odd_number_of_seconds_is_a_delay_all_the_same(odd: float) -> None:
    delay = errors.of_status(429, "", retry_after=odd).delay(1)
    assert timedelta(0) <= delay <= timedelta(seconds=60)


@given(st.integers(1, 100))
def test_delays_grow_with_some_jitter_up_to_a_minute(attempt: int) -> None:
    delay = errors.unavailable("").delay(attempt).total_seconds()
    expected = min(60.0, 2.0 ** (attempt - 1))
    assert 0.8 * expected <= delay <= 1.2 * expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        # The server's own clock counts, where it tells: ours may be another.
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
          "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT",
          "date": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000",
          "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0),
    ],
)  # fmt: skip
def test_what_a_server_says_about_waiting(headers: dict[str, str], seconds: float | None) -> None:
    assert errors.retry_after(headers) == seconds


def test_a_time_to_come_back_is_never_earlier_than_told() -> None:
    at = datetime.now(UTC) + timedelta(seconds=20)
    said = errors.retry_after({"retry-after": format_datetime(at, usegmt=True)})
    assert said is not None
    assert 18.5 < said <= 20


def test_a_connection_that_fails_is_said_by_its_cause() -> None:
    for cause, words in (
        (ssl.SSLCertVerificationError("bad"), "TLS"),
        (socket.gaierror(-2, "name"), "no address"),
        (ConnectionRefusedError(), "cannot be reached"),
    ):
        outer = RuntimeError("Connection error.")
        outer.__cause__ = RuntimeError()
        outer.__cause__.__context__ = cause
        trouble = errors.of_connection(outer)
        assert words in trouble.message
        assert (trouble.code, trouble.retry) == ("model_unavailable", True)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_said_to_be_one(status: int) -> None:
    trouble = errors.of_status(status, "")
    assert (trouble.code, trouble.retry) == ("model_refused", False)
    assert "address" in trouble.message


def test_a_delay_we_were_told_has_no_jitter() -> None:
    assert errors.unavailable("", 7).delay(5) == timedelta(seconds=7)


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Authorization: Bearer {KEY}",
        "token=CANARYCANARYCANARY",
        "key: CANARYCANARY",
        "api_key=CANARYCANARY",
        '{"api-key": "CANARYCANARY"}',
        "pk_CANARY_CANARY",
        f"no model for 'sk-proj-{KEY}'",
        "Bearer CANARYCANARY is not valid",
    ],
)
def test_what_looks_like_a_key_is_taken_out(text: str) -> None:
    assert "CANARY" not in errors.redact(text)


@given(st.text(max_size=2000))
def test_a_providers_text_is_short_and_on_one_line(text: str) -> None:
    said = errors.redact(text)
    assert len(said) <= MAX_PROVIDER_TEXT_CHARS
    assert said.splitlines() in ([], [said])


def test_a_key_at_the_cut_is_not_half_shown() -> None:
    for room in range(MAX_PROVIDER_TEXT_CHARS - 30, MAX_PROVIDER_TEXT_CHARS * 2 + 10):
        assert "CANARY" not in errors.redact("x" * room + f" {KEY}")


def test_trouble_says_what_it_is() -> None:
    assert isinstance(errors.context_too_long(), Trouble)
