r"""Values of databases as strict JSON that loses nothing without saying so.

=====================================  ======================================================
integers beyond ±(2^53 - 1)            text: JavaScript would round them
numeric                                a number if its shortest float is exactly it, else text
NaN, Infinity, -Infinity               text
dates, times, intervals                ISO 8601 text; infinities as ``infinity``
bytes                                  ``\x`` and hexadecimal digits
arrays, JSON, records                  nested up to `MAX_DEPTH`, deeper parts as text
NUL, lone surrogates                   U+FFFD
longer than `CELL_BYTES`               cut, with a marker
=====================================  ======================================================
"""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from store.texts import clean

CELL_BYTES = 64 * 1024
RESULT_BYTES = 1024 * 1024
MAX_ROWS = 1000
MAX_DEPTH = 16
MAX_SAFE_INTEGER = 2**53 - 1
MAX_DIGITS = 400  # beyond, a number is a text without being looked at

CUT_MARKER = "… [cut: the value is longer than 64 KiB]"


def number(text: str) -> int | float | str:
    """A decimal number's JSON form: a number only if that says exactly the same."""
    if len(text) > MAX_DIGITS:
        return text
    try:
        exact = Decimal(text)
    except InvalidOperation:
        return text
    if not exact.is_finite():
        return text  # NaN and Infinity, as the database writes them
    if "." not in text and "e" not in text.lower():
        return integer(int(exact))
    short = float(text)
    return short if math.isfinite(short) and Decimal(repr(short)) == exact else text


def integer(value: int) -> int | str:
    """An integer's JSON form."""
    return value if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else str(value)


def real(value: float) -> float | str:
    """A float's JSON form."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def cut(text: str, *, limit: int = CELL_BYTES) -> tuple[str, bool]:
    """`text` without what JSON refuses and within `limit` bytes, and whether it was cut."""
    text = clean(text)
    if len(text) * 4 <= limit:
        return text, False
    data = text.encode()
    if len(data) <= limit:
        return text, False
    return data[:limit].decode(errors="ignore") + CUT_MARKER, True


def from_json(text: str) -> Any:
    """A JSON text's value, safe to be written as strict JSON again; the text itself if too deep."""
    try:
        parsed = json.loads(
            text, parse_int=_json_integer, parse_float=number, parse_constant=lambda name: name
        )
    except (ValueError, RecursionError):
        return text
    return parsed


def _json_integer(digits: str) -> int | str:
    return digits if len(digits) > 17 else integer(int(digits))


def cell(value: Any) -> tuple[Any, bool]:
    """One cell's JSON form, and whether it was cut."""
    match value:
        case None | bool():
            return value, False
        case int():
            return integer(value), False
        case float():
            return real(value), False
        case str():
            return cut(value)
        case bytes() | bytearray() | memoryview():
            data = bytes(value)
            return cut("\\x" + data[: CELL_BYTES // 2 + 1].hex())
        case list() | tuple() | dict():
            nested = _nested(value, MAX_DEPTH)
            size = len(orjson.dumps(nested))
            return (nested, False) if size <= CELL_BYTES else cut(orjson.dumps(nested).decode())
        case Decimal():
            return cut(str(value)) if len(str(value)) > MAX_DIGITS else (number(str(value)), False)
        case datetime() | date() | time():
            return value.isoformat(), False
        case _:
            return cut(str(value))


def _nested(value: Any, depth: int) -> Any:
    match value:
        case list() | tuple() | dict() if depth == 0:
            return "… [nested more deeply]"
        case list() | tuple():
            return [_nested(item, depth - 1) for item in value]
        case Mapping():
            return {clean(str(key)): _nested(item, depth - 1) for key, item in value.items()}
        case str():
            return clean(value)
        case _:
            return cell(value)[0]


class Rows:
    """Rows of one result, as many as the limits allow.

    Attributes:
        rows: JSON-safe.
        truncated: A row was left out or a cell cut.
        more: A row was left out behind these.

    Args:
        skip: How many rows come before them, and are left out.
    """

    def __init__(
        self, max_rows: int = MAX_ROWS, max_bytes: int = RESULT_BYTES, *, skip: int = 0
    ) -> None:
        self.rows: list[list[Any]] = []
        self.truncated = False
        self.more = False
        self._skip = skip
        self._max_rows = max_rows
        self._left = max_bytes

    def add(self, values: Any) -> bool:
        """Take one more row; False if there is no room for it, and none for any other."""
        if self._skip:
            self._skip -= 1
            return True
        if len(self.rows) >= self._max_rows:
            self.truncated = self.more = True
            return False
        row = []
        for value in values:
            safe, was_cut = cell(value)
            self.truncated |= was_cut
            row.append(safe)
        self._left -= len(orjson.dumps(row)) + 1
        if self._left < 0:
            self.truncated = self.more = True
            return False
        self.rows.append(row)
        return True
