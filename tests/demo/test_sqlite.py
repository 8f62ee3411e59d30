"""Questions about another schema than the demo's, run by a real SQLite."""

from pathlib import Path
from typing import Any

import pytest

from embedded.demo_model import answers, sql
from embedded.demo_model.plans import NotUnderstood, Query
from embedded.demo_model.questions import parse
from embedded.demo_model.schema import parse as parse_schema
from tests.demo.described import describe_sqlite, make_shop, run_sqlite


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    make_shop(path)
    return path


MONTHS = """| month | orders |
| --- | --: |
| 2023-12 | 1 |
| 2024-01 | 1 |
| 2024-02 | 2 |"""


def ask(shop: Path, question: str) -> tuple[Query, dict[str, Any]]:
    plan = parse(question, parse_schema(describe_sqlite(shop)))
    assert isinstance(plan, Query)
    return plan, run_sqlite(shop, sql.write(plan, "sqlite"))


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("How many orders are there?", [[4]]),
        ("Which customers had the most orders?", [[1, "Ada", 2], [2, "Grace", 1]]),
        ("How many orders per customer?", [[1, "Ada", 2], [None, None, 1], [2, "Grace", 1]]),
        ("orders per month", [["2023-12", 1], ["2024-01", 1], ["2024-02", 2]]),
        ("How many orders in February 2024?", [[2]]),
        ("How many orders on 2024-02-01?", [[1]]),
        ("How many orders after 2024-02-01?", [[1]]),
        ("How many orders before 2024-01-05?", [[1]]),
        ("How many orders where customer is Grace?", [[1]]),
        ("How many orders without a customer?", [[1]]),
        ("How many customers in London?", [[2]]),
        ('How many customers from "New York"?', [[1]]),
        ("How many customers where name is O'Hara?", [[1]]),
        ("How many customers where active is true?", [[2]]),
        ("How many order items?", [[4]]),
        ("total quantity per product", [["tea", 7], ["cup", 1], ["pot", 1]]),
        ("What is the maximum unit price?", [[20.0]]),
        ("Which product had the highest total quantity?", [["tea", 7]]),
        ("How many different cities are there?", [[2]]),
        ("show me the latest 1 orders", [[12, 2, "2024-02-14 08:00:00", "paid"]]),
        ("What are the most common cities?", [["London", 2], ["New York", 1]]),
    ],
)
def test_answers_of_the_shop(shop: Path, question: str, rows: list[Any]) -> None:
    assert ask(shop, question)[1]["rows"] == rows


def test_a_quotation_mark_in_a_value_stays_in_it(shop: Path) -> None:
    _, result = ask(shop, 'How many customers where name is "x\'; DROP TABLE customers; --"')
    assert result["rows"] == [[0]]


def test_an_adjective_is_not_a_column(shop: Path) -> None:
    with pytest.raises(NotUnderstood):
        ask(shop, "How many active customers?")


def test_answers_in_words(shop: Path) -> None:
    told = [
        answers.of_query(*ask(shop, question))
        for question in (
            "How many customers in London?",
            "Which product had the highest total quantity?",
            "What is the average unit price?",
            "Show me customers where name is Nobody",
            "orders per month",
        )
    ]
    assert told == [
        "I count **2** customers where city = London.",
        "The highest total qty by product: **tea** with **7**.",
        "The average unitPrice in Order Items is **8.69**.",
        "Nothing in customers matches where name = Nobody.",
        "Orders by month:\n\n" + MONTHS,
    ]


def test_identifiers_of_each_database() -> None:
    schema = parse_schema({"tables": [{"name": 'public.we"ird`', "columns": [{"name": "a"}]}]})
    plan = parse("Show me all we ird", schema)
    assert isinstance(plan, Query)
    assert 'FROM "public"."we""ird`"' in sql.write(plan, "postgresql")
    assert 'FROM `public`.`we"ird```' in sql.write(plan, "mysql")


def test_names_that_come_quoted() -> None:
    described = {
        "tables": [
            {"name": 'shop."Order ""Items"""', "columns": [{"name": "id"}]},
            {
                "name": "shop.parts",
                "columns": [{"name": "item"}, {"name": "n", "type": "int"}],
                "foreign_keys": [
                    {
                        "columns": ["item"],
                        "references": {"table": 'shop."Order ""Items"""', "columns": ["id"]},
                    }
                ],
            },
        ]
    }
    schema = parse_schema(described)
    plan = parse("How many order items?", schema)
    assert isinstance(plan, Query)
    assert sql.write(plan, "postgresql").endswith('FROM "shop"."Order ""Items"""')
    key = schema.tables[1].foreign_keys[0]
    assert schema.target(key) == (schema.tables[0], schema.tables[0].columns[0])


def test_markdown_in_the_data_stays_text() -> None:
    assert answers.cell("a|b\n**c** <img>") == "a\\|b \\*\\*c\\*\\* \\<img>"
    assert answers.figure("1234.5") == "1,234.50"
    assert answers.figure(None) == "-"
