"""What must be refused, with the proof that nothing happened: rows, sequences, locks, sink."""

import pytest

from activities.tools.tool import ToolError, ToolFailed, ToolRefused, ToolTimeout

# Each is refused by a rule of ours, whatever the role may do.
REFUSED = {
    "S01": "SELECT 1; DELETE FROM app.orders WHERE id=1",
    "S01-empty-first": "; ; DELETE FROM app.orders",
    "S04": "WITH d AS (DELETE FROM app.orders WHERE id=4 RETURNING *) SELECT * FROM d",
    "S04-update": "WITH d AS (UPDATE app.orders SET total=0 RETURNING *) SELECT * FROM d",
    "S04-insert": "WITH d AS (INSERT INTO app.log DEFAULT VALUES RETURNING *) TABLE d",
    "S04-merge": "WITH d AS (MERGE INTO app.orders o USING app.lines l ON o.id=l.order_id"
    " WHEN MATCHED THEN DELETE RETURNING o.id) SELECT * FROM d",
    "S04-nested": "SELECT * FROM (WITH d AS (DELETE FROM app.log RETURNING *) TABLE d) AS x",
    "S05": "SELECT * INTO app.copy1 FROM app.orders",
    "S05-temp": "SELECT * INTO TEMP copy1 FROM app.orders",
    "S05-union": "SELECT 1 AS a INTO app.copy2 UNION SELECT 2",
    "S07": "COPY (SELECT 1) TO PROGRAM 'touch pwned'",
    "S07-stdout": "COPY app.orders TO STDOUT",
    "S07-from": "COPY app.orders FROM '/etc/passwd'",
    "S09": "SELECT pg_read_file('/etc/passwd')",
    "S09-binary": "SELECT pg_read_binary_file('/etc/passwd')",
    "S09-dir": "SELECT pg_ls_dir('.')",
    "S09-lateral": "SELECT * FROM app.lines, LATERAL pg_read_file('/etc/passwd') AS f",
    "S09-import": "SELECT lo_import('/etc/passwd')",
    "S09-default": "SELECT * FROM json_table('[]', '$' COLUMNS"
    " (a text PATH '$.a' DEFAULT pg_read_file('/etc/passwd') ON EMPTY)) AS j",
    "S09-order": "SELECT 1 ORDER BY pg_read_file('/etc/passwd')",
    "S09-filter": "SELECT count(*) FILTER (WHERE pg_read_file('/etc/passwd') = '') FROM app.log",
    "S09-window": "SELECT sum(id) OVER (ORDER BY pg_ls_dir('.')) FROM app.orders",
    "S09-limit": "SELECT 1 LIMIT length(pg_read_file('/etc/passwd'))",
    "S09-attribute": "SELECT ('/etc/passwd'::text).pg_read_file",
    "S09-foreign": "SELECT * FROM app.passwd",
    "S11-set-config": "SELECT set_config('statement_timeout','0',false)",
    "S11-set": "SET statement_timeout = 0",
    "S11-set-local": "SET LOCAL transaction_read_only = off",
    "S11-read-write": "SELECT set_config('transaction_read_only','off',true)",
    "S13-role": "SET ROLE postgres",
    "S13-reset": "RESET ROLE",
    "S13-authorization": "SET SESSION AUTHORIZATION DEFAULT",
    "S13-config": "SELECT set_config('role', 'writer', false)",
    "S16": 'SELECT/**/pg_catalog . /*x*/ "pg_sleep"(30)',
    "S16-unicode": 'SELECT U&"pg\\005fsleep"(30)',
    "S16-for": "SELECT pg_sleep_for('30 s')",
    "S16-attribute": "SELECT (30::float8).pg_sleep",
    "S16-column": "SELECT g.pg_sleep FROM unnest(ARRAY[30::float8]) AS g",
    "S17": "SELECT * FROM dblink('host=127.0.0.1 port=SINK dbname=app user=x password=y',"
    "'select 1') AS t(i int)",
    "S17-schema": "SELECT public.dblink_connect('host=127.0.0.1 port=SINK user=x password=y')",
    "S17-attribute": "SELECT ('host=127.0.0.1 port=SINK user=x password=y'::text).dblink_connect",
    "S20": "SELECT app.bump()",
    "S20-path": "SELECT bump()",
    "S20-from": "SELECT * FROM app.bump() AS b",
    "S20-row": "SELECT o.bump FROM app.orders AS o LIMIT 1",
    "S20-table": "SELECT orders.bump FROM app.orders LIMIT 1",
    "S20-indirection": "SELECT (o).bump FROM app.orders AS o LIMIT 1",
    "S20-operator": "SELECT 1 OPERATOR(app.===) 2",
    "S20-operator-path": "SELECT 1 === 2",
    "S20-operator-any": "SELECT 1 === ANY (ARRAY[2])",
    "S20-operator-sort": "SELECT 1 ORDER BY 1 USING OPERATOR(app.===)",
    "S20-overload": "SELECT upper(1)",
    "S20-domain": "SELECT 1::app.counted",
    "S20-domain-path": "SELECT CAST(1 AS counted)",
    "S20-domain-record": "SELECT * FROM json_to_record('{\"a\": 1}') AS x(a app.counted)",
    "S20-domain-table": "SELECT * FROM json_table('[1]', '$[*]' COLUMNS (a counted PATH '$')) AS j",
    "S20-domain-row": "SELECT json_populate_record(o, '{\"id\": 1}') FROM app.orders AS o",
    "S20-domain-array": "SELECT '{1}'::app._counted, '{1}'::counted[]",
    "S20-domain-call": "SELECT counted(1)",
    "S20-view": "SELECT * FROM app.bumping",
    "S20-view-nested": "SELECT * FROM over_bumping",
    "S20-view-sleep": "SELECT * FROM app.sleeping",
    "S21": "SELECT nextval('app.s1')",
    "S21-setval": "SELECT setval('app.s1', 99)",
    "S21-attribute": "SELECT ('app.s1'::regclass).nextval",
    "S21-column": "SELECT g.nextval FROM unnest(ARRAY['app.s1'::regclass]) AS g",
    "S21-values": "SELECT (v.x).nextval FROM (VALUES ('app.s1'::regclass)) AS v(x)",
    "S31": "SELECT '\\'; DROP TABLE app.orders; --'",
    "S33-shadow": "SELECT * FROM pg_shadow",
    "S33-authid": "SELECT * FROM pg_catalog.pg_authid",
    "S33-quoted": 'TABLE "pg_catalog"."pg_authid"',
    "S33-activity": "SELECT query FROM pg_stat_activity",
    "S33-activity-function": "SELECT * FROM pg_stat_get_activity(NULL)",
    "S33-mappings": "SELECT * FROM pg_user_mappings",
    "S33-options": "SELECT * FROM information_schema.user_mapping_options",
    "S33-statistic": "SELECT * FROM pg_statistic",
    "S33-stats": "SELECT most_common_vals FROM pg_stats",
    "S33-hba": "SELECT * FROM pg_hba_file_rules",
    "S33-settings": "SELECT * FROM pg_settings",
    "S33-setting": "SELECT current_setting('data_directory')",
    "S33-show": "SHOW ALL",
    "S33-statements": "SELECT * FROM public.pg_stat_statements",
    "S33-view": "SELECT * FROM app.spying",
    "S33-toast": "SELECT * FROM pg_toast.pg_toast_1255",
    "S40": "SELECT * FROM app.orders FOR UPDATE",
    "S40-share": "SELECT * FROM app.orders FOR KEY SHARE SKIP LOCKED",
    "S40-nested": "SELECT * FROM (SELECT * FROM app.orders FOR UPDATE) AS x",
    "S40-lock": "LOCK TABLE app.orders",
    "S40-advisory": "SELECT pg_advisory_lock(1)",
    "S40-advisory-xact": "SELECT pg_try_advisory_xact_lock(1)",
    "S40-advisory-attribute": "SELECT (1::bigint).pg_advisory_lock",
    "S41-do": "DO $$BEGIN DELETE FROM app.orders; END$$",
    "S41-call": "CALL app.p()",
    "S41-vacuum": "VACUUM",
    "S41-system": "ALTER SYSTEM SET log_statement='none'",
    "delete": "DELETE FROM app.orders",
    "insert": "INSERT INTO app.orders VALUES (0, 'x')",
    "update": "UPDATE app.orders SET total = 0",
    "truncate": "TRUNCATE app.orders",
    "drop": "DROP TABLE app.orders",
    "create": "CREATE TABLE app.new (a int)",
    "create-as": "CREATE TABLE app.new AS SELECT 1",
    "create-function": "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "grant": "GRANT ALL ON app.orders TO PUBLIC",
    "begin": "BEGIN READ WRITE",
    "commit": "COMMIT",
    "prepare": "PREPARE x AS DELETE FROM app.orders",
    "execute": "EXECUTE x",
    "declare": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "listen": "LISTEN x",
    "notify": "NOTIFY x, 'y'",
    "notify-function": "SELECT pg_notify('x', 'y')",
    "discard": "DISCARD ALL",
    "load": "LOAD 'auto_explain'",
    "explain-analyze": "EXPLAIN ANALYZE SELECT 1",
    "explain-analyze-option": "EXPLAIN (VERBOSE, ANALYZE TRUE) SELECT 1",
    "explain-delete": "EXPLAIN DELETE FROM app.orders",
    "explain-analyze-delete": "EXPLAIN (ANALYZE) DELETE FROM app.orders",
    "query-to-xml": "SELECT query_to_xml('DELETE FROM app.orders', true, true, '')",
    "table-to-xml": "SELECT table_to_xml('app.secrets', true, true, '')",
    "database-to-xml": "SELECT database_to_xml(true, true, '')",
    "cursor-to-xml": "SELECT cursor_to_xml('c', 1, true, true, '')",
    "ts-stat": "SELECT * FROM ts_stat('SELECT to_tsvector(token) FROM app.secrets')",
    "ts-rewrite": "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')",
    "input-valid": "SELECT pg_input_is_valid('1', 'app.counted')",
    "terminate": "SELECT pg_terminate_backend(pg_backend_pid())",
    "cancel": "SELECT pg_cancel_backend(1)",
    "lo-create": "SELECT lo_from_bytea(0, 'x')",
    "lo-attribute": "SELECT (0::oid).lo_create",
    "setseed": "SELECT setseed(0.5)",
    "xid": "SELECT pg_current_xact_id()",
    "logical": "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "reload": "SELECT pg_reload_conf()",
    "parameter": "SELECT $1",
    "unknown-function": "SELECT no_such_function(1)",
    "three-part": "SELECT * FROM shop.app.orders",
    "sample": "SELECT * FROM app.orders TABLESAMPLE app.bump (1)",
    "long": "SELECT '" + "x" * 40_000 + "'",
    "deep": "SELECT " + "(SELECT " * 900 + "1" + ")" * 900,
    "deep-operators": "SELECT 1" + "+1" * 16_000,
    "deep-casts": "SELECT 1" + "::int" * 6_000,
    "deep-union": " UNION ALL ".join(["SELECT 1"] * 1_500),
}  # fmt: skip


