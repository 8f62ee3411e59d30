"""Values as strict JSON."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.tools.sql.values import CELL_BYTES, CUT_MARKER, Rows, cell, from_json, number


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        (None, None),
        (True, True),
        (2**53 - 1, 2**53 - 1),
        (2**53, str(2**53)),
        (-(2**53), str(-(2**53))),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (1.5, 1.5),
        ("a\0b\ud800c", "a\ufffdb\ufffdc"),
        (b"\x00\xff", "\\x00ff"),
        (Decimal("1.10"), 1.1),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 3, tzinfo=UTC), "2024-01-02T03:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([1, [math.nan, "\0"], {"a\0": 2**60}], [1, ["NaN", "\ufffd"], {"a\ufffd": str(2**60)}]),
        ((), []),
    ],
)
def test_forms(value, safe):
    assert cell(value) == (safe, False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-5", -5),
        ("5.00", 5.0),
        ("0.1", 0.1),
        ("19.99", 19.99),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("9007199254740993", "9007199254740993"),
        ("123456789.123456789", "123456789.123456789"),
        ("1e400", "1e400"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("x", "x"),
        ("1" * 500, "1" * 500),
    ],
)
def test_numbers_are_exact_or_text(text, value):
    assert number(text) == value
    assert type(number(text)) is type(value)


def test_long_values_are_cut_between_characters():
    text, was_cut = cell("€" * CELL_BYTES)
    assert was_cut
    assert text.endswith(CUT_MARKER)
    kept = text.removesuffix(CUT_MARKER)
    assert set(kept) == {"€"}
    assert len(kept.encode()) <= CELL_BYTES
    assert cell("x" * CELL_BYTES) == ("x" * CELL_BYTES, False)


def test_nested_values_are_bounded():
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert json.dumps(cell(deep)[0]).count("[") <= 18
    assert cell(["x" * CELL_BYTES])[1] is True


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ', "1e400", "1" * 10_000, "[NaN, Infinity]", '"\\ud800"', "\0"]
)
def test_json_of_a_database_is_never_trusted(text):
    orjson.dumps(cell(from_json(text))[0])


def test_a_result_ends_where_its_bytes_do():
    rows = Rows(max_rows=10, max_bytes=100)
    assert rows.add(["x" * 50])
    assert not rows.add(["x" * 60])
    assert (len(rows.rows), rows.truncated) == (1, True)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(anything)
def test_whatever_it_is_becomes_strict_json(value):
    safe, _ = cell(value)
    text = json.dumps(safe, allow_nan=False, ensure_ascii=False)
    assert "\0" not in text
    assert "\\u0000" not in text
    assert orjson.loads(orjson.dumps(safe)) == json.loads(text.encode())
