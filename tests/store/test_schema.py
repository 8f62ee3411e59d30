"""The schema: migrations match the tables, and every tenant is alone in it."""

import uuid

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from embedded.postgres import Postgres
from store.database import Database
from store.tables import Base, Project, Room, Tenant, User
from tests.system import sqlalchemy_url


async def tenant(database: Database, name: str) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with database.tenant_session(tenant_id) as session:
        await session.execute(
            insert(Tenant).values(id=tenant_id, name=name, slug=f"{name}-{tenant_id}")
        )
        await session.execute(
            insert(User).values(id=uuid.uuid4(), tenant_id=tenant_id, email=f"a@{name}", name=name)
        )
        project = uuid.uuid4()
        await session.execute(insert(Project).values(id=project, tenant_id=tenant_id, name=name))
        await session.execute(insert(Room).values(project_id=project, tenant_id=tenant_id))
    return tenant_id


async def test_migrations_lead_to_the_tables(database: Database, server: Postgres) -> None:
    engine = create_async_engine(sqlalchemy_url(server.owner_dsn))
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    await engine.dispose()
    assert differences == []


async def test_every_tenant_table_has_its_policy(database: Database, server: Postgres) -> None:
    connection = await asyncpg.connect(server.owner_dsn)
    rows = await connection.fetch(
        "SELECT c.relname, c.relrowsecurity, pg_get_userbyid(c.relowner) AS owner,"
        " (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid"
        "   AND p.polqual IS NOT NULL AND p.polwithcheck IS NOT NULL) AS policies"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname = 'public' AND c.relname <> 'alembic_version'"
    )
    await connection.close()
    assert {row["relname"] for row in rows} == set(Base.metadata.tables)
    for row in rows:
        assert row["relrowsecurity"], row["relname"]
        assert row["policies"] == 1, row["relname"]
        assert row["owner"] != "everturn_app"


async def test_the_application_is_nobody_special(database: Database, server: Postgres) -> None:
    connection = await asyncpg.connect(server.app_dsn)
    role = await connection.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
        " FROM pg_roles WHERE rolname = current_user"
    )
    assert not any(role.values())
    for statement in ("CREATE TABLE t (i int)", "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
                      "UPDATE audit_log SET action = ''", "DELETE FROM audit_log",
                      "SET ROLE everturn_owner"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_without_any_filter_a_tenant_sees_itself_alone(database: Database) -> None:
    one, other = await tenant(database, "one"), await tenant(database, "other")
    async with database.tenant_session(one) as session:
        assert set(await session.scalars(select(User.tenant_id))) == {one}
        assert set(await session.scalars(select(Room.tenant_id))) == {one}
        assert set(await session.scalars(select(Tenant.id))) == {one}
    async with database.tenant_session(other) as session:
        assert set(await session.scalars(select(Project.tenant_id))) == {other}


async def test_without_a_tenant_nothing_is_visible(database: Database) -> None:
    await tenant(database, "hidden")
    async with database.session() as session:
        for table in Base.metadata.sorted_tables:
            assert (await session.execute(select(table).limit(1))).first() is None, table.name


async def test_a_row_cannot_be_put_into_another_tenant(database: Database) -> None:
    one, other = await tenant(database, "mine"), await tenant(database, "theirs")
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.tenant_session(one) as session:
            await session.execute(
                insert(Project).values(id=uuid.uuid4(), tenant_id=other, name="smuggled")
            )


async def test_the_tenant_ends_with_its_transaction(database: Database) -> None:
    one = await tenant(database, "brief")
    async with database.tenant_session(one) as session:
        await session.execute(select(Tenant.id))
    for _ in range(8):
        async with database.session() as session:
            assert await session.scalar(text("SELECT count(*) FROM tenants")) == 0
