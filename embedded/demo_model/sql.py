"""A plan → one SELECT of PostgreSQL, SQLite, MySQL or DuckDB."""

from datetime import date, timedelta

from embedded.demo_model.plans import Condition, Field, Measure, Query
from embedded.demo_model.schema import Column, parts
from embedded.demo_model.words import words

KINDS = ("postgresql", "sqlite", "mysql", "duckdb")

# Text of a part of a date: PostgreSQL, SQLite, MySQL and DuckDB each have a language for it.
UNITS = {
    "year": ("YYYY", "%Y", "%Y"),
    "month": ("YYYY-MM", "%Y-%m", "%Y-%m"),
    "week": ('IYYY-"W"IW', "%Y-W%W", "%x-W%v"),
    "day": ("YYYY-MM-DD", "%Y-%m-%d", "%Y-%m-%d"),
    "hour": ("HH24", "%H", "%H"),
    "month of the year": ("MM", "%m", "%m"),
}
AGGREGATES = {"avg": "average", "max": "maximum", "min": "minimum", "sum": "total"}


def heading(query: Query, measure: Measure) -> str:
    """Name of the result's last column."""
    if measure.function == "count" or measure.field is None:
        return query.table.noun
    return f"{AGGREGATES.get(measure.function, measure.function)}_{measure.field.name}"


def label_heading(field: Field) -> str:
    """A label goes by its table: airlines.name is "airline"."""
    return "_".join(words(field.link.table.noun)) if field.link else field.name


def write(query: Query, kind: str) -> str:
    """The statement for a datasource of `kind`."""
    return _Writer(query, kind).statement()


