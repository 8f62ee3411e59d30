"""What all tables have in common: the registry, the names of constraints, usual columns."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    DateTime,
    ForeignKey,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Registry of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it as a class attribute
        str: Text,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        UUID: Uuid,
    }


def tenant_key() -> Mapped[UUID]:
    """The tenant a row belongs to, and is deleted with."""
    return mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))


def new_id() -> Mapped[UUID]:
    """A random id."""
    return mapped_column(primary_key=True, default=uuid4)


def now() -> Mapped[datetime]:
    """When a row was made.

    The wall clock, not the transaction's start: rows of one transaction keep their order.
    """
    return mapped_column(server_default=func.clock_timestamp())


def json_column(default: str) -> Mapped[Any]:
    """JSON with a default, as JSON text."""
    return mapped_column(JSONB, server_default=text(f"'{default}'::jsonb"))
