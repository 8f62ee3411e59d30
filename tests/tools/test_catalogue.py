"""What a database may hold that makes an innocent text do something."""

from contextlib import asynccontextmanager

import pytest

from activities.tools.tool import ToolRefused
from tests.tools.test_attacks import refusal_of
from tests.tools.world import Caller


@asynccontextmanager
async def made(shop, create, drop):
    await shop.admin.execute(create)
    try:
        yield
    finally:
        await shop.admin.execute(drop)


VOLATILE_CAST = """
CREATE TYPE app.pair AS (a integer, b integer);
CREATE FUNCTION app.pair_text(app.pair) RETURNS {target} LANGUAGE plpgsql VOLATILE AS
    $$BEGIN INSERT INTO app.log (what) VALUES ('cast'); RETURN NULL; END$$;
CREATE CAST (app.pair AS {target}) WITH FUNCTION app.pair_text(app.pair){context};
CREATE TABLE app.pairs (p app.pair);
INSERT INTO app.pairs VALUES (ROW(1, 2));
GRANT ALL ON app.pairs TO reader, writer;
"""
DROP_CAST = """
DROP TABLE app.pairs; DROP CAST (app.pair AS {target}); DROP FUNCTION app.pair_text(app.pair);
DROP TYPE app.pair;
"""


@pytest.mark.parametrize(
    ("target", "context", "query"),
    [
        ("bigint", "", "SELECT p::bigint FROM app.pairs"),
        ("bigint", "", "SELECT CAST(p AS int8) FROM app.pairs"),
        ("bigint", " AS IMPLICIT", "SELECT factorial(p) FROM app.pairs"),
        ("json", "", "SELECT to_json(p) FROM app.pairs"),
        ("json", "", "SELECT p FROM app.pairs"),
        ("json", "", "SELECT json_agg(x) FROM app.pairs AS x"),
    ],
)
@pytest.mark.usefixtures("writable_transaction")
async def test_casts_of_the_databases_own(writer, shop, target, context, query):
    create = VOLATILE_CAST.format(target=target, context=context)
    async with made(shop, create, DROP_CAST.format(target=target)):
        error = await refusal_of(writer, shop, query)
        assert isinstance(error, ToolRefused)
        assert "'types'" in error.message


async def test_harmless_casts_stay_usable(writer, shop):
    create = VOLATILE_CAST.format(target="bigint", context="").replace("VOLATILE", "IMMUTABLE")
    async with made(shop, create, DROP_CAST.format(target="bigint")):
        assert (await writer.query("SELECT count(*)::bigint FROM app.pairs"))["rows"] == [[1]]


@pytest.mark.parametrize("query", ["TABLE app.parts", "SELECT count(*) FROM parts"])
async def test_a_partition_on_another_server(reader, shop, query):
    create = (
        "CREATE FOREIGN TABLE app.part2 PARTITION OF app.parts FOR VALUES IN (2) SERVER files"
        " OPTIONS (filename '/etc/passwd')"
    )
    async with made(shop, create, "DROP FOREIGN TABLE app.part2"):
        error = await refusal_of(reader, shop, query)
        assert "on another server" in error.message


async def test_a_view_of_a_foreign_table(reader, shop):
    create = "CREATE VIEW app.far AS SELECT line FROM app.passwd; GRANT SELECT ON app.far TO reader"
    async with made(shop, create, "DROP VIEW app.far"):
        assert "on another server" in (await refusal_of(reader, shop, "TABLE app.far")).message


@pytest.mark.usefixtures("writable_transaction")
async def test_an_operator_that_shadows_a_built_in_one(writer, shop):
    create = (
        "CREATE OPERATOR app.= (LEFTARG = integer, RIGHTARG = bigint, FUNCTION = app.bump_mixed)"
    )
    function = (
        "CREATE FUNCTION app.bump_mixed(integer, bigint) RETURNS boolean LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO app.log (what) VALUES ('='); RETURN true; END$$;"
    )
    drop = "DROP OPERATOR app.= (integer, bigint); DROP FUNCTION app.bump_mixed"
    async with made(shop, function + create, drop):
        for query in (
            "SELECT 1 = 2::bigint",
            "SELECT 1 IN (2::bigint)",
            "SELECT 1 FROM (VALUES (1)) AS a(x) JOIN (VALUES (2::bigint)) AS b(x) USING (x)",
            "SELECT CASE 1 WHEN 2::bigint THEN 3 END",
        ):
            assert "'operators'" in (await refusal_of(writer, shop, query)).message


@pytest.mark.usefixtures("writable_transaction")
async def test_a_search_path_that_puts_the_users_schema_first(registry, shop):
    create = (
        "CREATE FUNCTION app.lower(text) RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO app.log (what) VALUES ('lower'); RETURN $1; END$$;"
        "ALTER ROLE writer IN DATABASE shop SET search_path = app, pg_catalog"
    )
    drop = "DROP FUNCTION app.lower(text); ALTER ROLE writer IN DATABASE shop RESET search_path"
    async with made(shop, create, drop):
        caller = Caller(registry, [shop.source("writer")])
        assert "of its own" in (await refusal_of(caller, shop, "SELECT lower('A')")).message
        assert (await caller.query("SELECT pg_catalog.lower('A')"))["rows"] == [["a"]]


async def test_a_table_named_like_one_of_the_systems(registry, shop):
    create = (
        "CREATE VIEW app.pg_stat_statements AS SELECT 'CANARY' AS query;"
        "GRANT SELECT ON app.pg_stat_statements TO reader"
    )
    async with made(shop, create, "DROP VIEW app.pg_stat_statements"):
        caller = Caller(registry, [shop.source()])
        for query in ("TABLE pg_stat_statements", "TABLE app.pg_stat_statements"):
            assert "'relations'" in (await refusal_of(caller, shop, query)).message


async def test_views_that_rest_on_many_others(reader, shop):
    await shop.admin.execute(
        "CREATE VIEW app.v0 AS SELECT 1 AS a; GRANT SELECT ON app.v0 TO reader"
    )
    try:
        for number in range(1, 15):
            await shop.admin.execute(
                f"CREATE VIEW app.v{number} AS SELECT a FROM app.v{number - 1}"
            )
        await shop.admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader")
        assert (await reader.query("TABLE app.v5"))["rows"] == [[1]]
        assert "'views'" in (await refusal_of(reader, shop, "TABLE app.v14")).message
    finally:
        await shop.admin.execute("DROP VIEW app.v0 CASCADE")
