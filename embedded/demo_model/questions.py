"""A question in words → a plan over a described schema. A few forms, and no guessing beyond."""

import re
from dataclasses import replace

from embedded.demo_model import fields, forms
from embedded.demo_model.clauses import Clauses, bare, split
from embedded.demo_model.conditions import conditions
from embedded.demo_model.plans import (
    ALL_ROWS,
    DEFAULT_ROWS,
    MAX_ROWS,
    Field,
    Measure,
    NotUnderstood,
    Overview,
    Plan,
    Query,
)
from embedded.demo_model.schema import GOOD, Schema, Table
from embedded.demo_model.words import match, number, singular, words

COUNTED = re.compile(r"^(?:total )?(?:number|count|amount) of\s+", re.IGNORECASE)
ANY_KIND = ("number", "date", "text", "boolean", "other")


def parse(text: str, schema: Schema) -> Plan:
    """Plan the answer to one question.

    Raises:
        NotUnderstood: The form is unknown, or a word of it fits nothing in the schema.
    """
    known = forms.recognise(text)
    if known is None:
        raise NotUnderstood("That is not a form of question I know.")
    form, asked = known
    rest = asked.get("rest") or ""
    match form:
        case "tables":
            return Overview()
        case "columns":
            return Overview(_table(schema, asked["of"] or asked["has"] or ""))
        case "most" | "top":
            return _ranked(schema, asked, rest)
        case "common":
            return _common(schema, asked, split(rest))
        case "count":
            return _count(schema, split(rest))
        case "figure":
            clauses = split(COUNTED.sub("", rest, count=1))  # "average number of seats"
            return _measured(schema, forms.function(asked["function"] or ""), clauses, ALL_ROWS)
        case _:
            return _rows(schema, asked, split(rest))


def _table(schema: Schema, phrase: str) -> Table:
    table = schema.find(phrase)
    if table is None:
        raise NotUnderstood(f"I found no table for “{phrase}”.")
    return table


def _limit(asked: dict[str, str | None], entity: str) -> int:
    plural = singular(entity.split()[-1].lower()) != entity.split()[-1].lower()
    wanted = number(asked.get("n") or "") or (DEFAULT_ROWS if plural else 1)
    return max(1, min(wanted, MAX_ROWS))


def _grouped(
    schema: Schema, table: Table, measure: Measure, clauses: Clauses, limit: int = ALL_ROWS
) -> Query:
    """One figure, or one per group; groups of time come in their own order."""
    keys: tuple[Field, ...] = ()
    labels: tuple[Field, ...] = ()
    for phrase in [part for group in clauses.groups for part in re.split(r"\s+and\s+", group)]:
        more_keys, more_labels = fields.grouping(schema, table, phrase)
        keys, labels = keys + more_keys, labels + more_labels
    ordinal = not labels and all(key.unit or key.column.kind in ("number", "date") for key in keys)
    return Query(
        table,
        measure,
        keys,
        labels,
        conditions(schema, table, clauses),
        by_measure=len(keys) == 1 and not ordinal,
        descending=measure.function != "min",
        limit=MAX_ROWS if ordinal or len(keys) > 1 else limit,
    )


def _count(schema: Schema, clauses: Clauses) -> Query:
    subject = clauses.subject
    distinct = re.match(r"(?:different|distinct|unique)\s+", subject, re.IGNORECASE)
    subject = subject[distinct.end() :] if distinct else subject
    subject = subject or _first_filter(clauses)
    table = None if distinct else schema.find(subject)
    if table:
        return _grouped(schema, table, Measure("count"), clauses)
    within = _hinted(schema, clauses)
    try:
        candidates = fields.measured(schema, subject, ANY_KIND, within)
    except NotUnderstood:
        raise NotUnderstood(f"I found no table or column for “{subject}”.") from None
    base, field = candidates[0]
    if set(words(base.noun)) & set(words(subject)):  # "active customers" are no values of active
        raise NotUnderstood(f"I do not know which {base.noun} “{subject}” are.")
    return _grouped(schema, base, Measure("distinct", field), clauses)


def _first_filter(clauses: Clauses) -> str:
    """What is left to be the subject in "how many rows in flights"."""
    return clauses.filters[0][1] if clauses.filters else ""