async def refusal_of(caller, shop, query):
    """The error, after proof that the database is as it was."""
    before = await shop.state()
    with pytest.raises(ToolError) as caught:
        await caller.query(query.replace("SINK", str(shop.sink.port)))
    assert await shop.state() == before
    assert await shop.locks() == []
    return caught.value


@pytest.mark.parametrize("case", REFUSED)
async def test_a_reading_role_is_refused(case, reader, shop):
    error = await refusal_of(reader, shop, REFUSED[case])
    assert isinstance(error, ToolRefused), error.message
    assert error.message.startswith("Refused by the rule '")
    assert "CANARY" not in error.message


@pytest.mark.parametrize("case", REFUSED)
async def test_a_writing_role_is_refused_as_well(case, writer, shop):
    assert isinstance(await refusal_of(writer, shop, REFUSED[case]), ToolRefused)


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("writable_transaction")
async def test_the_allow_list_holds_without_the_read_only_transaction(case, writer, shop):
    assert isinstance(await refusal_of(writer, shop, REFUSED[case]), ToolRefused)


async def test_the_read_only_transaction_holds_without_the_allow_list(writer, shop, monkeypatch):
    from activities.tools.sql import catalogue, guard, postgresql

    async def anything(*_):
        return None

    monkeypatch.setattr(catalogue, "resolve", anything)
    monkeypatch.setattr(
        postgresql.guard, "check", lambda query: guard.Statement(query, 0, False, guard.Names())
    )
    for query in ("DELETE FROM app.orders", "SELECT app.bump()", "SELECT nextval('app.s1')"):
        error = await refusal_of(writer, shop, query)
        assert isinstance(error, (ToolRefused, ToolFailed)), error


