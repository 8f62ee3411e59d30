"""What a datasource is before it is saved: reachable, acceptable, and how much its role may do.

report = await check_datasource("postgresql", config, secret, surroundings)
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from store.datasource import mysql
from store.datasource.config import (
    DuckdbConfig,
    HttpConfig,
    MysqlConfig,
    PostgresqlConfig,
    SqliteConfig,
    check_secret,
    parse_config,
)
from store.datasource.duckdb import bound_files
from store.datasource.http import inspect_service
from store.datasource.mysql_role import inspect_user
from store.datasource.postgresql import connect, unreachable
from store.datasource.role import Identity, RoleReport, identity, inspect_role
from store.datasource.sqlite import open_file

CHECK_WITHIN = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides besides the datasource itself.

    Attributes:
        private_hosts: `Settings.private_hosts`.
        project_folder: Where the project's files are.
        own: Our own database, from `own_identity`.
    """

    private_hosts: Sequence[str]
    project_folder: Path
    own: Identity | None = None


async def own_identity(dsn: str) -> Identity | None:
    """Which database the application itself uses; None if it cannot be asked now.

    Args:
        dsn: `Settings.database_url`.
    """
    if not dsn:
        return None
    dsn = dsn.replace("postgresql+asyncpg://", "postgresql://", 1)
    try:
        connection = await asyncpg.connect(dsn, timeout=5, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    try:
        return await identity(connection)
    finally:
        await connection.close(timeout=5)


async def check_datasource(
    kind: str, config: Mapping[str, Any], secret: str, surroundings: Surroundings
) -> RoleReport:
    """Open the datasource once and say what its role may do.

    Args:
        kind: A kind of `config.KINDS`.
        config: As the client sent it.
        secret: Password, may be empty.
        surroundings: See there.

    Raises:
        store.errors.Refusal: A leaf of `store.datasource.errors` that says why it is refused.
    """
    parsed = parse_config(kind, config)
    check_secret(secret)
    match parsed:
        case PostgresqlConfig():
            report = await _check_postgresql(parsed, secret, surroundings)
        case MysqlConfig():
            report = await _check_mysql(parsed, secret, surroundings)
        case SqliteConfig():
            connection = await asyncio.to_thread(open_file, surroundings.project_folder, parsed)
            connection.close()
            report = RoleReport(role="")
        case HttpConfig():
            described = await inspect_service(parsed, secret, surroundings.private_hosts)
            report = RoleReport(role="", operations=described)
        case DuckdbConfig():
            await asyncio.to_thread(_check_files, surroundings.project_folder, parsed)
            report = RoleReport(role="")
        case _:
            report = RoleReport(role="")
    report.require_accepted()
    return report


async def _check_postgresql(
    config: PostgresqlConfig, secret: str, surroundings: Surroundings
) -> RoleReport:
    connection = await connect(config, secret, surroundings.private_hosts)
    try:
        async with asyncio.timeout(CHECK_WITHIN.total_seconds()):
            return await inspect_role(connection, surroundings.own)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unreachable(error) from None
    finally:
        connection.terminate()


async def _check_mysql(config: MysqlConfig, secret: str, surroundings: Surroundings) -> RoleReport:
    connection = await mysql.connect(config, secret, surroundings.private_hosts)
    try:
        async with asyncio.timeout(CHECK_WITHIN.total_seconds()):
            return await inspect_user(connection)
    except (*mysql.DRIVER_ERRORS, TimeoutError) as error:
        raise mysql.unreachable(error) from None
    finally:
        connection.close()


def _check_files(folder: Path, config: DuckdbConfig) -> None:
    with bound_files(folder, config):
        pass  # they are there, and of the kinds their names say
