"""What bodies, lists and cursors have in common. Unknown fields are refused, strings are bounded.

A string that PostgreSQL or strict JSON cannot hold (NUL, lone surrogates) is refused here, so that
nothing behind has to think of it.
"""

import base64
import re
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from api.passwords import MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS
from store.errors import Invalid
from store.wire import encode

MAX_NAME_CHARS = 255
MAX_TEXT_CHARS = 20_000
MAX_EMAIL_CHARS = 254
MAX_PAGE = 200
DEFAULT_PAGE = 50

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# Newlines included: names are one line wherever they are shown.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_EMAIL = re.compile(r"[^@\s\x00-\x20\x7f]+@[^@\s\x00-\x20\x7f]+")

T = TypeVar("T")


class Body(BaseModel):
    """Base of every request body."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Items(BaseModel, Generic[T]):
    """A list, or a page of one; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


def storable(value: str) -> str:
    """`value`, if it can be stored and sent.

    Raises:
        ValueError: It holds NUL or half a surrogate pair.
    """
    if _UNSTORABLE.search(value):
        raise ValueError("contains a NUL character or half a surrogate pair")
    return value


def _one_line(value: str) -> str:
    value = storable(value).strip()
    if not value:
        raise ValueError("is empty")
    if _CONTROL.search(value):
        raise ValueError("contains a control character")
    return value


def _email(value: str) -> str:
    value = storable(value).strip().lower()
    if not _EMAIL.fullmatch(value):
        raise ValueError("is not an e-mail address")
    return value


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(storable)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_one_line)]
Email = Annotated[str, Field(min_length=3, max_length=MAX_EMAIL_CHARS), AfterValidator(_email)]
# An address as somebody typed it: one that cannot exist is answered like one that does not.
Address = Annotated[str, Field(max_length=320), AfterValidator(storable)]
Password = Annotated[str, Field(max_length=MAX_PASSWORD_CHARS), AfterValidator(storable)]
NewPassword = Annotated[Password, Field(min_length=MIN_PASSWORD_CHARS)]

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=1024)]


def cursor_of(*place: Any) -> str:
    """An opaque cursor that stands for the last row of a page."""
    return base64.urlsafe_b64encode(encode(place)).decode().rstrip("=")


def place_of(cursor: str | None, *kinds: type[Any]) -> tuple[Any, ...] | None:
    """What `cursor_of` was given, each part read by pydantic as its kind.

    Raises:
        Invalid: Not one of our cursors.
    """
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        parts = orjson.loads(raw)
        if not isinstance(parts, list):
            raise ValueError("not a list")
        return tuple(_read(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except ValueError as exc:
        raise Invalid("`cursor` is not one that this list gave.") from exc


def _read(part: Any, kind: type[Any]) -> Any:
    value = TypeAdapter(kind).validate_python(part)
    return storable(value) if isinstance(value, str) else value
