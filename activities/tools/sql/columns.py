"""How a column of a PostgreSQL result travels: its type decides what the server makes of it.

Values of fixed size come as they are. All others come as texts of at most a cell's size, cut by the
server; which text is chosen so that `FORMS` can make the value's JSON form of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from activities.tools.sql import values
from activities.tools.sql.values import CELL_BYTES

_NATIVE = frozenset({"bool", "int2", "int4", "int8", "oid", "float8"})
_TEXT = frozenset({"text", "varchar", "bpchar", "name", "char", "xml"})
_NUMBER = frozenset({"numeric", "float4"})
_TIME = frozenset({"date", "time", "timetz", "timestamp", "timestamptz"})
_SHORT = frozenset({"float4", "uuid", "interval", "inet", "cidr", "macaddr", "macaddr8", *_TIME})

_SQL_NAMES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "bpchar": "character",
    "char": '"char"',
    "varbit": "bit varying",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}

# Cut characters, of up to four bytes: `values.cut` then cuts bytes. One more tells that it was cut.
_LIMIT = CELL_BYTES + 1


def sql_name(kind: asyncpg.Type) -> str:
    """A type's name as SQL writes it."""
    name, brackets = kind.name.removesuffix("[]"), "[]" if kind.name.endswith("[]") else ""
    if kind.schema == "pg_catalog":
        name = _SQL_NAMES.get(name, name)
    elif kind.schema not in {"public", ""}:
        name = f"{kind.schema}.{name}"
    return name + brackets


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result.

    Attributes:
        type: Name in SQL.
        form: Key of `FORMS`.
        is_wide: Its values may be as long as a cell.
    """

    name: str
    type: str
    form: str
    is_wide: bool

    @classmethod
    def of(cls, attribute: asyncpg.Attribute) -> "Column":
        """Decide from what the server said about a prepared query."""
        kind = attribute.type
        return cls(
            name=attribute.name,
            type=sql_name(kind),
            form=_form(kind),
            is_wide=not (
                kind.schema == "pg_catalog" and (kind.name in _NATIVE or kind.name in _SHORT)
            ),
        )

    def bounded(self, value: str) -> str:
        """The SQL expression that bounds `value`, a column reference of ours."""
        match self.form:
            case "native":
                return value
            case "bytes":
                hexadecimal = (
                    f"pg_catalog.encode(pg_catalog.substring({value}, 1, {_LIMIT}), 'hex')"
                )
                return f"pg_catalog.left(pg_catalog.concat('\\x', {hexadecimal}), {_LIMIT})"
            case "time":
                return f"pg_catalog.to_json({value}) OPERATOR(pg_catalog.#>>) '{{}}'::text[]"
            case "json" if self.type not in {"json", "jsonb"}:
                return f"pg_catalog.left(pg_catalog.to_json({value})::text, {_LIMIT})"
            case "opaque":
                # The type's output function. A cast to text could be the database's own code.
                text = f"pg_catalog.left(pg_catalog.format('%s', {value}), {_LIMIT})"
                return f"CASE WHEN {value} IS NOT NULL THEN {text} END"
            case _:
                return f"pg_catalog.left({value}::text, {_LIMIT})"


def _form(kind: asyncpg.Type) -> str:
    builtin = kind.schema == "pg_catalog"
    if kind.kind == "composite" or (kind.kind == "array" and builtin):
        return "json"
    if not builtin:
        return "opaque"
    if kind.name in _NATIVE:
        return "native"
    if kind.name in _NUMBER:
        return "number"
    if kind.name in _TIME:
        return "time"
    if kind.name in _TEXT:
        return "text"
    if kind.name in {"json", "jsonb", "record"} or kind.name.endswith("[]"):
        return "json"
    return "bytes" if kind.name == "bytea" else "opaque"


def _from_json(text: str) -> Any:
    return text if len(text) >= _LIMIT else values.from_json(text)


def _same(value: Any) -> Any:
    return value


FORMS: Mapping[str, Callable[[Any], Any]] = {
    "native": _same,
    "text": _same,
    "time": _same,
    "bytes": _same,
    "opaque": _same,
    "number": values.number,
    "json": _from_json,
}
