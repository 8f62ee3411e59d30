"""JSON as it is stored and sent."""

from typing import Any
from uuid import UUID

import orjson


def encode(value: Any) -> bytes:
    """JSON of a value; UUIDs (the database driver's kind as well) and times in their ISO forms."""
    return orjson.dumps(value, default=_uuid)


def _uuid(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__name__)
