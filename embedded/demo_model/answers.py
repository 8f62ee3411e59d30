"""Results as Markdown, each answer with the line that says who wrote it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from embedded.demo_model.plans import Condition, Field, Overview, Query
from embedded.demo_model.schema import Schema, Table
from embedded.demo_model.sql import AGGREGATES, heading, label_heading
from embedded.demo_model.words import singular

LABEL = "— *scripted demo model; set OPENAI_API_KEY for a real one*"
MAX_CELLS = 250  # a longer table takes longer to type than to read in the tool's own card
MAX_CELL_CHARS = 80
SIGNS = {"contains": "contains", "starts": "starts with", "!=": "≠", ">=": "≥", "<=": "≤"}
CAN_DO = (
    "I am no language model. I read the schema of a datasource and know a handful of question "
    "forms: show rows, count them, rank them, and take averages, totals and extremes."
)


def labelled(text: str) -> str:
    """A final answer."""
    return f"{text.strip()}\n\n{LABEL}"


def figure(value: Any) -> str:
    """A measured value with separators for thousands; what is no number stays as it is."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return cell(value)
    if not number.is_finite():
        return str(value)
    if number == number.to_integral_value():
        return f"{int(number):,}"
    return f"{number.quantize(Decimal('0.01')):,}"


def cell(value: Any) -> str:
    """A value as it stands in a table; Markdown in it stays text."""
    if value is None:
        return "-"
    text = " ".join(str(value).split())
    if len(text) > MAX_CELL_CHARS:
        text = text[: MAX_CELL_CHARS - 1] + "…"
    for sign in "\\`*|<[":
        text = text.replace(sign, "\\" + sign)
    return text


