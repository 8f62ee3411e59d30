"""Random statements from a small grammar, with a role and a transaction that could write."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.tools.tool import ToolError
from tests.tools.grammar import examples

EXAMPLES = examples(300)

names = st.sampled_from(
    ["orders", "app.orders", "app.lines", "app.log", "app.bumping", "app.over_bumping", "pg_authid",
     "app.s1", "app.passwd", "d", '"app"."orders"', "plain", "pg_class"]
)  # fmt: skip
columns = st.sampled_from(
    ["id", "o.id", "o.bump", "(o).bump", "1", "'x'", "NULL", "*", "o.*", "o", '"delete"',
     "('app.s1'::regclass).nextval", "(1)::app.counted", "$$;$$", "'a'';--'", "current_user"]
)  # fmt: skip
calls = st.sampled_from(
    ["app.bump()", "bump()", "nextval('app.s1')", "setval('app.s1', 7)", "upper(1)", "lower('A')",
     "lo_create(0)", "pg_advisory_lock(1)", "query_to_xml('DELETE FROM app.log',true,true,'')",
     "set_config('role','postgres',false)", "now()", "count(*)", "dblink_exec('x','y')",
     "pg_catalog.nextval('app.s1')", "pg_notify('a','b')", "app.doubled(1)"]
)  # fmt: skip
writes = st.sampled_from(
    ["DELETE FROM app.orders", "DELETE FROM app.log RETURNING 1", "UPDATE app.orders SET total = 0",
     "INSERT INTO app.log DEFAULT VALUES RETURNING 1", "TRUNCATE app.log", "DROP TABLE app.log",
     "CREATE TABLE app.x (a int)", "CALL app.p()", "DO $$BEGIN DELETE FROM app.log; END$$",
     "SET ROLE postgres", "COMMIT", "LOCK app.orders", "COPY app.log FROM STDIN",
     "MERGE INTO app.log USING app.lines ON true WHEN MATCHED THEN DELETE", "VACUUM app.log"]
)  # fmt: skip
noise = st.sampled_from(
    ["", " ", "/**/", "--\n", "\n", "/*;*/", ";", "\t", "\u00a0", "\0", "'", "$$"]
)


def selects(inner):
    expression = st.one_of(
        columns,
        calls,
        inner.map("({})".format),
        st.builds(
            "({} {} {})".format, columns, st.sampled_from(["+", "=", "===", "||", "<"]), calls
        ),
        st.builds("CASE WHEN {} IS NULL THEN {} END".format, calls, columns),
    )
    source = st.one_of(
        names.map("{} AS o".format),
        inner.map("({}) AS o".format),
        calls.map("{} AS o".format),
        st.builds("{} AS o, LATERAL {} AS p".format, names, calls),
    )
    return st.one_of(
        st.builds("SELECT {} FROM {}".format, expression, source),
        st.builds("SELECT {}{}{}".format, noise, expression, noise),
        st.builds("SELECT {} INTO app.x FROM {}".format, expression, source),
        st.builds("SELECT {} FROM {} FOR UPDATE".format, expression, source),
        st.builds("SELECT {} FROM {} ORDER BY {} LIMIT 2".format, expression, source, calls),
        st.builds("WITH d AS ({}) {}".format, st.one_of(inner, writes), inner),
        st.builds("{} UNION ALL {}".format, inner, inner),
        st.builds("VALUES ({})".format, expression),
        st.builds("TABLE {}".format, names),
    )


queries = st.recursive(st.builds("SELECT {}".format, columns), selects, max_leaves=6)
# One hostile part in a query that would run without it.
hostile = st.one_of(
    st.sampled_from(
        [
            "('app.s1'::regclass).nextval",
            "o.bump",
            "(o).bump",
            "1 === 2",
            "1::app.counted",
            "(SELECT b FROM app.bumping)",
            "(SELECT b FROM over_bumping)",
            "g.nextval",
        ]
    ),
    calls,
)
shapes = st.sampled_from(
    [
        "{}",
        "CASE WHEN o.id = 1 THEN {} END",
        "coalesce(NULL, {})",
        "ARRAY[{}]",
        "ROW(o.id, {})",
        "({} IS NULL)",
        "(SELECT {})",
        "EXISTS (SELECT {})",
        "json_build_object('a', {})",
        "greatest({})",
        "1 IN (SELECT 1 WHERE {} IS NOT NULL)",
    ]
)
places = st.sampled_from(
    [
        "SELECT {0} FROM {1}",
        "SELECT o.id FROM {1} WHERE {0} IS NULL",
        "SELECT o.id FROM {1} ORDER BY {0}",
        "SELECT count(*) FROM {1} GROUP BY {0}",
        "SELECT count(*) FILTER (WHERE {0} IS NOT NULL) FROM {1}",
        "SELECT o.id FROM {1} CROSS JOIN LATERAL (SELECT {0}) AS l",
        "WITH c AS MATERIALIZED (SELECT {0} FROM {1}) SELECT 1 FROM c",
        "SELECT row_number() OVER (ORDER BY {0}) FROM {1}",
        "SELECT * FROM (SELECT {0} FROM {1}) AS s",
        "SELECT 1 FROM {1} UNION ALL SELECT 2 FROM {1} WHERE {0} IS NULL",
        "VALUES ((SELECT {0} FROM {1}))",
        "EXPLAIN SELECT {0} FROM {1}",
    ]
)
SOURCE = "app.orders AS o CROSS JOIN unnest(ARRAY['app.s1'::regclass]) AS g"


def disguise(part, inner, outer, place):
    return place.format(outer.format(inner.format(part)), SOURCE)


disguised = st.builds(disguise, hostile, shapes, shapes, places)
statements = st.one_of(
    disguised,
    disguised,
    disguised,
    disguised,
    queries,
    writes,
    st.builds("{}{};{}{}".format, queries, noise, writes, noise),
    st.builds("EXPLAIN {}".format, st.one_of(queries, writes)),
    st.builds("EXPLAIN ANALYZE {}".format, st.one_of(queries, writes)),
    st.builds("{}{}".format, noise, queries),
)


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("writable_transaction")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(query=statements)
async def test_no_statement_changes_anything(query, writer, shop):
    before = await shop.state()
    with contextlib.suppress(ToolError):
        await writer.query(query)
    assert await shop.state() == before
    assert await shop.locks() == []
