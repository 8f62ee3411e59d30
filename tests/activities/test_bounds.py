"""Output that is cut: small enough, still JSON, and saying that it was cut."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.tools.bounds import CUT_MARK, FULL_RESULT, MAX_MODEL_BYTES, shown, shrink, size
from activities.tools.results import lines

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=400)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(TEXT.map(lambda t: t[:20]), inner, max_size=8)
    ),
    max_leaves=40,
)
# What tools return: a flat object of texts, numbers and lists.
RESULTS = st.dictionaries(
    st.sampled_from(["rows", "columns", "body", "note", "text"]),
    TEXT.map(lambda text: text * 20) | st.lists(st.lists(LEAVES, max_size=5), max_size=60),
    min_size=1,
)
# A cut may cost its marks and the keys that stay.
TOLERANCE = 512


@given(VALUES, st.integers(64, 4096))
def test_what_fits_is_left_alone(value: Any, budget: int) -> None:
    if size(value) <= budget:
        assert shrink(value, budget) is value


@settings(max_examples=300)
@given(RESULTS, st.integers(256, 8192))
def test_a_result_fits_its_budget_and_says_that_it_was_cut(value: Any, budget: int) -> None:
    small = shrink(value, budget)
    assert size(small) <= budget + TOLERANCE
    json.loads(json.dumps(small, allow_nan=False))
    if small != value:
        assert small["truncated"] is True
        assert small.keys() == value.keys() | {"truncated"}


@settings(max_examples=300)
@given(VALUES, st.integers(64, 2048))
def test_any_value_stays_json_and_does_not_grow_by_more_than_its_marks(
    value: Any, budget: int
) -> None:
    small = shrink(value, budget)
    assert json.loads(json.dumps(small, allow_nan=False)) == small
    assert size(small) <= max(size(value), budget) + TOLERANCE


@given(TEXT.map(lambda text: text * 10), st.integers(32, 2000))
def test_a_text_keeps_its_beginning(text: str, budget: int) -> None:
    small = shrink(text, budget)
    if small is not text:
        assert small.endswith(CUT_MARK)
        assert text.startswith(small.removesuffix(CUT_MARK))
        assert size(small) <= budget + len(CUT_MARK.encode())


@pytest.mark.parametrize("worst", ['"', "\\", "\x01", "\n", "🚀", "ä", "\u2028", "\x7f"])
def test_texts_that_grow_as_json_are_cut_small_enough(worst: str) -> None:
    small = shrink({"text": worst * 100_000}, MAX_MODEL_BYTES)
    assert MAX_MODEL_BYTES * 0.5 < size(small) <= MAX_MODEL_BYTES + 64


def test_a_list_keeps_its_head() -> None:
    rows = [[n, "x" * 50] for n in range(2000)]
    small = shrink({"rows": rows, "row_count": 2000}, 10_000)
    assert small["rows"] == rows[: len(small["rows"])]
    assert len(small["rows"]) > 100
    assert small["row_count"] == 2000
    assert small["truncated"] is True


def test_the_longest_part_is_cut_and_the_rest_stays() -> None:
    value = {"columns": ["a", "b"], "rows": [["x" * 100] for _ in range(1000)], "note": "short"}
    small = shrink(value, 4096)
    assert (small["columns"], small["note"]) == (value["columns"], "short")


def test_one_huge_row_is_cut_within() -> None:
    small = shrink({"rows": [["x" * 1_000_000]]}, 4096)
    assert size(small) <= 4096 + 64
    assert small["rows"][0][0].startswith("xxx")
    assert small["rows"][0][0].endswith(CUT_MARK)


def test_cutting_megabytes_takes_no_time_to_speak_of() -> None:
    rows = [[n, "ä" * 200, None, 1.5] for n in range(10_000)]
    small = shrink({"rows": rows}, MAX_MODEL_BYTES)
    assert size(small) <= MAX_MODEL_BYTES + TOLERANCE


def test_many_small_keys_are_cut_as_well() -> None:
    wide = {f"key{number}": number for number in range(20_000)}
    small = shrink(wide, 4096)
    assert size(small) <= 4096
    assert small["truncated"] is True
    assert small["key0"] == 0


def test_what_a_result_says_of_its_whole_stays_whole() -> None:
    handle = {"path": "results/" + "ü" * 100 + ".json", "size": 5_000_000, "note": "n" * 100}
    for rest in (
        {"rows": [["x" * 100] for _ in range(1000)]},
        {"text": "x" * 100_000},
        {f"key{number}": number for number in range(20_000)},
    ):
        small = shown({**rest, FULL_RESULT: handle}, 4096)
        assert small[FULL_RESULT] == handle
        assert small["truncated"] is True
        assert size(small) <= 4096 + TOLERANCE
    fits = {"a": 1, FULL_RESULT: handle}
    assert shown(fits, 4096) is fits


@given(RESULTS)
def test_a_kept_result_is_the_same_with_a_line_for_each_item(value: Any) -> None:
    text = lines(value)
    assert json.loads(text) == value
    items = sum(len(part) for part in value.values() if isinstance(part, list))
    assert text.count(b"\n") >= items