def table(names: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """A Markdown table; `right` holds the columns with numbers."""
    rule = ["--:" if position in right else "---" for position in range(len(names))]
    lines = [[cell(name) for name in names], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _name(field: Field) -> str:
    return label_heading(field) if field.link else field.name


def _where(conditions: Sequence[Condition]) -> str:
    parts = []
    for condition in conditions:
        names = " or ".join(_name(field) for field in condition.fields)
        match condition.operator:
            case "null":
                parts.append(f"{names} is missing")
            case "not null":
                parts.append(f"{names} is known")
            case "between":
                parts.append(f"{names} is {condition.value} to {condition.upper}")
            case operator:
                parts.append(f"{names} {SIGNS.get(operator, operator)} {condition.value}")
    return f" where {cell_list(parts)}" if parts else ""


def cell_list(parts: Sequence[str]) -> str:
    """Parts of a sentence joined by "and", as text."""
    return " and ".join(cell(part) for part in parts)


def measure_words(query: Query) -> str:
    """What the figure is: "flights", "average dep_delay"."""
    measure = query.measure
    if measure is None or measure.field is None:
        return query.table.noun
    if measure.function == "distinct":
        return f"different values of {measure.field.name}"
    return f"{AGGREGATES[measure.function]} {measure.field.name}"


def of_query(query: Query, result: Mapping[str, Any]) -> str:
    """The answer to one question."""
    rows = [list(row.values()) if isinstance(row, Mapping) else row for row in result["rows"]]
    names = [str(column.get("name", "")) for column in result["columns"]]
    if query.measure and not query.keys and rows:
        return _single(query, rows[0][-1])
    if not rows:
        return f"Nothing in {query.table.noun} matches{_where(query.conditions)}."
    if query.measure and len(rows) == 1 and query.limit == 1:
        return _first(query, rows[0])
    return _several(query, names, rows, bool(result.get("truncated")))


def _single(query: Query, value: Any) -> str:
    where, noun = _where(query.conditions), query.table.noun
    if query.measure and query.measure.function == "count":
        return f"I count **{figure(value)}** {noun}{where}."
    if query.measure and query.measure.function == "distinct":
        return f"I count **{figure(value)}** {measure_words(query)} in {noun}{where}."
    if value is None:
        return f"There is no {measure_words(query)}{where}: no row of {noun} has one."
    return f"The {measure_words(query)} in {noun} is **{figure(value)}**{where}."


def _first(query: Query, row: Sequence[Any]) -> str:
    keys = ", ".join(cell(value) for value in row[: len(query.keys)])
    names = ", ".join(cell(value) for value in row[len(query.keys) : -1] if value is not None)
    kinds = ", ".join(key.name for key in query.keys)
    order = "highest" if query.descending else "lowest"
    shown = f"**{keys}** ({names})" if names else f"**{keys}**"
    what = measure_words(query)
    if query.measure and query.measure.field is None:
        what = f"number of {what}"
    where = _where(query.conditions)
    return f"The {order} {what} by {kinds}{where}: {shown} with **{figure(row[-1])}**."


def _several(query: Query, names: list[str], rows: list[Any], truncated: bool) -> str:
    where, measure = _where(query.conditions), query.measure
    shown = rows[: max(5, MAX_CELLS // max(1, len(names)))]
    last = len(names) - 1
    lines = [
        [figure(v) if measure and i == last else cell(v) for i, v in enumerate(row)]
        for row in shown
    ]
    numbers = frozenset(
        i for i in range(len(names)) if all(isinstance(row[i], int | float) for row in shown)
    ) | (frozenset({last}) if measure else frozenset())
    if measure:
        by = " and ".join(key.name for key in query.keys)
        order = ("highest" if query.descending else "lowest") + " first"
        order = f", {order}" if query.by_measure else ""
        title = heading(query, measure).replace("_", " ")
        title = f"{title[:1].upper()}{title[1:]} by {by}{order}{where}:"
    else:
        noun = query.table.noun if len(rows) > 1 else singular(query.table.noun)
        by = f", by {query.order.name}" if query.order and query.descending else ""
        title = f"{len(rows)} {noun}{by}{where}:"
    parts = [title, table(names, lines, numbers)]
    if len(shown) < len(rows):
        parts.append(f"Shown are {len(shown)} of the {len(rows)} rows of the result.")
    if truncated or (query.whole and len(rows) >= query.limit):
        parts.append("There are more rows than these; a filter or a figure says more.")
    return "\n\n".join(parts)


def of_overview(overview: Overview, schema: Schema, source: str) -> str:
    """What there is, from the schema alone."""
    if overview.table:
        columns = [[cell(column.name), cell(column.type)] for column in overview.table.columns]
        keys = ", ".join(overview.table.primary_key)
        title = f"{overview.table.noun} has {len(columns)} columns"
        title += f"; its primary key is {keys}:" if keys else ":"
        return f"{title}\n\n{table(['column', 'type'], columns, frozenset())}"
    rows = [[cell(t.noun), f"{t.row_estimate:,}", _columns(t)] for t in schema.tables]
    listing = table(["table", "rows (estimate)", "columns"], rows, frozenset({1}))
    return f"{cell(source)} has {len(rows)} tables:\n\n{listing}\n\n{suggestions(schema)}"


def _columns(listed: Table) -> str:
    names = [column.name for column in listed.columns]
    return cell(", ".join(names[:8])) + (f" … {len(names) - 8} more" if len(names) > 8 else "")


def examples(schema: Schema) -> list[str]:
    """Two questions that work with this schema."""
    found: list[str] = []
    for base in sorted(schema.tables, key=lambda table: -table.row_estimate):
        links = [target for key in base.foreign_keys if (target := schema.target(key))]
        named = next((target for target, _ in links if target.label), None)
        if named:
            entity = named.noun.replace("_", " ")
            found.append(f"Which ten {entity} had the most {base.noun.replace('_', ' ')}?")
            break
    for base in sorted(schema.tables, key=lambda table: table.row_estimate):
        found.append(f"Show me the first five {base.noun.replace('_', ' ')}")
        found.append(f"How many {base.noun.replace('_', ' ')} are there?")
    return list(dict.fromkeys(found))[:2]


def suggestions(schema: Schema) -> str:
    """The two examples as a list."""
    found = examples(schema)
    return "Try:\n\n" + "\n".join(f"- {cell(text)}" for text in found) if found else ""


def of_failure(what: str, error: Mapping[str, Any]) -> str:
    """A tool's error in words."""
    message = cell(error.get("message") or error.get("code") or "it gave no reason")
    return f"I could not {what}: {message}"
