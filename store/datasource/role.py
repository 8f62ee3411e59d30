"""What a PostgreSQL role may do, and whose database it is; asked of the server itself.

A read-only transaction holds back writes to rows. It does not hold back a superuser, a role that
reads the server's files or runs its programs, or one that can become such a role: those are
refused at save and again at query time, since roles change.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from store.datasource.errors import OwnDatabase, RoleTooPowerful

MAX_GRANTS = 50

# Tables no other program has side by side in one schema.
OWN_TABLES = ("room_events", "tool_executions", "tool_policies", "turns")

TOO_POWERFUL_ROLES = (
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_signal_backend",
    "pg_create_subscription",
)
_SERVER_FUNCTIONS = (
    "pg_read_file",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_stat_file",
    "lo_import",
    "lo_export",
    "pg_reload_conf",
    "pg_promote",
    "pg_rotate_logfile",
)

# The session's user counts as well as the current one: a role may be set to act as another, and
# RESET ROLE leads back. Membership counts however it is inherited: SET ROLE needs no inheritance.
_POWERS = """
WITH me AS (
    SELECT oid FROM pg_roles WHERE rolname IN (current_user, session_user)
), mine AS (
    SELECT r.* FROM pg_roles AS r
    WHERE EXISTS (SELECT FROM me WHERE pg_has_role(me.oid, r.oid, 'MEMBER'))
)
SELECT
    ARRAY(
        SELECT attribute FROM mine CROSS JOIN LATERAL (VALUES
            ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb),
            ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)
        ) AS a(attribute, present) WHERE present GROUP BY attribute ORDER BY attribute
    ) AS attributes,
    ARRAY(SELECT rolname::text FROM mine WHERE rolname = ANY($1::text[]) ORDER BY 1) AS roles,
    ARRAY(
        SELECT DISTINCT proname::text FROM pg_proc AS p
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY($2::text[])
          AND EXISTS (SELECT FROM me
                      WHERE has_function_privilege(me.oid, p.oid, 'EXECUTE'))
        ORDER BY 1
    ) AS functions,
    EXISTS (
        SELECT FROM pg_class
        WHERE relkind IN ('r', 'p') AND relname = ANY($3::text[])
        GROUP BY relnamespace HAVING count(*) = cardinality($3::text[])
    ) AS own_tables
"""

_IDENTITY = """
SELECT
    system_identifier,
    (SELECT oid FROM pg_database WHERE datname = current_database()) AS database
FROM pg_control_system()
"""

# Everything through which rows could be changed or things be created, as far as grants tell.
_GRANTS = """
SELECT grant_text FROM (
    SELECT 1 AS place, 'member of ' || rolname AS grant_text FROM pg_roles
    WHERE rolname IN ('pg_write_all_data', 'pg_maintain')
      AND pg_has_role(current_user, oid, 'MEMBER')
    UNION ALL
    SELECT 2, 'CREATE on database ' || current_database()
    WHERE has_database_privilege(current_database(), 'CREATE')
    UNION ALL
    SELECT 3, 'CREATE on schema ' || nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND has_schema_privilege(oid, 'CREATE')
    UNION ALL
    SELECT 4, concat(string_agg(p.privilege, ', ' ORDER BY p.place),
                     ' on ', n.nspname, '.', c.relname)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN (
        VALUES (1, 'INSERT'), (2, 'UPDATE'), (3, 'DELETE'), (4, 'TRUNCATE')
    ) AS p(place, privilege)
    WHERE c.relkind IN ('r', 'p', 'v', 'f')
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND CASE WHEN p.place <= 2 THEN has_any_column_privilege(c.oid, p.privilege)
               ELSE has_table_privilege(c.oid, p.privilege) END
    GROUP BY n.nspname, c.relname
    UNION ALL
    SELECT 5, 'USAGE on sequence ' || n.nspname || '.' || c.relname
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_'
      -- In this order: asked of anything but a sequence, it is an error.
      AND CASE WHEN c.relkind = 'S'
          THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE') END
) AS found ORDER BY place, grant_text LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """One database of one cluster, whatever host name, proxy or replica leads to it."""

    system: int
    database: int


@dataclass(frozen=True, slots=True)
class RoleReport:
    """What was found.

    Attributes:
        writable: The role can change data or create things; the transaction is then all that
            keeps it from doing so, and people are told.
        grants: Why, one line each, at most `MAX_GRANTS`.
        problems: Why the datasource is refused; none if it is accepted.
        operations: What an HTTP service's OpenAPI document describes.
    """

    role: str
    writable: bool = False
    grants: Sequence[str] = ()
    problems: Sequence[RoleTooPowerful | OwnDatabase] = field(default=())
    operations: Sequence[dict[str, Any]] = ()

    def require_accepted(self) -> None:
        """Raise the first problem, if there is one."""
        for problem in self.problems:
            raise problem


@asynccontextmanager
async def _reading(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction in which a database's own functions are neither found nor able to write."""
    async with connection.transaction(readonly=True):
        await connection.execute("SET LOCAL search_path = pg_catalog")
        yield


async def identity(connection: asyncpg.Connection) -> Identity | None:
    """Which database this is; None where the server keeps that to itself."""
    try:
        async with _reading(connection):
            row = await connection.fetchrow(_IDENTITY)
    except asyncpg.InsufficientPrivilegeError:  # some hosted servers
        return None
    return None if row is None else Identity(row["system_identifier"], row["database"])


async def inspect_powers(
    connection: asyncpg.Connection, own: Identity | None
) -> list[RoleTooPowerful | OwnDatabase]:
    """The quick part of `inspect_role`: what makes a datasource refused.

    Args:
        connection: Outside a transaction.
        own: Our database, if known. Its tables are recognised without that as well.
    """
    async with _reading(connection):
        (row,) = await connection.fetch(
            _POWERS, list(TOO_POWERFUL_ROLES), list(_SERVER_FUNCTIONS), list(OWN_TABLES)
        )
    found = await identity(connection) if own is not None else None
    problems: list[RoleTooPowerful | OwnDatabase] = []
    if row["own_tables"] or (found is not None and found == own):
        problems.append(
            OwnDatabase(
                "This is the database of an Everturn installation: it holds every tenant's "
                "conversations and secrets. Use the database your data is in."
            )
        )
    reasons = [
        *row["attributes"],
        *(f"member of {name}" for name in row["roles"]),
        *(f"may run {name}()" for name in row["functions"]),
    ]
    if reasons:
        problems.append(
            RoleTooPowerful(
                f"The role can do more than work with rows ({', '.join(reasons[:8])}), and a "
                "read-only transaction does not hold that back. Create a role for reading: "
                "CREATE ROLE reader LOGIN PASSWORD '…', then GRANT USAGE ON SCHEMA … and "
                "GRANT SELECT ON … to it."
            )
        )
    return problems


async def inspect_role(connection: asyncpg.Connection, own: Identity | None) -> RoleReport:
    """Everything there is to say about the role of `connection`; for save and test."""
    problems = await inspect_powers(connection, own)
    async with _reading(connection):
        grants = [row["grant_text"] for row in await connection.fetch(_GRANTS, MAX_GRANTS)]
        role = await connection.fetchval("SELECT current_user::text")
    return RoleReport(role=role, writable=bool(grants), grants=grants, problems=problems)
