"""What a failed model call means: try again, and when, or end the turn, and with which words.

The one place that classifies. Nothing of the provider's text reaches a history; what people are
told of it is bounded and stripped of anything that looks like a key.
"""

import contextlib
import math
import random
import re
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import structlog
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from store.net import AddressRefused, HostNotFound
from workflows.types import TurnCode

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_SECONDS = 60.0
FIRST_RETRY_SECONDS = 1.0
MAX_PROVIDER_TEXT_CHARS = 300

RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})

_KEY_LIKE = re.compile(
    r"(?<![A-Za-z])(sk|pk|key|token|bearer)[-_ :=\"']+[A-Za-z0-9*_\-.]{4,}", re.IGNORECASE
)
# How servers say that a conversation no longer fits: OpenAI and its likes, llama.cpp, Anthropic,
# Google, Groq.
_CONTEXT_WORDS = re.compile(
    r"context[_ ]length|maximum context|context[_ ]window|context[_ ](size|limit)|too many tokens"
    r"|(prompt|input|request) is too long|reduce the length|maximum number of tokens"
    r"|max_tokens.{0,40}exceed",
    re.IGNORECASE,
)


@dataclass(eq=False)
class Trouble(Exception):
    """A failed attempt, classified.

    Attributes:
        code: How the turn ends if this was the last attempt.
        message: For the people in the room; says what to do next where they can do something.
        retry: Whether another attempt may help.
        retry_after: Seconds the provider asked us to wait, if it did.
        status: HTTP status of the answer that this is about, 0 where it is about none.
    """

    code: TurnCode
    message: str
    retry: bool = True
    retry_after: float | None = None
    status: int = 0

    def delay(self, attempt: int) -> timedelta:
        """Time until the next attempt: what we were told, else exponential with ±20 % jitter."""
        if self.retry_after is not None:
            return timedelta(seconds=self.retry_after)
        seconds = min(MAX_RETRY_AFTER_SECONDS, FIRST_RETRY_SECONDS * 2 ** (attempt - 1))
        return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter


@asynccontextmanager
async def textless() -> AsyncIterator[None]:
    """Keep the words of unexpected errors out of histories: a database quotes what it was given.

    Raises:
        ApplicationError: In the place of any other exception; its type is the exception's name.
    """
    try:
        yield
    except ApplicationError:
        raise
    except Exception as exc:  # noqa: BLE001 -- whatever it is, its words stay here
        name = type(exc).__name__
        frames = traceback.extract_tb(exc.__traceback__)[-6:]
        where = " ".join(f"{frame.name}:{frame.lineno}" for frame in frames)
        log.error("activity_failed", error=name, where=where)  # noqa: TRY400 -- without the words
        raise ApplicationError(f"{name} (see the worker's log)", type=name) from None


def foreseen(
    message: str, kind: str, *, retry: bool = False, delay: timedelta | None = None
) -> ApplicationError:
    """An ending that is part of the plan and told where people look.

    To the SDK it is benign: a busy model is no fault that needs a stack trace in the log.

    Args:
        message: Goes into the history: no texts, no secrets.
        kind: Type of the error, as the workflow reads it.
        delay: Time until the next attempt; None leaves it to the retry policy.
    """
    return ApplicationError(
        message,
        type=kind,
        non_retryable=not retry,
        next_retry_delay=delay,
        category=ApplicationErrorCategory.BENIGN,
    )


def unavailable(message: str, retry_after: float | None = None) -> Trouble:
    """Trouble that passes by itself."""
    return Trouble(TurnCode.MODEL_UNAVAILABLE, message, retry_after=retry_after)


def of_status(
    status: int, text: str, *, retry_after: float | None = None, should_retry: bool | None = None
) -> Trouble:
    """Classify an HTTP answer of the model's server.

    Args:
        status: HTTP status.
        text: The provider's own words.
        retry_after: Seconds from ``Retry-After``, if it was sent.
        should_retry: The provider's own ``x-should-retry``, which overrides ours.
    """
    if status not in (401, 403, 429) and (status == 413 or _CONTEXT_WORDS.search(text)):
        return context_too_long(status)
    retry = status in RETRYABLE_STATUSES or status >= 500
    if should_retry is not None:
        retry = should_retry
    if retry:
        said = "is busy" if status in (409, 425, 429) else f"answered with an error ({status})"
        return Trouble(
            TurnCode.MODEL_UNAVAILABLE,
            f"The model {said}.",
            retry_after=bounded_retry_after(retry_after),
            status=status,
        )
    if status in (401, 403):
        message = (
            f"The model's server refused our key ({status})."
            " An administrator can set another one in the tenant's model settings."
        )
    elif 300 <= status < 400:
        message = (
            f"The model's server sent us elsewhere ({status}), and a key does not follow."
            " An administrator can enter the final address in the tenant's model settings."
        )
    else:
        message = f"The model's server refused the request ({status}): {redact(text)}"
    return Trouble(TurnCode.MODEL_REFUSED, message, retry=False, status=status)


def of_stream_error(code: str, text: str) -> Trouble:
    """Classify an error object that came inside a stream."""
    label = code.lower()
    if _CONTEXT_WORDS.search(f"{code} {text}"):
        return context_too_long()
    if "auth" in label or "api_key" in label or label in {"401", "403"}:
        return of_status(401, "")
    if label.startswith("4") and label.isdigit():
        return of_status(int(label), text)
    if label in {"invalid_request_error", "model_not_found", "content_policy_violation"}:
        return of_status(400, text)
    return unavailable("The model's server broke off with an error.")


def of_connection(exc: BaseException) -> Trouble:
    """Classify a connection that could not be made; the cause is somewhere below `exc`."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return unavailable("The model's server cannot be trusted: TLS failed.")
        if isinstance(cause, AddressRefused):
            return Trouble(
                TurnCode.MODEL_REFUSED,
                "The tenant's model address leads where tenants may not go."
                " The operator can allow it in PRIVATE_HOSTS.",
                retry=False,
            )
        if isinstance(cause, socket.gaierror | HostNotFound):
            return unavailable("The model's server has no address now.")
        cause = cause.__cause__ or cause.__context__
    return unavailable("The model's server cannot be reached.")


def context_too_long(status: int = 0) -> Trouble:
    """The conversation no longer fits the model."""
    return Trouble(
        TurnCode.CONTEXT_TOO_LONG,
        "The conversation is too long for this model. Start a new conversation, or ask for less.",
        retry=False,
        status=status,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asked us to wait, if it did; it may name a time instead."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        with contextlib.suppress(ValueError):
            return float(value) * unit
    until = _date(headers.get("retry-after", ""))
    if until is None:
        return None
    # Its own clock, where it tells: ours may be another.
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def bounded_retry_after(seconds: float | None) -> float | None:
    """At most a minute: longer waits are ours to decide, not the provider's."""
    if seconds is None or math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def redact(text: str) -> str:
    """A provider's text, short and without anything that looks like a key."""
    flat = " ".join(text.split())[: MAX_PROVIDER_TEXT_CHARS * 2]
    return _KEY_LIKE.sub(r"\1-…", flat)[:MAX_PROVIDER_TEXT_CHARS]
