"""A described schema, read leniently, and which table, column or neighbour a phrase means."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedded.demo_model.words import match, words

LABELS = ("name", "title", "label", "display_name", "full_name", "username", "email", "description")
GOOD = 1.0  # a match of all words, none abbreviated


def parts(name: str) -> list[str]:
    """Schema and name of ``public.flights`` or ``public."Order Items"``, without quotes."""
    found = re.findall(r'"((?:[^"]|"")+)"(?:\.|$)|([^.]+)', name)
    return [quoted.replace('""', '"') or plain for quoted, plain in found]


@dataclass(frozen=True, slots=True)
class Column:
    """A column as `describe_schema` gives it; the type is the database's own word."""

    name: str
    type: str = ""

    @property
    def kind(self) -> str:
        """``number``, ``date``, ``boolean``, ``text`` or ``other``."""
        name = self.type.lower()
        if any(sign in name for sign in ("[]", "interval", "json", "point", "range")):
            return "other"
        for kind, signs in (
            ("date", ("date", "timestamp")),
            ("boolean", ("bool",)),
            ("number", ("int", "serial", "num", "dec", "real", "double", "float", "money")),
            ("text", ("char", "text", "clob", "string")),
        ):
            if any(sign in name for sign in signs):
                return kind
        return "other"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns here that name a row over there; `references` may be empty: the primary key."""

    columns: tuple[str, ...]
    table: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view; the name may carry its schema."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    row_estimate: int = 0

    @property
    def noun(self) -> str:
        """The name without its schema."""
        return parts(self.name)[-1]

    @property
    def label(self) -> Column | None:
        """The column people know a row by, such as its name."""
        own = "_".join(words(self.noun))
        for wanted in (*LABELS, *(f"{own}_{label}" for label in LABELS[:3])):
            for column in self.columns:
                if column.name.lower() == wanted and column.kind == "text":
                    return column
        return None

    def column(self, name: str) -> Column | None:
        """The column of exactly this name."""
        return next((column for column in self.columns if column.name == name), None)

    def find(self, phrase: str) -> tuple[float, Column | None]:
        """The column a phrase means and how well it fits; the earlier one of equals."""
        best: tuple[float, Column | None] = (0.0, None)
        own = set(words(self.noun))
        without_own = " ".join(word for word in words(phrase) if word not in own)
        for column in self.columns:
            score = max(match(phrase, column.name), 0.95 * match(without_own, column.name))
            if score > best[0]:
                best = (score, column)
        return best

    def first(self, kind: str) -> Column | None:
        """The first column of a kind."""
        return next((column for column in self.columns if column.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables of a datasource that were described."""

    tables: tuple[Table, ...]

    def find(self, phrase: str) -> Table | None:
        """The table a phrase means: by its name, else by its only key ("carriers" of airlines)."""
        best, best_score = None, 0.0
        for table in self.tables:
            score = max(match(phrase, table.noun), match(phrase, table.name))
            if len(table.primary_key) == 1 and match(phrase, table.primary_key[0]) >= GOOD:
                score = max(score, 0.9)
            if score > best_score:
                best, best_score = table, score
        return best

    def target(self, key: ForeignKey) -> tuple[Table, Column] | None:
        """Table and column a key of one column leads to."""
        if len(key.columns) != 1:
            return None
        noun = parts(key.table)[-1]
        for table in sorted(self.tables, key=lambda table: table.name != key.table):
            if table.noun == noun:
                names = key.references or table.primary_key
                column = table.column(names[0]) if len(names) == 1 else None
                return (table, column) if column else None
        return None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence):
        return ()
    found = (item.get("name") if isinstance(item, Mapping) else item for item in value)
    return tuple(name for name in found if isinstance(name, str))


def _first(source: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((source[key] for key in keys if source.get(key)), None)


def _foreign_key(value: Any) -> ForeignKey | None:
    if not isinstance(value, Mapping):
        return None
    target = _first(value, ("table", "referred_table", "references_table", "target_table"))
    references = _first(
        value, ("references", "referred_columns", "referenced_columns", "target_columns")
    )
    if isinstance(references, Mapping):  # {"references": {"table": …, "columns": […]}}
        target = target or references.get("table")
        references = references.get("columns")
    columns = _names(_first(value, ("columns", "constrained_columns", "column")))
    if not columns or not isinstance(target, str) or not parts(target):
        return None
    namespace = value.get("referred_schema")
    if isinstance(namespace, str) and namespace and "." not in target:
        target = f"{namespace}.{target}"
    return ForeignKey(columns, target, _names(references))


def _table(value: Mapping[str, Any]) -> Table:
    columns = [
        Column(column["name"], str(column.get("type") or ""))
        for column in value.get("columns") or ()
        if isinstance(column, Mapping) and isinstance(column.get("name"), str)
    ]
    estimate = value.get("row_estimate")
    keys = (_foreign_key(key) for key in value.get("foreign_keys") or ())
    return Table(
        name=str(value["name"]),
        columns=tuple(columns),
        primary_key=_names(value.get("primary_key") or ()),
        foreign_keys=tuple(key for key in keys if key),
        row_estimate=int(estimate) if isinstance(estimate, int | float) else 0,
    )


def parse(result: Mapping[str, Any]) -> Schema:
    """Read what `describe_schema` returned; what cannot be read is left out."""
    tables = result.get("tables")
    return Schema(
        tuple(
            _table(table)
            for table in (tables if isinstance(tables, list) else ())
            if isinstance(table, Mapping) and parts(str(table.get("name") or ""))
        )
    )
