"""Which columns a phrase means, seen from a base table: its own, or one foreign key away."""

from embedded.demo_model.plans import Field, Link, NotUnderstood
from embedded.demo_model.schema import GOOD, Schema, Table
from embedded.demo_model.words import match, words

UNITS = ("day", "date", "week", "month", "year", "hour")
LINKED = 0.7  # a neighbour's column has to fit better than an own one


def links(schema: Schema, base: Table) -> list[Link]:
    """Ways out of the base table along keys of one column, in the order of its columns."""
    found = []
    for key in base.foreign_keys:
        target = schema.target(key)
        if target and base.column(key.columns[0]):
            found.append(Link(key.columns[0], target[0], target[1].name))
    names = [column.name for column in base.columns]
    return sorted(found, key=lambda link: names.index(link.column))


def label_of(link: Link) -> Field | None:
    """The name people know the row at the other end by."""
    label = link.table.label
    return Field(label, link) if label and label.name != link.key else None


def link_of(schema: Schema, base: Table, field: Field) -> Link | None:
    """The link that starts at this column of the base table."""
    if field.link:
        return None
    return next((link for link in links(schema, base) if link.column == field.column.name), None)


def own(base: Table, name: str) -> Field | None:
    """A column of the base table by its exact name."""
    column = base.column(name)
    return Field(column) if column else None


def resolve(schema: Schema, base: Table, phrase: str) -> Field:
    """The one column a phrase means; a table's name means the key that leads there.

    Raises:
        NotUnderstood: Nothing fits.
    """
    score, column = base.find(phrase)
    best: tuple[float, Field | None] = (score, Field(column) if column else None)
    for link in links(schema, base):
        start = own(base, link.column)
        fit = max(
            match(phrase, link.table.noun),
            match(phrase, f"{link.column}_{'_'.join(words(link.table.noun))}"),
        )
        if fit > best[0]:
            best = (fit, start)
        fit, column = link.table.find(phrase)
        if column and LINKED * fit > best[0]:
            best = (LINKED * fit, start if column.name == link.key else Field(column, link))
    if best[1] is None:
        raise NotUnderstood(f"I found no column for “{phrase}” in or next to {base.noun}.")
    return best[1]


def calendar(base: Table, unit: str) -> tuple[Field, ...]:
    """What to group by for a span of time; empty when the table knows no such thing.

    Columns named year, month and day belong together: days of the month alone would add up
    the first of January and the first of February.
    """
    parts = {"year": ["year"], "month": ["year", "month"], "day": ["year", "month", "day"]}
    names = parts.get("day" if unit == "date" else unit, [unit])
    found = [field for field in (own(base, name) for name in names) if field]
    if own(base, names[-1]) and (unit not in ("day", "date") or len(found) == len(names)):
        return tuple(found)
    moment = base.first("date")
    if moment:
        return (Field(moment, unit="day" if unit == "date" else unit),)
    return ()


def grouping(
    schema: Schema, base: Table, phrase: str
) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Keys to group by and the names to show with them.

    Raises:
        NotUnderstood: Nothing fits.
    """
    asked = words(phrase)
    literal = base.column(phrase.strip().lower())
    if len(asked) == 1 and asked[0] in UNITS and not (literal and literal.kind == "date"):
        keys = calendar(base, asked[0])
        if keys:
            return keys, ()
    field = resolve(schema, base, phrase)
    link = link_of(schema, base, field)
    label = label_of(link) if link else None
    return (field,), ((label,) if label else ())


def measured(
    schema: Schema, phrase: str, kinds: tuple[str, ...], within: Table | None
) -> list[tuple[Table, Field]]:
    """Tables that have the column a phrase means, best fit first, then the one with most rows.

    Raises:
        NotUnderstood: There is none.
    """
    found = []
    for table in [within] if within else schema.tables:
        score, column = table.find(phrase)
        if column and column.kind in kinds:
            found.append((score, table.row_estimate, table, Field(column)))
        elif column and score >= GOOD and within:
            raise NotUnderstood(f"{column.name} of {table.noun} holds no numbers.")
    if not found:
        raise NotUnderstood(f"I found no column with figures for “{phrase}”.")
    found.sort(key=lambda item: (item[0], item[1]), reverse=True)
    return [(table, field) for _, _, table, field in found]
