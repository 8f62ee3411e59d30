import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.demo_model import sql
from embedded.demo_model.answers import examples
from embedded.demo_model.forms import is_question
from embedded.demo_model.plans import NotUnderstood, Overview, Query
from embedded.demo_model.questions import parse
from embedded.demo_model.schema import parse as parse_schema
from tests.demo.described import FLIGHTS

SCHEMA = parse_schema(FLIGHTS)
JOINED = (
    'SELECT "flights"."carrier" AS "carrier", "airlines"."name" AS "airline", {measure} '
    'FROM "flights" LEFT JOIN "airlines" ON "airlines"."carrier" = "flights"."carrier" '
)


def written(question: str) -> str:
    plan = parse(question, SCHEMA)
    assert isinstance(plan, Query)
    return " ".join(sql.write(plan, "postgresql").split())


@pytest.mark.parametrize(
    "question",
    [
        "Which ten carriers had the most flights?",
        "Which ten airlines had the most flights?",
        "Show me the ten airlines with the most flights",
        "top 10 airlines by number of flights",
        "Please, can you tell me which ten airlines have the highest number of flights?",
    ],
)
def test_a_ranking_takes_the_name_along_the_foreign_key(question: str) -> None:
    assert written(question) == JOINED.format(measure='count(*) AS "flights"') + (
        'WHERE "flights"."carrier" IS NOT NULL '
        'GROUP BY "flights"."carrier", "airlines"."name" '
        'ORDER BY count(*) DESC, "flights"."carrier" LIMIT 10'
    )


@pytest.mark.parametrize(
    "question",
    [
        "What is the average dep_delay per carrier?",
        "average departure delay per airline",
        "Show me the mean departure delay of flights by airline",
        "What's the average delay for each airline?",
    ],
)
def test_an_average_per_group(question: str) -> None:
    average = 'round(avg("flights"."dep_delay")::numeric, 2)'
    assert written(question) == JOINED.format(measure=f'{average} AS "average_dep_delay"') + (
        'WHERE "flights"."dep_delay" IS NOT NULL '
        'GROUP BY "flights"."carrier", "airlines"."name" '
        f'ORDER BY {average} DESC, "flights"."carrier" LIMIT 100'
    )


@pytest.mark.parametrize(
    ("question", "where"),
    [
        ("from JFK to LAX", "lower(\"origin\") = 'jfk' AND lower(\"dest\") = 'lax'"),
        (
            "where origin is JFK and dest is LAX",
            "lower(\"origin\") = 'jfk' AND lower(\"dest\") = 'lax'",
        ),
        ("with carrier UA", "lower(\"carrier\") = 'ua'"),
        ("where the carrier is not UA", "lower(\"carrier\") != 'ua'"),
        ("with a departure delay over 60 minutes", '"dep_delay" > 60'),
        ("with dep_delay of at least 1,000", '"dep_delay" >= 1000'),
        ("where dep_delay between 10 and 20", '"dep_delay" BETWEEN 10 AND 20'),
        ("in May 2013", '"month" = 5 AND "year" = 2013'),
        ("in July", '"month" = 7'),
        ("on 2013-12-25", '"year" = 2013 AND "month" = 12 AND "day" = 25'),
        ("where time_hour > 2013-12-25", "\"time_hour\" >= '2013-12-26'"),
        ("without a tailnum", '"tailnum" IS NULL'),
        ("where tail number is missing", '"tailnum" IS NULL'),
        ("where tailnum is not null", '"tailnum" IS NOT NULL'),
        ('where tailnum starts with "N7%"', "lower(\"tailnum\") LIKE 'n7!%%' ESCAPE '!'"),
        ("where carrier is x'y", "lower(\"carrier\") = 'x''y'"),
    ],
)
def test_filters(question: str, where: str) -> None:
    start = 'SELECT count(*) AS "flights" FROM "flights" WHERE '
    assert written(f"How many flights {question}?") == start + where