def _hinted(schema: Schema, clauses: Clauses) -> Table | None:
    """The table a question names besides its subject, as in "of all flights"."""
    for _, text in clauses.filters:
        table = schema.find(text)
        if table and match(text, table.noun) >= GOOD:
            return table
    return None


def _measured(schema: Schema, function: str, clauses: Clauses, limit: int) -> Query:
    """The first table that has the column and everything else the question needs."""
    kinds = ("number", "date") if function in ("max", "min") else ("number",)
    if any(match(clauses.subject, table.noun) > GOOD for table in schema.tables):
        raise NotUnderstood(f"I can count {clauses.subject}, but take no figure of counts.")
    within = _hinted(schema, clauses)
    problem: NotUnderstood | None = None
    for table, field in fields.measured(schema, clauses.subject, kinds, within):
        try:
            return _grouped(schema, table, Measure(function, field), clauses, limit)
        except NotUnderstood as error:
            problem = problem or error
    raise problem or NotUnderstood(f"I found no column for “{clauses.subject}”.")


def _ranked(schema: Schema, asked: dict[str, str | None], rest: str) -> Query:
    """The N things with the most of something, or with the highest figure."""
    entity = bare(asked["entity"] or "")
    limit, descending = _limit(asked, entity), bool(asked["up"])
    counted = COUNTED.match(rest)
    rest = rest[counted.end() :] if counted else rest
    word, _, figure = rest.partition(" ")
    function = "" if counted or not figure else forms.function(word)
    if function:
        rest = re.sub(r"^of\s+", "", figure)
    clauses = split(rest)
    own = schema.find(entity)
    if own and not counted and not function and own.find(clauses.subject)[1]:
        query = _listed(schema, own, clauses, limit)
        order = fields.resolve(schema, own, clauses.subject)
        return replace(query, order=order, descending=descending)
    clauses.groups.insert(0, entity)
    if not function and schema.find(clauses.subject):
        query = _count(schema, clauses)
    else:
        query = _measured(schema, function or ("max" if descending else "min"), clauses, limit)
    return replace(query, by_measure=True, descending=descending, limit=limit, known_keys_only=True)


def _common(schema: Schema, asked: dict[str, str | None], clauses: Clauses) -> Query:
    """The values that occur most often: "the most common manufacturers of planes"."""
    phrase, within = clauses.subject, _hinted(schema, clauses)
    base, field = fields.measured(schema, phrase, ANY_KIND, within)[0]
    clauses.groups.insert(0, field.column.name)
    query = _grouped(schema, base, Measure("count"), clauses)
    limit, descending = _limit(asked, phrase), bool(asked["up"])
    return replace(query, by_measure=True, descending=descending, limit=limit, known_keys_only=True)


def _rows(schema: Schema, asked: dict[str, str | None], clauses: Clauses) -> Query:
    table = _table(schema, clauses.subject or _first_filter(clauses))
    if clauses.groups:  # "show me flights per carrier"
        return _grouped(schema, table, Measure("count"), clauses)
    wanted = number(asked.get("n") or "")
    everything = bool(asked.get("all")) or not wanted
    limit = min(wanted, MAX_ROWS) if wanted else ALL_ROWS if everything else DEFAULT_ROWS
    query = replace(_listed(schema, table, clauses, max(1, limit)), whole=everything)
    if asked.get("newest"):
        newest = table.first("date")
        order = Field(newest) if newest else query.order
        return replace(query, order=order, descending=True)
    return query


def _listed(schema: Schema, table: Table, clauses: Clauses, limit: int) -> Query:
    """Rows of a table, sorted as asked, else by their key."""
    key = table.column(table.primary_key[0]) if len(table.primary_key) == 1 else None
    order, descending = Field(key) if key else None, False
    for phrase in clauses.orders:
        falling = re.search(r"\s+(?:desc(?:ending)?|(?:highest|largest|newest) first)$", phrase)
        rising = re.search(r"\s+(?:asc(?:ending)?|(?:lowest|smallest|oldest) first)$", phrase)
        end = falling or rising
        phrase_alone = phrase[: end.start()] if end else phrase
        order, descending = fields.resolve(schema, table, phrase_alone), bool(falling)
    return Query(
        table,
        conditions=conditions(schema, table, clauses),
        order=order,
        descending=descending,
        limit=limit,
    )
