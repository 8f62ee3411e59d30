"""One filter of a question, "origin is JFK" or "in May 2013", as a condition on columns."""

import re
from datetime import date, timedelta

from embedded.demo_model import fields
from embedded.demo_model.clauses import SIGN, Clauses
from embedded.demo_model.plans import Condition, Field, NotUnderstood
from embedded.demo_model.schema import Schema, Table
from embedded.demo_model.words import match, month, number

OPERATORS = {"=": "=", "≠": "!=", ">": ">", "≥": ">=", "<": "<", "≤": "<=", "∋": "contains",
             "^": "starts", "⋯": "between"}  # fmt: skip
NOTHING = ("null", "missing", "empty", "unknown", "none", "nothing")
MAX_NAME_WORDS = 4  # of a column, before its value
CODE_LENGTH = 3  # so short a value is a code, and would be found within too many names

# What a bare value may be a value of: "from JFK", "to Lima", "in Germany".
PLACES = ("country", "city", "state", "region", "location", "town", "place")
WHOLE = (1.5, 1.0, 0.8)  # matches that leave no word of the name out
HINTS = {
    "from": ("origin", "from", "source", "sender", *PLACES),
    "to": ("destination", "to", "target", "recipient"),
    "in": PLACES,
    "at": ("location", "place", "site", "origin"),
}


def conditions(schema: Schema, base: Table, clauses: Clauses) -> tuple[Condition, ...]:
    """All filters of a question.

    Raises:
        NotUnderstood: One of them fits no column; none is left out silently.
    """
    found: list[Condition] = []
    for marker, text in clauses.filters:
        if match(text, base.noun) >= 1:  # "in flights" names the table, it filters nothing
            continue
        found.extend(_condition(schema, base, marker, text, clauses))
    return tuple(found)


def _condition(
    schema: Schema, base: Table, marker: str, text: str, clauses: Clauses
) -> list[Condition]:
    sign = SIGN.search(text)
    left, right = (text[: sign.start()], text[sign.end() :]) if sign else ("", text)
    operator = OPERATORS[sign[0]] if sign else "="
    if re.search(r"\bor\b", right, re.IGNORECASE) or (sign and SIGN.search(right)):
        raise NotUnderstood("I understand conditions joined by “and” only.")
    left, right = clauses.unquote(left.strip()), clauses.unquote(right.strip())
    if left:
        return [_compare(schema, base, left, operator, right)]
    counted = re.fullmatch(r"(\S+?)(?:…(\S+))?\s+(.+)", right)
    if counted and number(counted[1]) is not None:  # "more than 100 seats"
        value = right[: counted.start(3)].strip()
        return [_compare(schema, base, counted[3], operator, value)]
    if marker == "without" or re.match(r"no\s", right):
        column = fields.resolve(schema, base, re.sub(r"^(?:no|an?|any)\s+", "", right))
        return [Condition((column,), "null")]
    spans = _when(base, operator, right)
    if spans:
        return spans
    tokens = right.split()
    if not sign:
        longest = min(len(tokens) - 1, MAX_NAME_WORDS)
        for cut in range(longest, 0, -1):  # "carrier UA", "airline JetBlue Airways"
            try:
                return [_compare(schema, base, " ".join(tokens[:cut]), "=", " ".join(tokens[cut:]))]
            except NotUnderstood:
                continue
        for name in HINTS.get(marker, ()):
            for place in base.columns:
                if place.kind == "text" and match(name, place.name) in WHOLE:
                    return [_compare(schema, base, place.name, "=", right)]
    raise NotUnderstood(f"I cannot tell which column “{right}” is a value of.")


def _when(base: Table, operator: str, text: str) -> list[Condition]:
    """Conditions for "2013-05-01", "2013", "May" and "May 2013"; empty for anything else."""
    day = _date(text)
    moment = base.first("date")
    if day:
        keys = fields.calendar(base, "day")
        if len(keys) == 3 and operator == "=":
            parts = zip(keys, (day.year, day.month, day.day), strict=True)
            return [Condition((key,), "=", value) for key, value in parts]
        if len(keys) == 3 and moment:  # another time zone's days, perhaps: let people say it
            raise NotUnderstood(f"Write “where {moment.name} …” to compare with a date, please.")
        return [Condition((Field(moment),), operator, day)] if moment else []
    spoken = re.fullmatch(r"(?:([A-Za-z]+)\.?)?\s*((?:19|20)\d\d)?", text)
    if not spoken or operator != "=" or (spoken[1] and not month(spoken[1])):
        return []
    found = []
    if spoken[1]:
        column = fields.own(base, "month") or (
            Field(moment, unit="month of the year") if moment else None
        )
        if not column:
            return []
        found.append(Condition((column,), "=", month(spoken[1])))
    if spoken[2]:
        year = int(spoken[2])
        column = fields.own(base, "year")
        if column:
            found.append(Condition((column,), "=", year))
        elif moment:
            last = date(year + 1, 1, 1) - timedelta(days=1)
            found.append(Condition((Field(moment),), "between", date(year, 1, 1), last))
        else:
            return []
    return found


def _compare(schema: Schema, base: Table, phrase: str, operator: str, text: str) -> Condition:
    column = fields.resolve(schema, base, phrase)
    if text.lower() in NOTHING:
        return Condition((column,), "not null" if operator == "!=" else "null")
    link = fields.link_of(schema, base, column)
    label = fields.label_of(link) if link else None
    if label and operator in ("=", "contains") and len(text) > CODE_LENGTH:
        if column.column.kind == "text":
            return Condition((column, label), "contains", text)
        if number(text) is None:
            return Condition((label,), "contains", text)
    if operator == "between":
        low, _, high = text.partition("…")
        first, last = _value(column, low), _value(column, high)
        if isinstance(first, str | bool) or isinstance(last, str | bool):
            raise NotUnderstood(f"{column.name} cannot lie between “{low}” and “{high}”.")
        return Condition((column,), operator, first, last)
    return Condition((column,), operator, _value(column, text))


def _value(column: Field, text: str) -> int | float | str | bool | date:
    kind = column.column.kind
    if kind == "number":
        spelled = re.match(r"-?\d[\d,]*(?:\.\d+)?(?=\s|$)", text)  # a unit may follow
        if spelled:
            plain = spelled[0].replace(",", "")
            return float(plain) if "." in plain else int(plain)
        value = number(text.split()[0]) if text.split() else None
        if value is None and column.name == "month":
            value = month(text)
        if value is None:
            raise NotUnderstood(f"{column.name} holds numbers, and “{text}” is none.")
        return value
    if kind == "date":
        day = _date(text)
        if day is None:
            raise NotUnderstood(f"Write dates for {column.name} as 2013-05-01, please.")
        return day
    if kind == "boolean":
        return text.lower() in ("true", "yes", "on", "1")
    return text


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None
