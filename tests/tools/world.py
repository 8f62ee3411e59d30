"""A database worth attacking, and how to see that nothing happened to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from activities.tools.registry import Registry, parse_arguments
from activities.tools.tool import Datasource, NoWeb, ToolContext, ToolNotFound, Web
from store.handles import Handles

SHOP = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'happy');
CREATE DOMAIN app.positive AS integer CHECK (VALUE > 0);
CREATE TABLE app.orders (
    id integer PRIMARY KEY, customer text NOT NULL, total numeric(12,2), "delete" boolean,
    mood app.mood DEFAULT 'happy', at timestamptz DEFAULT '2024-05-06 07:08:09+00'
);
INSERT INTO app.orders
SELECT n, 'customer ' || n, n * 1.25, n % 2 = 0 FROM generate_series(1, 1500) AS n;
CREATE TABLE app.lines (
    order_id integer REFERENCES app.orders (id), position integer, article text,
    PRIMARY KEY (order_id, position)
);
INSERT INTO app.lines SELECT n, 1, 'article ' || n FROM generate_series(1, 100) AS n;
CREATE TABLE app.log (at timestamptz DEFAULT now(), what text);
CREATE SEQUENCE app.s1;
CREATE TABLE app.secrets (token text);
INSERT INTO app.secrets VALUES ('CANARY-SECRET');
CREATE FUNCTION app.bump() RETURNS integer LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('bump'); RETURN 1; END$$;
CREATE FUNCTION app.bump(app.orders) RETURNS integer LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('bump row'); RETURN 1; END$$;
CREATE FUNCTION app.bump_integer(integer) RETURNS boolean LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('bump int'); RETURN true; END$$;
CREATE FUNCTION app.bump_pair(integer, integer) RETURNS boolean LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('bump pair'); RETURN true; END$$;
CREATE FUNCTION app.upper(integer) RETURNS text LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('bump upper'); RETURN 'x'; END$$;
CREATE FUNCTION app.doubled(integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT $1 * 2';
CREATE OPERATOR app.=== (LEFTARG = integer, RIGHTARG = integer, FUNCTION = app.bump_pair);
CREATE DOMAIN app.counted AS integer CHECK (app.bump_integer(VALUE));
CREATE VIEW app.plain AS SELECT id, customer, app.doubled(id) AS doubled FROM app.orders;
CREATE VIEW app.over_plain AS SELECT count(*) AS n FROM app.plain;
CREATE VIEW app.bumping AS SELECT app.bump() AS b;
CREATE VIEW app.over_bumping AS SELECT b FROM app.bumping;
CREATE VIEW app.sleeping AS SELECT pg_catalog.pg_sleep(30)::text AS s;
CREATE VIEW app.spying AS SELECT query FROM pg_catalog.pg_stat_activity;
CREATE PROCEDURE app.p() LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('procedure'); END$$;
CREATE EXTENSION dblink SCHEMA public;
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE EXTENSION file_fdw SCHEMA public;
CREATE TABLE app.names (name public.citext);
INSERT INTO app.names VALUES ('Ada');
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE app.passwd (line text) SERVER files
    OPTIONS (filename '/etc/passwd', format 'text', delimiter E'\\x01');
CREATE TABLE app.parts (n integer, line text) PARTITION BY LIST (n);
CREATE TABLE app.part1 PARTITION OF app.parts FOR VALUES IN (1);
INSERT INTO app.parts VALUES (1, 'here');
GRANT USAGE ON SCHEMA app TO reader, writer;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO reader;
GRANT ALL ON ALL TABLES IN SCHEMA app TO writer;
GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO writer;
GRANT CREATE ON SCHEMA app TO writer;
GRANT CREATE ON SCHEMA public TO writer;
ALTER ROLE reader SET search_path = app, public;
ALTER ROLE writer SET search_path = app, public;
ANALYZE;
"""

