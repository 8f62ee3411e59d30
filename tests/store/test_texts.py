"""What is stored and shown fits every reader."""

import orjson

from store.texts import clean_json


def test_whole_numbers_of_more_than_64_bits_are_text() -> None:
    value = {"big": [2**64, -(2**63) - 1], "fits": [2**64 - 1, -(2**63), True, 1.5, None]}
    cleaned = clean_json(value)
    assert cleaned == {"big": [str(2**64), str(-(2**63) - 1)], "fits": value["fits"]}
    assert cleaned["fits"][2] is True
    assert orjson.loads(orjson.dumps(cleaned)) == cleaned