@pytest.mark.parametrize(
    ("question", "rest"),
    [
        ("Show me all airlines", '"airlines" ORDER BY "carrier" LIMIT 100'),
        ("show the first five airports", '"airports" ORDER BY "faa" LIMIT 5'),
        ("List 3 flights where dest is LAX", "\"flights\" WHERE lower(\"dest\") = 'lax' LIMIT 3"),
        ("Which airports are there?", '"airports" ORDER BY "faa" LIMIT 100'),
        ("Show me planes with more than 100 seats",
         '"planes" WHERE "seats" > 100 ORDER BY "tailnum" LIMIT 100'),
        ("Which planes have the most seats?",
         '"planes" WHERE "seats" IS NOT NULL ORDER BY "seats" DESC LIMIT 10'),
        ("Show me 2 airports sorted by altitude descending",
         '"airports" WHERE "alt" IS NOT NULL ORDER BY "alt" DESC LIMIT 2'),
        ("show me 99999 flights", '"flights" LIMIT 1000'),
    ],
)  # fmt: skip
def test_rows(question: str, rest: str) -> None:
    assert written(question) == f"SELECT * FROM {rest}"


@pytest.mark.parametrize(
    ("question", "groups"),
    [
        ("How many flights per month?", '"year", "month"'),
        ("Flights by day", '"year", "month", "day"'),
        ("How many flights per hour", '"hour"'),
        ("How many planes by manufacturer?", '"manufacturer"'),
        ("How many flights per manufacturer?", '"planes"."manufacturer"'),
        ("How many flights per destination?", '"flights"."dest", "airports"."name"'),
        ("How many flights did each plane have?", '"tailnum"'),
        ("Count flights by origin airport", '"flights"."origin", "airports"."name"'),
    ],
)
def test_groups(question: str, groups: str) -> None:
    assert f"GROUP BY {groups} ORDER BY" in written(question)


@pytest.mark.parametrize(
    "question",
    [
        "How many flights were delayed?",
        "How many flights are cancelled in May?",
        "How many users?",
        "Show me all users from the database",
        "How many flights where origin is JFK or dest is LAX",
        "What is the average number of flights per day?",
        "average name of airlines",
        "How many flights with dep_delay over lunch?",
        "How many flights after 2013-12-25",
        "What is the longest flight?",
        "Why are flights late?",
        "Which",
        "How many",
    ],
)
def test_what_does_not_fit_is_said_and_not_left_out(question: str) -> None:
    with pytest.raises(NotUnderstood):
        parse(question, SCHEMA)


@pytest.mark.parametrize(
    "question", ["list tables", "What data is there?", "Show me all tables", "what can I ask?"]
)
def test_an_overview(question: str) -> None:
    assert parse(question, SCHEMA) == Overview()


def test_columns_of_one_table() -> None:
    for question in ("Describe flights", "what columns does the flights table have?"):
        assert parse(question, SCHEMA) == Overview(SCHEMA.find("flights"))


def test_the_examples_work() -> None:
    found = examples(SCHEMA)
    assert found == ["Which ten airlines had the most flights?", "Show me the first five airlines"]
    for question in found:
        assert isinstance(parse(question, SCHEMA), Query)


@pytest.mark.parametrize(
    "text", ["Hello!", "thanks a lot", "", "good morning", "ok", "Hi, how are you?"]
)
def test_small_talk_is_no_question(text: str) -> None:
    assert not is_question(text)


WORDS = (
    "which ten the most flights airlines how many per and also where is not between by had 7 , '"
    ' " average of in May show me all or with no = ⟦0⟧'
)
SENTENCES = st.lists(st.sampled_from(sorted(set(WORDS.split())))).map(" ".join)


@given(st.text(max_size=200) | SENTENCES)
def test_any_text_is_planned_or_refused(text: str) -> None:
    started = time.monotonic()
    try:
        plan = parse(text, SCHEMA)
        if isinstance(plan, Query):
            for kind in sql.KINDS:
                assert sql.write(plan, kind).startswith("SELECT ")
    except NotUnderstood:
        pass
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "text",
    ["which " + "a " * 480, "which " + "a most " * 130, "describe " + ". " * 480,
     "how many flights where " + "airline a " * 90, "how many x " + "between a and " * 70],
)  # fmt: skip
def test_no_pattern_takes_long(text: str) -> None:
    started = time.monotonic()
    with suppress(NotUnderstood):
        parse(text, SCHEMA)
    assert time.monotonic() - started < 1
