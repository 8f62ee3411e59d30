"""Refusals that reach a client, wherever they were raised.

Refusal
├── NotFound       404 not_found: does not exist, or is not yours; the two look the same
├── Forbidden      403 forbidden: yours to see, not to change
├── Invalid        422 invalid: the request itself is wrong
├── TooLarge       413 too_large
├── Conflict       409 conflict
├── Busy           409 busy: a turn is running and the sender asked not to wait
├── RateLimited    429 rate_limited: come back later
├── Unauthenticated 401 session_ended
└── Unavailable    503 unavailable: a dependency is away
"""

from typing import ClassVar


class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        code: Stable code of docs/protocol.md §4.
        status: HTTP status of the same answer.
        detail: For people; says what to do next.
        retry_after: Seconds after which the same request may pass, if that is known.
        errors: Further fields, e.g. what was wrong with which field.
        rule: Which guard said no, for the audit log, where the code does not tell.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    rule: str = ""

    def __init__(
        self,
        detail: str,
        *,
        retry_after: float | None = None,
        errors: list[dict[str, str]] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.errors = errors
        self.specific_code = code or self.code


class NotFound(Refusal):
    """Does not exist, or is not the asker's to see."""

    code, status, title = "not_found", 404, "Not found"

    def __init__(self) -> None:
        # One text for every case: a difference would tell what exists elsewhere.
        super().__init__("There is no such thing here, or you may not see it.")


class Forbidden(Refusal):
    """Visible to the asker, but not his to do."""

    code, status, title = "forbidden", 403, "Forbidden"


class Invalid(Refusal):
    """The request is malformed or out of range."""

    code, status, title = "invalid", 422, "Invalid request"


class TooLarge(Refusal):
    """A named limit was passed."""

    code, status, title = "too_large", 413, "Too large"


class Conflict(Refusal):
    """Contradicts what is already stored."""

    code, status, title = "conflict", 409, "Conflict"


class Busy(Refusal):
    """The conversation's turn is running and the sender asked to be refused then."""

    code, status, title = "busy", 409, "Busy"


class RateLimited(Refusal):
    """Too many requests."""

    code, status, title = "rate_limited", 429, "Too many requests"


class Unauthenticated(Refusal):
    """No session, or one that has ended."""

    code, status, title = "session_ended", 401, "Sign in"


class Unavailable(Refusal):
    """Something the request needs is away for now."""

    code, status, title = "unavailable", 503, "Temporarily unavailable"
