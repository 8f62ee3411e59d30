"""How a column of a MySQL result travels: its type decides what its bytes mean.

Dates that are none (``0000-00-00``) and times beyond a day stay the texts they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncmy.constants import FIELD_TYPE

from activities.tools.sql import values
from activities.tools.sql.values import CELL_BYTES
from store.texts import clean

_BINARY = 63  # number of the character set that is none
_UNSIGNED, _ENUM, _SET = 32, 256, 2048

_NAMES = {
    FIELD_TYPE.TINY: "tinyint",
    FIELD_TYPE.SHORT: "smallint",
    FIELD_TYPE.INT24: "mediumint",
    FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint",
    FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "double",
    FIELD_TYPE.DECIMAL: "decimal",
    FIELD_TYPE.NEWDECIMAL: "decimal",
    FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date",
    FIELD_TYPE.TIME: "time",
    FIELD_TYPE.DATETIME: "datetime",
    FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.YEAR: "year",
    FIELD_TYPE.BIT: "bit",
    FIELD_TYPE.JSON: "json",
    FIELD_TYPE.NULL: "null",
    FIELD_TYPE.GEOMETRY: "geometry",
    FIELD_TYPE.ENUM: "enum",
    FIELD_TYPE.SET: "set",
}
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
_STRINGS = {
    FIELD_TYPE.STRING: ("char", "binary"),
    FIELD_TYPE.VARCHAR: ("varchar", "varbinary"),
    FIELD_TYPE.VAR_STRING: ("varchar", "varbinary"),
}


def _text(data: bytes) -> str:
    # A little more than is shown, so that it is seen to be cut.
    return data[: CELL_BYTES + 4].decode(errors="replace")


def _json(data: bytes) -> Any:
    return (
        values.from_json(data.decode(errors="replace")) if len(data) <= CELL_BYTES else _text(data)
    )


def _datetime(data: bytes) -> str:
    text = _text(data)
    return text if text.startswith("0000") else text.replace(" ", "T")


def _timestamp(data: bytes) -> str:
    text = _datetime(data)
    return f"{text}+00:00" if "T" in text else text


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result.

    Attributes:
        type: Name in SQL.
        value: From the bytes that the server sent to a value that `values.cell` takes.
    """

    name: str
    type: str
    value: Callable[[bytes], Any]

    @classmethod
    def of(cls, field: Any) -> "Column":
        """Decide from what the server said about the column."""
        name = (
            bytes(field.name).decode(errors="replace")
            if isinstance(field.name, bytes)
            else field.name
        )
        kind = _type_name(field)
        return cls(clean(name), kind, _form(kind, field))


def _type_name(field: Any) -> str:
    code, flags, is_binary = field.type_code, field.flags, field.charsetnr == _BINARY
    if flags & _ENUM or flags & _SET:
        return "enum" if flags & _ENUM else "set"
    if code in _NAMES:
        name = _NAMES[code]
        return f"{name} unsigned" if flags & _UNSIGNED and name in _INTEGERS - {"year"} else name
    if code in _STRINGS:
        return _STRINGS[code][is_binary]
    return "blob" if is_binary else "text"


def _form(kind: str, field: Any) -> Callable[[bytes], Any]:
    match kind.removesuffix(" unsigned"):
        case name if name in _INTEGERS:
            return int
        case "float" | "double":
            return lambda data: values.real(float(data))
        case "decimal":
            return lambda data: values.number(data.decode())
        case "datetime":
            return _datetime
        case "timestamp":
            return _timestamp
        case "bit":
            return lambda data: format(int.from_bytes(data), f"0{field.length}b")
        case "json":
            return _json
        case "binary" | "varbinary" | "blob" | "geometry":
            return lambda data: data
        case _:
            return _text
