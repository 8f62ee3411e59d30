import pytest

from embedded.demo_model.words import match, month, number, singular, words


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("flights", "flight"),
        ("cities", "city"),
        ("addresses", "address"),
        ("boxes", "box"),
        ("people", "person"),
        ("status", "status"),
        ("statuses", "status"),
        ("bus", "bus"),
        ("courses", "course"),
    ],
)
def test_plurals(plural: str, one: str) -> None:
    assert singular(plural) == one


def test_names_fall_into_words() -> None:
    assert words("unitPrice") == ["unit", "price"]
    assert words("Order Items") == words("order_item") == ["order", "item"]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("departure delay", "dep_delay"),
        ("delay", "dep_delay"),
        ("destinations", "dest"),
        ("tail number", "tailnum"),
        ("temperature", "temp"),
        ("quantity", "qty"),
        ("unit price", "unitPrice"),
        ("e mail", "email"),
    ],
)
def test_a_phrase_names_a_column(asked: str, name: str) -> None:
    assert match(asked, name) > 0


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("airline", "air_time"),
        ("flights delayed", "flights"),
        ("plane", "plan"),
        ("", "name"),
        ("arrival delay", "dep_delay"),
    ],
)
def test_a_phrase_does_not(asked: str, name: str) -> None:
    assert match(asked, name) == 0


def test_the_literal_name_fits_best() -> None:
    assert match("engines", "engines") > match("engines", "engine")


def test_numbers_and_months() -> None:
    assert [number(text) for text in ("ten", "1,000", "12", "x", "1,0")] == [
        10,
        1000,
        12,
        None,
        None,
    ]
    assert [month(text) for text in ("May", "sept", "dec.", "x")] == [5, 9, 12, None]
