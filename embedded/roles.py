"""Roles and databases of the embedded PostgreSQL; safe to run at every start.

``everturn_owner`` owns the tables and migrates, ``everturn_app`` is what edge and workers are
(subject to row-level security). The demo data lives in a database of its own whose reader can
neither write there nor connect to any other.
"""

from dataclasses import dataclass

import asyncpg

from embedded.keys import Keys
from embedded.ports import LOOPBACK

SUPERUSER = "postgres"
OWNER, APP = "everturn_owner", "everturn_app"
DEMO_OWNER, DEMO_READER = "demo_owner", "demo_reader"
DATABASE, DEMO_DATABASE = "everturn", "nycflights13"

PLAIN_ROLE = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

# Reading is all the demo role is for, so the functions that write files or large objects, or
# reach another server's files, are not for it even where a transaction would allow them.
DEMO_GRANTS = f"""
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {DEMO_READER};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {DEMO_READER};
ALTER DEFAULT PRIVILEGES FOR ROLE {DEMO_OWNER} IN SCHEMA public
    GRANT SELECT ON TABLES TO {DEMO_READER};
ALTER ROLE {DEMO_READER} SET default_transaction_read_only = on;
ALTER ROLE {DEMO_READER} SET statement_timeout = '30s';
ALTER ROLE {DEMO_READER} SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE {DEMO_READER} CONNECTION LIMIT 40;
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea),
    lo_put(oid, bigint, bytea), lo_unlink(oid), lowrite(integer, bytea) FROM PUBLIC;
"""  # noqa: S608 - our own constants


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server and the ways into it. The URLs are plain ``postgresql://`` ones."""

    port: int
    keys: Keys
    host: str = LOOPBACK

    def dsn(self, role: str = SUPERUSER, database: str = "postgres") -> str:
        """URL of ``database`` as ``role``."""
        password = {
            SUPERUSER: self.keys.superuser_password,
            OWNER: self.keys.owner_password,
            APP: self.keys.app_password,
            DEMO_OWNER: self.keys.demo_owner_password,
            DEMO_READER: self.keys.demo_reader_password,
        }[role]
        return f"postgresql://{role}:{password}@{self.host}:{self.port}/{database}"

    @property
    def superuser_dsn(self) -> str:
        """The superuser in the maintenance database."""
        return self.dsn()

    @property
    def owner_dsn(self) -> str:
        """The owner of our tables: migrations."""
        return self.dsn(OWNER, DATABASE)

    @property
    def app_dsn(self) -> str:
        """The application: edge and workers."""
        return self.dsn(APP, DATABASE)

    @property
    def demo_owner_dsn(self) -> str:
        """Who loads the demo data."""
        return self.dsn(DEMO_OWNER, DEMO_DATABASE)

    @property
    def demo_reader_dsn(self) -> str:
        """The demo datasource."""
        return self.dsn(DEMO_READER, DEMO_DATABASE)


def for_sqlalchemy(dsn: str) -> str:
    """The same URL for SQLAlchemy's asyncpg dialect."""
    return dsn.replace("postgresql://", "postgresql+asyncpg://", 1)


async def _create_role(server: asyncpg.Connection, name: str, password: str) -> None:
    if not await server.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        await server.execute(f"CREATE ROLE {name}")
    await server.execute(f"ALTER ROLE {name} {PLAIN_ROLE} PASSWORD '{password}'")


async def _create_database(server: asyncpg.Connection, name: str, owner: str, guest: str) -> None:
    if not await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        await server.execute(f"CREATE DATABASE {name} OWNER {owner}")
    await server.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    await server.execute(f"GRANT CONNECT ON DATABASE {name} TO {owner}, {guest}")


async def create(postgres: Postgres) -> None:
    """Create or repair every role, database and grant."""
    keys = postgres.keys
    server = await asyncpg.connect(postgres.superuser_dsn)
    try:
        await _create_role(server, OWNER, keys.owner_password)
        await _create_role(server, APP, keys.app_password)
        await _create_role(server, DEMO_OWNER, keys.demo_owner_password)
        await _create_role(server, DEMO_READER, keys.demo_reader_password)
        await _create_database(server, DATABASE, OWNER, APP)
        await _create_database(server, DEMO_DATABASE, DEMO_OWNER, DEMO_READER)
        await server.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    finally:
        await server.close()
    demo = await asyncpg.connect(postgres.dsn(SUPERUSER, DEMO_DATABASE))
    try:
        await demo.execute(DEMO_GRANTS)
    finally:
        await demo.close()
