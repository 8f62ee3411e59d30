"""What a question asks for, before it is SQL."""

from dataclasses import dataclass, replace
from datetime import date

from embedded.demo_model.schema import Column, Table

DEFAULT_ROWS = 10
ALL_ROWS = 100
MAX_ROWS = 1000


class NotUnderstood(Exception):
    """No plan; the text is a sentence for people that names what could not be placed."""


@dataclass(frozen=True, slots=True)
class Link:
    """One step from the base table along a foreign key: base.column = table.key."""

    column: str
    table: Table
    key: str


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the base table, or of a linked one; `unit` takes a part of a date."""

    column: Column
    link: Link | None = None
    unit: str = ""

    @property
    def name(self) -> str:
        """For people and for the result's heading."""
        return self.unit or self.column.name


@dataclass(frozen=True, slots=True)
class Condition:
    """True when any of `fields` compares as asked.

    Attributes:
        operator: ``=``, ``!=``, ``>``, ``>=``, ``<``, ``<=``, ``between``, ``contains``,
            ``starts``, ``null`` or ``not null``.
    """

    fields: tuple[Field, ...]
    operator: str
    value: int | float | str | bool | date | None = None
    upper: int | float | date | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """``count``, ``distinct``, ``avg``, ``max``, ``min`` or ``sum``; only count needs no field."""

    function: str
    field: Field | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One SELECT: rows, one figure, or one figure per group.

    Attributes:
        keys: What to group by; empty for rows and for a single figure.
        labels: Names that belong to the keys, shown next to them.
        order: Rows only; `None` leaves the order to the database.
        by_measure: Groups come by their figure instead of by their keys.
        whole: The asker wanted everything, so a cut is worth a word.
    """

    table: Table
    measure: Measure | None = None
    keys: tuple[Field, ...] = ()
    labels: tuple[Field, ...] = ()
    conditions: tuple[Condition, ...] = ()
    order: Field | None = None
    by_measure: bool = True
    descending: bool = True
    known_keys_only: bool = False
    limit: int = DEFAULT_ROWS
    whole: bool = False

    def links(self) -> list[Link]:
        """The joins it needs, each once."""
        fields = [*self.keys, *self.labels, *([self.order] if self.order else [])]
        if self.measure and self.measure.field:
            fields.append(self.measure.field)
        for condition in self.conditions:
            fields.extend(condition.fields)
        return list(dict.fromkeys(field.link for field in fields if field.link))

    def without_joins(self) -> "Query | None":
        """The same question of the base table alone; `None` where that is not possible."""
        if not self.links():
            return None
        conditions = []
        for condition in self.conditions:
            own = tuple(field for field in condition.fields if not field.link)
            if not own:
                return None
            conditions.append(replace(condition, fields=own))
        plain = replace(self, labels=(), conditions=tuple(conditions))
        return None if plain.links() else plain


@dataclass(frozen=True, slots=True)
class Overview:
    """What tables there are, or what columns one of them has; the schema alone answers it."""

    table: Table | None = None


Plan = Query | Overview