class _Writer:
    """Writes one query: keeps the aliases of its joins."""

    def __init__(self, query: Query, kind: str) -> None:
        self.query, self.kind = query, kind
        self.links = query.links()
        taken = {query.table.noun}
        self.aliases = []
        for link in self.links:
            alias = link.table.noun
            if alias in taken:
                alias = f"{alias}_{link.column}"
            taken.add(alias)
            self.aliases.append(alias)

    def quote(self, name: str) -> str:
        mark = "`" if self.kind == "mysql" else '"'
        return mark + name.replace(mark, mark * 2) + mark

    def text(self, value: str) -> str:
        if self.kind == "mysql":
            value = value.replace("\\", "\\\\")
        return "'" + value.replace("'", "''") + "'"

    def table(self, name: str) -> str:
        return ".".join(self.quote(part) for part in parts(name))

    def field(self, field: Field) -> str:
        name = self.quote(field.column.name)
        if field.link:
            name = f"{self.quote(self.aliases[self.links.index(field.link)])}.{name}"
        elif self.links:
            name = f"{self.quote(self.query.table.noun)}.{name}"
        return self.part(name, field.unit) if field.unit else name

    def part(self, name: str, unit: str) -> str:
        postgresql, sqlite, other = UNITS[unit]
        match self.kind:
            case "sqlite":
                return f"strftime('{sqlite}', {name})"
            case "mysql":
                return f"date_format({name}, '{other}')"
            case "duckdb":
                return f"strftime({name}, '{other}')"
            case _:
                return f"to_char({name}, '{postgresql}')"

    def measure(self, measure: Measure) -> str:
        if measure.field is None:
            return "count(*)"
        name = self.field(measure.field)
        match measure.function:
            case "distinct":
                return f"count(DISTINCT {name})"
            case "avg" if self.kind == "postgresql":  # no round() for double precision there
                return f"round(avg({name})::numeric, 2)"
            case "avg":
                return f"round(avg({name}), 2)"
            case function:
                return f"{function}({name})"

    def statement(self) -> str:
        query = self.query
        groups = [self.field(field) for field in (*query.keys, *query.labels)]
        where = [self.condition(condition) for condition in query.conditions]
        if query.known_keys_only:
            where.extend(f"{self.field(key)} IS NOT NULL" for key in query.keys)
        order_by = query.order if not query.measure else None
        if order_by and order_by.column.name not in query.table.primary_key:
            where.append(f"{self.field(order_by)} IS NOT NULL")  # databases sort NULL differently
        if query.measure and query.measure.field and query.keys:
            where.append(f"{self.field(query.measure.field)} IS NOT NULL")
        lines = [
            f"SELECT {', '.join(self.selected(groups))}",
            f"FROM {self.table(query.table.name)}",
        ]
        lines.extend(self.joins())
        if where:
            lines.append("WHERE " + "\n  AND ".join(dict.fromkeys(where)))
        if groups:
            lines.append(f"GROUP BY {', '.join(groups)}")
        order = self.order()
        if order:
            lines.append(f"ORDER BY {', '.join(order)}")
        if groups or not query.measure:
            lines.append(f"LIMIT {query.limit}")
        return "\n".join(lines)

    def selected(self, groups: list[str]) -> list[str]:
        query = self.query
        if query.measure is None:
            return [f"{self.quote(query.table.noun)}.*"] if self.links else ["*"]
        names = [key.name for key in query.keys] + [label_heading(label) for label in query.labels]
        names.append(heading(query, query.measure))
        parts = [*groups, self.measure(query.measure)]
        return [
            part if part == self.quote(name) else f"{part} AS {self.quote(name)}"
            for part, name in zip(parts, names, strict=True)
        ]

    def joins(self) -> list[str]:
        base = self.quote(self.query.table.noun)
        lines = []
        for link, alias in zip(self.links, self.aliases, strict=True):
            name = self.quote(alias)
            renamed = "" if alias == link.table.noun else f" AS {name}"
            lines.append(
                f"LEFT JOIN {self.table(link.table.name)}{renamed} "
                f"ON {name}.{self.quote(link.key)} = {base}.{self.quote(link.column)}"
            )
        return lines

    def order(self) -> list[str]:
        query = self.query
        direction = " DESC" if query.descending else ""
        if query.measure is None:
            return [self.field(query.order) + direction] if query.order else []
        keys = [self.field(key) for key in query.keys]
        if not keys or not query.by_measure:
            return keys
        return [self.measure(query.measure) + direction, *keys]

    def condition(self, condition: Condition) -> str:
        parts = [self.compared(field, condition) for field in condition.fields]
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def compared(self, field: Field, condition: Condition) -> str:
        name, value, operator = self.field(field), condition.value, condition.operator
        if operator in ("null", "not null"):
            return f"{name} IS {operator.upper()}"
        if field.unit:  # its text has two digits
            return f"{name} {operator} '{int(str(value)):02}'"
        if isinstance(value, bool):
            spelled = str(int(value)) if self.kind in ("sqlite", "mysql") else str(value).lower()
            return f"{name} {operator} {spelled}"
        if isinstance(value, str):
            return self.compared_text(name, field.column, operator, value)
        if operator == "between":
            if isinstance(condition.upper, date):
                return self.within(name, value, condition.upper)
            return f"{name} BETWEEN {value} AND {condition.upper}"
        if isinstance(value, date):
            return self.compared_date(name, operator, value)
        return f"{name} {operator} {value}"

    def compared_text(self, name: str, column: Column, operator: str, value: str) -> str:
        if column.kind != "text":  # uuid, enum: only their text can be lowered
            name = f"CAST({name} AS {'char' if self.kind == 'mysql' else 'text'})"
        value = value.lower()
        if operator not in ("contains", "starts"):
            return f"lower({name}) {operator} {self.text(value)}"
        for sign in "!%_":
            value = value.replace(sign, "!" + sign)
        pattern = f"{value}%" if operator == "starts" else f"%{value}%"
        return f"lower({name}) LIKE {self.text(pattern)} ESCAPE '!'"

    def within(self, name: str, first: object, last: date) -> str:
        return f"{name} >= '{first}' AND {name} < '{last + timedelta(days=1)}'"

    def compared_date(self, name: str, operator: str, day: date) -> str:
        """Days are wholes: after a day means from the next one on."""
        following = day + timedelta(days=1)
        match operator:
            case ">":
                return f"{name} >= '{following}'"
            case "<=":
                return f"{name} < '{following}'"
            case "!=":
                return f"({name} < '{day}' OR {name} >= '{following}')"
            case "=":
                return self.within(name, day, day)
            case _:
                return f"{name} {operator} '{day}'"
