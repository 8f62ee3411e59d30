"""Datasources of a project: rows, and what must hold when they change.

Functions run within the tenant's transaction; asking the datasource itself takes seconds and is
done outside of one (`store.datasource.check`).
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from store.database import clock
from store.datasource.config import Config, HttpConfig, parse_config
from store.datasource.errors import InvalidConfig
from store.datasource.role import RoleReport
from store.errors import Conflict, NotFound
from store.outbound.urls import UrlRefused, is_unsteady, origin_of, parse_url
from store.tables import Datasource

NAME_TAKEN = "The project has a datasource of this name already."


def checked_config(kind: str, config: Mapping[str, Any]) -> Config:
    """`config` as it is stored.

    Raises:
        InvalidConfig: It does not fit the kind, or a URL in it carries a sign-in.
    """
    parsed = parse_config(kind, config)
    if isinstance(parsed, HttpConfig):
        for field in ("base_url", "openapi_url"):
            text = getattr(parsed, field)
            if text is None:
                continue
            try:
                url = parse_url(text)
                # The base is what its paths are put behind.
                usable = field == "openapi_url" or not (url.query or is_unsteady(url))
            except UrlRefused:
                usable = False
            if not usable:
                raise InvalidConfig(
                    f"config.{field} is no URL of a host, carries a sign-in, or is a base with a "
                    "query or `..` in it. A password belongs in `secret`."
                )
    return parsed


def destination(kind: str, config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where the secret is sent; a stored one does not follow to another."""
    if kind == "http":
        return origin_of(parse_url(str(config.get("base_url", ""))))
    return (config.get("host"), config.get("port"))


async def of_project(session: AsyncSession, project_id: UUID) -> Sequence[Datasource]:
    """A project's datasources, by name."""
    return (
        await session.scalars(
            select(Datasource)
            .where(Datasource.project_id == project_id)
            .order_by(Datasource.name, Datasource.id)
        )
    ).all()


async def get(
    session: AsyncSession, project_id: UUID, datasource_id: UUID, *, lock: bool = False
) -> Datasource:
    """A datasource of this very project.

    Raises:
        NotFound: There is none.
    """
    query = select(Datasource).where(
        Datasource.id == datasource_id, Datasource.project_id == project_id
    )
    if lock:
        query = query.with_for_update(key_share=True)
    row = await session.scalar(query)
    if row is None:
        raise NotFound
    return row


async def add(
    session: AsyncSession,
    tenant_id: UUID,
    project_id: UUID,
    name: str,
    kind: str,
    config: Mapping[str, Any],
    secret: bytes | None,
    report: RoleReport,
    cache_seconds: int = 0,
) -> Datasource:
    """A new datasource.

    Raises:
        Conflict: The project has one of this name.
    """
    added = await session.scalar(
        insert(Datasource)
        .values(
            id=uuid4(),
            tenant_id=tenant_id,
            project_id=project_id,
            name=name,
            kind=kind,
            config=dict(config),
            secret=secret,
            writable=report.writable,
            grants=list(report.grants),
            operations=list(report.operations),
            cache_seconds=cache_seconds,
        )
        .on_conflict_do_nothing(index_elements=["project_id", "name"])
        .returning(Datasource.id)
    )
    if added is None:
        raise Conflict(NAME_TAKEN)
    return await session.get_one(Datasource, added)


async def rename(session: AsyncSession, row: Datasource, name: str) -> None:
    """Give a datasource another name.

    Raises:
        Conflict: The project has one of this name.
    """
    try:
        async with session.begin_nested():
            row.name = name
            await session.flush()
    except IntegrityError as exc:
        raise Conflict(NAME_TAKEN) from exc


async def reconnect(
    session: AsyncSession, row: Datasource, config: Mapping[str, Any], secret: bytes | None
) -> None:
    """Point a datasource elsewhere; connections made for its old version are dropped."""
    row.config = dict(config)
    row.secret = secret
    row.version += 1
    row.updated_at = await clock(session)


def note(row: Datasource, report: RoleReport) -> None:
    """Keep what was found out about the datasource's role, or what its service offers."""
    row.writable = report.writable
    row.grants = list(report.grants)
    row.operations = list(report.operations)


async def drop(session: AsyncSession, project_id: UUID, datasource_id: UUID) -> None:
    """Delete a datasource.

    Raises:
        NotFound: There is none in this project.
    """
    dropped = await session.scalar(
        delete(Datasource)
        .where(Datasource.id == datasource_id, Datasource.project_id == project_id)
        .returning(Datasource.id)
    )
    if dropped is None:
        raise NotFound