async def test_one_statement_is_also_the_protocols_rule(writer, shop, monkeypatch):
    from activities.tools.sql import guard, postgresql

    monkeypatch.setattr(
        postgresql.guard, "check", lambda query: guard.Statement(query, 0, False, guard.Names())
    )
    error = await refusal_of(writer, shop, "SELECT 1; DELETE FROM app.orders")
    assert "multiple commands" in error.message


async def test_a_setting_of_one_call_is_not_there_in_the_next(reader, shop):
    connection_before = (await reader.query("SELECT 1"))["rows"]
    with pytest.raises(ToolRefused):
        await reader.query("SELECT set_config('statement_timeout','0',false)")
    assert connection_before == [[1]]
    slow = type(reader)(reader.registry, reader.sources, deadline=reader.deadline / 10)
    with pytest.raises(ToolTimeout):
        await slow.query("SELECT count(*) FROM orders a, orders b, orders c, orders d")


async def test_a_server_that_reads_backslashes_otherwise_is_told_not_to(server, shop, registry):
    """S31 where the role's settings would make the text mean something else than was checked."""
    from tests.tools.world import Caller

    await shop.admin.execute(
        "ALTER ROLE writer IN DATABASE shop SET standard_conforming_strings = off"
    )
    try:
        caller = Caller(registry, [shop.source("writer")])
        result = await caller.query("SELECT 'a\\' AS x, ' FROM app.bump() --' AS y")
        assert result["rows"] == [["a\\", " FROM app.bump() --"]]
    finally:
        await shop.admin.execute(
            "ALTER ROLE writer IN DATABASE shop RESET standard_conforming_strings"
        )
