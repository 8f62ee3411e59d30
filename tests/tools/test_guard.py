"""The allow-lists themselves: complete, closed, and what a real server makes of their names."""

import contextlib
import string

import pytest

from activities.tools.sql import functions, relations
from activities.tools.sql.guard import MAX_QUERY_BYTES, check
from activities.tools.sql.nodes import NODES
from activities.tools.tool import ToolFailed, ToolRefused


async def test_every_allowed_function_is_the_servers_own_and_none_changes_anything(shop):
    rows = await shop.admin.fetch(
        "SELECT proname, bool_or(provolatile = 'v') AS is_volatile,"
        " bool_or('internal'::regtype = ANY(proargtypes::oid[])) AS is_internal"
        " FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY proname"
    )
    known = {row["proname"]: row for row in rows}
    # Written like functions, but parts of the grammar.
    grammar = {"current_catalog", "current_role"}
    assert functions.ALLOWED - set(known) - grammar == set()
    volatile = {name for name in functions.ALLOWED & set(known) if known[name]["is_volatile"]}
    assert volatile == functions.VOLATILE
    assert not {name for name in functions.ALLOWED & set(known) if known[name]["is_internal"]}


async def test_no_allowed_function_takes_sql_or_a_name_of_a_file(shop):
    rows = await shop.admin.fetch(
        "SELECT proname, proargnames FROM pg_proc"
        " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY($1)",
        list(functions.ALLOWED),
    )
    suspicious = {"query", "filename", "cursor", "tbl", "setting_name"}
    # A tsquery is called a query too.
    text_search = {"ts_rank", "ts_rank_cd", "ts_headline"}
    assert (
        not {row["proname"] for row in rows if set(row["proargnames"] or ()) & suspicious}
        - text_search
    )


async def test_readable_relations_exist(shop):
    found = await shop.admin.fetch(
        "SELECT relnamespace::regnamespace::text AS schema, relname FROM pg_class"
        " WHERE relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
    )
    names = {(row["schema"], row["relname"]) for row in found}
    wanted = {("pg_catalog", name) for name in relations.PG_CATALOG}
    wanted |= {("information_schema", name) for name in relations.INFORMATION_SCHEMA}
    assert wanted - names == set()


async def test_system_relations_all_start_alike(shop):
    """What `relations.refusal` relies on for names without a schema."""
    assert not await shop.admin.fetchval(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace"
        " AND relname !~ '^pg_'"
    )


async def test_a_dot_calls_a_function(shop):
    """The attack that `catalogue` is there for is real."""
    await shop.admin.execute("CREATE SEQUENCE app.s2")
    try:
        await shop.admin.fetch("SELECT ('app.s2'::regclass).nextval")
        await shop.admin.fetch("SELECT g.nextval FROM unnest(ARRAY['app.s2'::regclass]) AS g")
        assert await shop.admin.fetchval("SELECT last_value FROM app.s2") == 2
    finally:
        await shop.admin.execute("DROP SEQUENCE app.s2")


@pytest.mark.parametrize("query", ["SELECT 1 \0; DELETE FROM t", "SELECT '\ud800'", "\0"])
def test_text_the_parser_would_read_otherwise(query):
    with pytest.raises(ToolRefused):
        check(query)


@pytest.mark.parametrize("query", ["", " ", ";", "-- nothing", "/* */"])
def test_nothing_is_said_to_be_nothing(query):
    with pytest.raises(ToolFailed, match="empty"):
        check(query)


def test_the_text_sent_is_the_statement_that_was_checked():
    statement = check("/* ü */ ; SELECT 'é;' AS x ; -- end")
    assert statement.text == " SELECT 'é;' AS x "
    assert statement.offset == 9


@pytest.mark.parametrize("part", ["+1", "::a", "||a", "<a", "[1]", " IS NULL", ' COLLATE "C"'])
def test_the_deepest_text_there_is_room_for_does_not_end_the_process(part):
    query = "SELECT a" + part * ((MAX_QUERY_BYTES - 8) // len(part))
    with contextlib.suppress(ToolRefused, ToolFailed):
        check(query)


@pytest.mark.parametrize(
    "part", ["(", "NOT ", "- ", "ARRAY[", "CASE WHEN ", "(SELECT ", "/*", "'a", "$a$"]
)
def test_what_is_never_closed_is_an_error(part):
    with pytest.raises((ToolFailed, ToolRefused)):
        check("SELECT " + part * ((MAX_QUERY_BYTES - 8) // len(part)))


def test_a_query_may_be_as_long_as_it_says():
    check("SELECT '" + "x" * (MAX_QUERY_BYTES - 9) + "'")
    with pytest.raises(ToolRefused, match="length"):
        check("SELECT '" + "x" * MAX_QUERY_BYTES + "'")


def test_many_values_are_no_problem():
    check("SELECT * FROM t WHERE id IN (" + ",".join(map(str, range(5000))) + ")")


def test_fields_that_write_or_lock_are_not_in_the_grammar():
    assert "intoClause" not in NODES["SelectStmt"]
    assert "lockingClause" not in NODES["SelectStmt"]
    assert not [
        name
        for name in NODES
        if name.endswith("Stmt") and name not in {"SelectStmt", "ExplainStmt"}
    ]
    assert {"ParamRef", "CurrentOfExpr", "LockingClause", "IntoClause"}.isdisjoint(NODES)


def test_refusals_name_their_rule_and_what_to_do():
    with pytest.raises(ToolRefused) as caught:
        check("SELECT pg_sleep(1)")
    assert caught.value.message.startswith("Refused by the rule 'functions': pg_sleep() is not")
    assert caught.value.code == "refused"
    assert set(caught.value.message) <= set(string.printable)