_STATE = """
SELECT
    (SELECT pg_catalog.md5(string_agg(o::text, '' ORDER BY id)) FROM app.orders AS o) AS orders,
    (SELECT count(*) FROM app.lines) AS lines,
    (SELECT count(*) FROM app.log) AS log,
    (SELECT last_value || ' ' || is_called FROM app.s1) AS sequence,
    (SELECT count(*) FROM pg_class WHERE relnamespace >= 2200) AS relations,
    (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
    (SELECT md5(string_agg(s::text, '' ORDER BY setdatabase, setrole)) FROM pg_db_role_setting AS s)
        AS settings,
    (SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles) AS roles
"""


@dataclass(slots=True)
class Sink:
    """Counts who connects."""

    port: int = 0
    connections: int = 0


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    counting = Sink()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counting.connections += 1
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    counting.port = server.sockets[0].getsockname()[1]
    async with server:
        yield counting


@dataclass(slots=True)
class Shop:
    """The database, seen by its superuser."""

    port: int
    admin: asyncpg.Connection
    sink: Sink

    async def state(self) -> dict[str, Any]:
        """Everything a query must not change."""
        return {**dict(await self.admin.fetchrow(_STATE)), "sink": self.sink.connections}

    async def busy(self) -> list[str]:
        """What runs or waits in a transaction on behalf of datasources."""
        rows = await self.admin.fetch(
            "SELECT state || ': ' || query AS doing FROM pg_stat_activity"
            " WHERE application_name = 'everturn datasource' AND state <> 'idle'"
        )
        return [row["doing"] for row in rows]

    async def locks(self) -> list[str]:
        """Locks held in this database by anyone but the asker."""
        rows = await self.admin.fetch(
            "SELECT mode FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'everturn datasource' AND locktype <> 'virtualxid'"
        )
        return [row["mode"] for row in rows]

    async def connections(self) -> int:
        """Connections of datasources."""
        return await self.admin.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everturn datasource'"
        )

    def source(self, role: str = "reader", **changes: Any) -> Datasource:
        """A datasource on it."""
        config = {"host": "127.0.0.1", "port": self.port, "database": "shop", "user": role}
        source = Datasource(uuid4(), uuid4(), "shop", "postgresql", 1, config, f"{role}-password")
        return replace(source, **changes)


@dataclass(frozen=True, slots=True)
class ListedDatasources:
    """`Datasources` over a fixed list."""

    sources: Sequence[Datasource]

    async def list(self) -> Sequence[Datasource]:
        return self.sources

    async def get(self, datasource_id: str) -> Datasource:
        for source in self.sources:
            if str(source.id) == datasource_id:
                return source
        raise ToolNotFound("There is no such datasource in this project. Call list_datasources.")


@dataclass(slots=True)
class Caller:
    """Calls tools as the executor does: text to arguments to result, under a deadline."""

    registry: Registry
    sources: Sequence[Datasource]
    project_id: UUID = field(default_factory=uuid4)
    deadline: timedelta = timedelta(seconds=20)
    web: Web = field(default_factory=NoWeb)
    handles: Handles | None = None

    async def __call__(self, tool_name: str, **arguments: Any) -> dict[str, Any]:
        tool = self.registry.get(tool_name)
        assert tool is not None
        context = ToolContext(
            tenant_id=self.sources[0].tenant_id if self.sources else uuid4(),
            project_id=self.project_id,
            execution_id=uuid4(),
            attempt=1,
            idempotency_key=str(uuid4()),
            deadline=self.deadline,
            datasources=ListedDatasources(self.sources),
            web=self.web,
            handles=self.handles,
        )
        result = await tool.run(parse_arguments(tool, json.dumps(arguments)), context)
        # What every result must be: strict JSON.
        return json.loads(json.dumps(result, allow_nan=False, ensure_ascii=False).encode())

    async def query(self, query: str) -> dict[str, Any]:
        return await self("database_query", datasource_id=str(self.sources[0].id), query=query)
