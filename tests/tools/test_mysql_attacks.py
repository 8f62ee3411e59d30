"""What must be refused on MariaDB, with the proof that nothing happened, and what must pass."""

import pytest

from activities.tools.sql import mysql, mysql_guard
from activities.tools.tool import ToolError, ToolFailed, ToolRefused, ToolTimeout

REFUSED = {
    "S01": "SELECT 1; DELETE FROM orders WHERE id=1",
    "S01-empty-first": "; ; DELETE FROM orders",
    "S01-delimiter": "DELIMITER //\nDELETE FROM orders//",
    "S01-comment": "SELECT 1 /* ; */ ; /* */ DELETE FROM orders",
    "S04": "WITH d AS (DELETE FROM orders WHERE id=4 RETURNING *) SELECT * FROM d",
    "S04-delete": "WITH d AS (SELECT 1) DELETE FROM orders",
    "S04-update": "WITH d AS (SELECT 1) UPDATE orders SET total = 0",
    "S04-insert": "WITH d AS (SELECT 1) INSERT INTO log (what) SELECT 'x'",
    "S05": "SELECT * INTO @a FROM secrets",
    "S05-outfile": "SELECT 1 INTO OUTFILE '/tmp/pwned'",
    "S05-dumpfile": "SELECT 1 INTO DUMPFILE '/tmp/pwned'",
    "S05-outfile-from": "SELECT 'a' INTO OUTFILE '/tmp/pwned' FROM orders",
    "S05-outfile-nested": "(SELECT 1 INTO OUTFILE '/tmp/pwned')",
    "S05-outfile-union": "SELECT 1 UNION SELECT 2 INTO OUTFILE '/tmp/pwned'",
    "S05-executable": "SELECT 1 /*! INTO OUTFILE '/tmp/pwned' */",
    "S05-executable-version": "SELECT 1 /*!50000 INTO OUTFILE '/tmp/pwned' */",
    "S05-executable-mariadb": "SELECT 1 /*M! INTO OUTFILE '/tmp/pwned' */",
    "S05-executable-mariadb-version": "SELECT 1 /*M!100100 INTO OUTFILE '/tmp/pwned' */",
    "S05-executable-semicolon": "SELECT 1 /*! ; DELETE FROM orders */",
    "S05-executable-split": "SELECT 1 /*!*/ FROM orders",
    "S07": "LOAD DATA INFILE '/etc/passwd' INTO TABLE log",
    "S07-local": "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE log",
    "S07-xml": "LOAD XML INFILE '/etc/passwd' INTO TABLE log",
    "S09": "SELECT LOAD_FILE('/etc/passwd')",
    "S09-case": "SELECT load_FILE ('/etc/passwd')",
    "S09-quoted": "SELECT `load_file`('/etc/passwd')",
    "S09-comment": "SELECT LOAD_FILE/**/('/etc/passwd')",
    "S09-order": "SELECT 1 FROM orders ORDER BY LOAD_FILE('/etc/passwd')",
    "S09-nested": "SELECT lower(concat(LOAD_FILE('/etc/passwd'), 'x'))",
    "S09-window": "SELECT sum(id) OVER (ORDER BY LOAD_FILE('/etc/passwd')) FROM orders",
    "S11-set": "SET SESSION max_statement_time = 0",
    "S11-global": "SET GLOBAL general_log = 1",
    "S11-statement": "SET STATEMENT max_statement_time=0 FOR SELECT 1",
    "S11-variable": "SELECT @a := 1",
    "S11-read-variable": "SELECT @a",
    "S11-setting": "SELECT @@max_statement_time",
    "S11-setting-global": "SELECT @@global.datadir",
    "S11-hint": "SELECT /*+ SET_VAR(max_execution_time=0) */ 1",
    "S11-transaction": "SET TRANSACTION READ WRITE",
    "S13-role": "SET ROLE admin",
    "S13-role-none": "SET ROLE NONE",
    "S13-password": "SET PASSWORD = PASSWORD('x')",
    "S16": "SELECT SLEEP(30)",
    "S16-comment": "SELECT/**/ `sleep` /*x*/ (30)",
    "S16-tab": "SELECT sleep\t(30)",
    "S16-where": "SELECT 1 FROM orders WHERE SLEEP(1)",
    "S16-benchmark": "SELECT BENCHMARK(1000000000, MD5('a'))",
    "S16-with": "WITH sleep (a) AS (SELECT 1) SELECT sleep(30) FROM sleep",
    "S17-federated": "CREATE TABLE f (a int) ENGINE=FEDERATED"
    " CONNECTION='mysql://u@127.0.0.1:SINK/d/t'",
    "S17-connect": "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS"
    " (HOST '127.0.0.1', PORT SINK)",
    "S17-change-master": "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=SINK",
    "S20": "SELECT bump()",
    "S20-qualified": "SELECT shop.bump()",
    "S20-quoted": "SELECT `shop`.`bump`()",
    "S20-spaces": "SELECT shop . bump ()",
    "S20-nested": "SELECT coalesce(NULL, (SELECT bump()))",
    "S20-from": "SELECT * FROM orders WHERE id = bump()",
    "S20-name-of-a-function": "SELECT shop.lower('A')",
    "S21": "SELECT NEXTVAL(s1)",
    "S21-value": "SELECT NEXT VALUE FOR s1",
    "S21-previous": "SELECT PREVIOUS VALUE FOR s1",
    "S21-setval": "SELECT SETVAL(s1, 99)",
    "S21-lastval": "SELECT LASTVAL(s1)",
    "S31-no-end": "SELECT 'a\\'",
    "S31-introducer": "SELECT _gbk'\\'; DROP TABLE orders; --'; DROP TABLE orders",
    "S33-user": "SELECT * FROM mysql.user",
    "S33-priv": "SELECT * FROM mysql.global_priv",
    "S33-quoted": "SELECT * FROM `mysql`.`user`",
    "S33-case": "SELECT * FROM MySQL.user",
    "S33-spaces": "SELECT * FROM mysql . user",
    "S33-table": "TABLE mysql.user",
    "S33-processlist": "SELECT * FROM information_schema.processlist",
    "S33-privileges": "SELECT * FROM information_schema.user_privileges",
    "S33-variables": "SELECT * FROM INFORMATION_SCHEMA.GLOBAL_VARIABLES",
    "S33-performance": "SELECT * FROM performance_schema.threads",
    "S33-sys": "SELECT * FROM sys.session",
    "S33-show": "SHOW PROCESSLIST",
    "S33-grants": "SHOW GRANTS",
    "S33-variables-show": "SHOW VARIABLES",
    "S40": "SELECT * FROM orders FOR UPDATE",
    "S40-share": "SELECT * FROM orders LOCK IN SHARE MODE",
    "S40-for-share": "SELECT * FROM orders FOR SHARE",
    "S40-skip": "SELECT * FROM orders FOR UPDATE SKIP LOCKED",
    "S40-nested": "SELECT * FROM (SELECT * FROM orders FOR UPDATE) AS x",
    "S40-lock": "LOCK TABLES orders WRITE",
    "S40-get-lock": "SELECT GET_LOCK('a', 10)",
    "S40-release": "SELECT RELEASE_ALL_LOCKS()",
    "S40-flush": "FLUSH TABLES WITH READ LOCK",
    "S41-do": "DO SLEEP(1)",
    "S41-do-release": "DO RELEASE_LOCK('a')",
    "S41-call": "CALL p()",
    "S41-handler": "HANDLER orders OPEN",
    "S41-optimize": "OPTIMIZE TABLE orders",
    "S41-analyze": "ANALYZE TABLE orders",
    "S41-analyze-select": "ANALYZE SELECT * FROM orders",
    "S41-block": "BEGIN NOT ATOMIC DELETE FROM orders; END",
    "S41-execute": "EXECUTE IMMEDIATE 'DELETE FROM orders'",
    "S41-prepare": "PREPARE x FROM 'DELETE FROM orders'",
    "S41-procedure": "SELECT * FROM orders PROCEDURE ANALYSE()",
    "S41-kill": "KILL 1",
    "S41-install": "INSTALL SONAME 'x'",
    "S41-shutdown": "SHUTDOWN",
    "delete": "DELETE FROM orders",
    "delete-returning": "DELETE FROM orders RETURNING id",
    "insert": "INSERT INTO log (what) VALUES ('x')",
    "insert-returning": "INSERT INTO log (what) VALUES ('x') RETURNING what",
    "replace": "REPLACE INTO log (what) VALUES ('x')",
    "update": "UPDATE orders SET total = 0",
    "truncate": "TRUNCATE orders",
    "drop": "DROP TABLE orders",
    "create": "CREATE TABLE new (a int)",
    "create-as": "CREATE TABLE new AS SELECT 1",
    "create-function": "CREATE FUNCTION f() RETURNS int RETURN 1",
    "create-udf": "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'",
    "alter": "ALTER TABLE orders ADD COLUMN x int",
    "grant": "GRANT ALL ON shop.* TO reader",
    "begin": "START TRANSACTION READ WRITE",
    "commit": "COMMIT",
    "use": "USE mysql",
    "explain-analyze": "EXPLAIN ANALYZE SELECT 1",
    "explain-delete": "EXPLAIN DELETE FROM orders",
    "explain-connection": "EXPLAIN FOR CONNECTION 1",
    "explain-table": "DESCRIBE orders",
    "describe-function": "EXPLAIN SELECT SLEEP(10)",
    "explain-format": "EXPLAIN FORMAT=JSON DELETE FROM orders",
    "xml": "SELECT ExtractValue('<a/>', '/a')",
    "updatexml": "SELECT UpdateXML('<a/>', '/a', 'b')",
    "wait": "SELECT MASTER_POS_WAIT('a', 1)",
    "last-insert-id": "SELECT LAST_INSERT_ID(5)",
    "uuid-short": "SELECT UUID_SHORT()",
    "parameter": "SELECT ?",
    "odbc": "SELECT {fn sleep(10)}",
    "odbc-date": "SELECT {d '2020-01-01'}",
    "null-escape": "SELECT \\N",
    "unknown-function": "SELECT no_such_function(1)",
    "unknown-table-function": "SELECT * FROM seq_table(1, 3)",
    "three-part": "SELECT * FROM a.shop.orders",
    "dashes": "SELECT 1--1",
    "dashes-comment": "SELECT 1 --/**/ FROM orders",
    "unicode-space": "SELECT\u00a01",
    "unicode-quote": "SELECT \uff07a\uff07",
    "comment-end": "SELECT 1 /* DELETE FROM orders",
    "long": "SELECT '" + "x" * 40_000 + "'",
    "deep": "SELECT " + "(SELECT " * 900 + "1" + ")" * 900,
    "deep-operators": "SELECT 1" + "+1" * 16_000,
    "deep-not": "SELECT " + "NOT " * 6_000 + "1",
    "joins": "SELECT 1 FROM orders" + " JOIN orders" * 60,
}  # fmt: skip

PASSES = {
    "cte": ("WITH a AS (SELECT id FROM orders WHERE id<3) SELECT * FROM a ORDER BY 1", [[1], [2]]),
    "cte-columns": ("WITH a (x, y) AS (SELECT 1, 2) SELECT y, x FROM a", [[2, 1]]),
    "recursive": (
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3)"
        " SELECT * FROM n"),
        [[1], [2], [3]],
    ),
    "window": (
        "SELECT id, rank() OVER (ORDER BY total DESC) FROM shop.orders ORDER BY 2 LIMIT 2",
        [[1500, 1], [1499, 2]],
    ),
    "named window": (
        ("SELECT CAST(sum(id) OVER w AS SIGNED) FROM orders WINDOW w AS (ORDER BY id)"
        " ORDER BY id LIMIT 2"),
        [[1], [3]],
    ),
    "values": ("VALUES (1, 'a'), (2, 'b')", [[1, "a"], [2, "b"]]),
    "string": ("SELECT '; DROP TABLE orders; --'", [["; DROP TABLE orders; --"]]),
    "S31": (r"SELECT '\'; DROP TABLE orders; --'", [["'; DROP TABLE orders; --"]]),
    "quotes": ("SELECT \"it's\", 'a''b', 'say \"x\"'", [["it's", "a'b", 'say "x"']]),
    "comments": ("SELECT /* a; */ 1 # ; and\n, 2 -- ; the end", [[1, 2]]),
    "comment in a string": ("SELECT '/*! x */', '-- x', '# x'", [["/*! x */", "-- x", "# x"]]),
    "closing semicolon": (" \n SELECT 1 ; -- done\n ", [[1]]),
    "column named delete": ("SELECT `delete`, o.delete FROM orders o WHERE id=2", [[1, 1]]),
    "functions": (
        "SELECT now() > '2020-01-01', lower('A'), json_extract('{\"a\": [1, 2]}', '$.a[1]')",
        [[1, "a", "2"]],
    ),
    "union": ("(SELECT 1 ORDER BY 1) UNION ALL SELECT 2 ORDER BY 1 DESC", [[2], [1]]),
    "order kept": ("SELECT id FROM orders ORDER BY id DESC LIMIT 2 OFFSET 2", [[1498], [1497]]),
    "aggregate": (
        ("SELECT `delete`, count(*), sum(total), group_concat(id ORDER BY id DESC SEPARATOR ', ')"
        " FROM orders WHERE id < 5 GROUP BY 1 ORDER BY 1"),
        [[0, 2, 5.0, "3, 1"], [1, 2, 7.5, "4, 2"]],
    ),
    "subqueries": (
        ("SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM order_lines WHERE order_id = o.id)"
        " AND id = ANY (SELECT 1) AND id NOT IN (2, 3)"),
        [[1]],
    ),
    "joins": (
        ("SELECT o.id, l.article FROM orders o JOIN order_lines l ON l.order_id = o.id"
        " LEFT JOIN log g ON g.what = l.article WHERE o.id = 7"),
        [[7, "article 7"]],
    ),
    "view": ("SELECT * FROM plain WHERE id = 2", [[2, "CUSTOMER 2"]]),
    "dates": (
        ("SELECT DATE_FORMAT(at, '%Y-%m'), EXTRACT(YEAR FROM at), at + INTERVAL 1 DAY, DATE(at),"
        " TIMESTAMPDIFF(HOUR, at, DATE_ADD(at, INTERVAL 2 DAY)) FROM orders WHERE id = 1"),
        [["2024-05", 2024, "2024-05-07T07:08:09", "2024-05-06", 48]],
    ),
    "casts": (
        "SELECT CAST('7' AS SIGNED), CAST(1.26 AS DECIMAL(10,1)), CONVERT('a' USING utf8mb4)",
        [[7, 1.3, "a"]],
    ),
    "case": ("SELECT CASE WHEN id>1 THEN 'no' ELSE 'one' END FROM orders WHERE id = 1", [["one"]]),
    "regular expression": ("SELECT 'abc' REGEXP '^a', 'a' LIKE 'A', 'abc' RLIKE 'x'", [[1, 1, 0]]),
    "operators": (
        "SELECT 5 DIV 2, 7 % 4, 2 ^ 3, 1 << 2, NULL <=> NULL, 1 || 0",
        [[2, 3, 1, 4, 1, 1]],
    ),
    "index": ("SELECT id FROM orders USE INDEX (PRIMARY) WHERE id = 3", [[3]]),
    "rollup": (
        "SELECT id, count(*) FROM orders WHERE id < 3 GROUP BY id WITH ROLLUP",
        [[1, 1], [2, 1], [None, 2]],
    ),
    "json table": (
        "SELECT * FROM JSON_TABLE('[{\"a\": 3}]', '$[*]' COLUMNS (a INT PATH '$.a')) AS j",
        [[3]],
    ),
    "information schema": (
        ("SELECT column_name FROM information_schema.columns WHERE table_schema = database()"
        " AND table_name = 'order_lines' ORDER BY ordinal_position"),
        [["order_id"], ["position"], ["article"]],
    ),
    "same names": ("SELECT 1 AS a, 2 AS a", [[1, 2]]),
    "no rows": ("SELECT id FROM orders WHERE false", []),
    "quoted": ("SELECT id AS `Größe; --` FROM `shop`.`orders` WHERE `id` = 1", [[1]]),
    "non-ascii": (
        "SELECT 'Ωmega' AS `ключ`, char_length('日本'), '😀' AS größe",
        [["Ωmega", 2, "😀"]],
    ),
    "row": ("SELECT (1, 2) < (1, 3)", [[1]]),
    "hexadecimal": ("SELECT x'ff', 0xff, b'101'", [["\\xff", "\\xff", "\\x05"]]),
    "replace": ("SELECT REPLACE('aXa', 'X', 'b'), INSERT('abc', 1, 1, 'x')", [["aba", "xbc"]]),
    "except": ("SELECT id FROM orders WHERE id < 4 EXCEPT SELECT 2", [[1], [3]]),
}  # fmt: skip


async def refusal_of(caller, maria, query):
    """The error, after proof that the database is as it was."""
    before = await maria.state()
    with pytest.raises(ToolError) as caught:
        await caller.query(query.replace("SINK", str(maria.sink.port)))
    assert await maria.state() == before
    assert await maria.locks() == []
    return caught.value


@pytest.fixture
def writable_transaction(monkeypatch):
    monkeypatch.setattr(mysql, "_BEGIN", "START TRANSACTION READ WRITE")
    monkeypatch.setattr(
        mysql, "_SESSION", mysql._SESSION.replace("{read_only} = 1", "{read_only} = 0")
    )


@pytest.fixture
def unguarded(monkeypatch):
    monkeypatch.setattr(
        mysql.mysql_guard, "check", lambda query: mysql_guard.Statement(query, is_explain=False)
    )


@pytest.mark.parametrize("case", REFUSED)
async def test_a_reading_user_is_refused(case, maria_reader, maria):
    error = await refusal_of(maria_reader, maria, REFUSED[case])
    assert isinstance(error, (ToolRefused, ToolFailed)), error.message
    assert error.message.startswith("Refused by the rule '"), error.message
    assert "CANARY" not in error.message


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("writable_transaction")
async def test_the_guard_holds_without_the_read_only_transaction(case, maria_writer, maria):
    assert isinstance(await refusal_of(maria_writer, maria, REFUSED[case]), ToolRefused)


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM orders", "INSERT INTO plain_log VALUES ('x')", "SELECT bump()",
        "SELECT bump_plain()", "SELECT * FROM bumping", "SELECT NEXTVAL(s1)", "CALL p()",
        "UPDATE orders SET total = 0", "DROP TABLE orders", "CREATE TABLE new (a int)",
        "TRUNCATE orders", "SELECT 1 INTO OUTFILE '/tmp/pwned'",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE log",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE log",
        "SELECT 1; DELETE FROM orders",
    ],
)  # fmt: skip
async def test_the_read_only_transaction_holds_without_the_guard(query, maria_writer, maria):
    await refusal_of(maria_writer, maria, query)


@pytest.mark.parametrize("view", ["bumping", "bumping_plain"])
async def test_what_a_view_calls_cannot_write(view, maria_writer, maria):
    error = await refusal_of(maria_writer, maria, f"SELECT * FROM {view}")
    assert "read only" in error.message


@pytest.mark.usefixtures("unguarded")
async def test_nothing_of_one_call_is_there_in_the_next(maria_writer, maria):
    await maria_writer.query("SELECT @a := 7, GET_LOCK('mine', 0)")
    await maria_writer.query("SET SESSION max_statement_time = 0, sql_mode = 'ANSI_QUOTES'")
    result = await maria_writer.query(
        "SELECT @a, IS_USED_LOCK('mine'), @@sql_mode, @@max_statement_time > 1"
    )
    assert result["rows"] == [[None, None, "", 1]]
    assert (await maria_writer.query('SELECT "text"'))["rows"] == [["text"]]


@pytest.mark.parametrize("case", PASSES)
async def test_passes(case, maria_reader, maria):
    query, rows = PASSES[case]
    before = await maria.state()
    result = await maria_reader.query(query)
    assert result["rows"] == rows
    assert result["truncated"] is False
    assert await maria.state() == before


@pytest.mark.parametrize("mode", ["ANSI", "NO_BACKSLASH_ESCAPES", "ORACLE", "PIPES_AS_CONCAT"])
async def test_a_server_that_reads_texts_otherwise_is_told_not_to(mode, maria, registry):
    from tests.tools.world import Caller

    ((before,),) = await maria.admin.fetch("SELECT @@global.sql_mode")
    await maria.run(f"SET GLOBAL sql_mode = '{mode}'")
    try:
        caller = Caller(registry, [maria.source()])
        result = await caller.query(r"""SELECT "it's", 'a\'b', 1 || 0""")
        assert result["rows"] == [["it's", "a'b", 1]]
    finally:
        await maria.run(f"SET GLOBAL sql_mode = '{before.decode()}'")


async def test_a_slow_query_is_cut(maria, registry):
    """S24, S25"""
    from datetime import timedelta

    from tests.tools.world import Caller

    caller = Caller(registry, [maria.source()], deadline=timedelta(seconds=2))
    with pytest.raises(ToolTimeout, match=r"within 1\.5 s"):
        await caller.query("SELECT count(*) FROM orders a, orders b, orders c, orders d")
    assert await maria.busy() == []


@pytest.mark.parametrize("query", ["EXPLAIN SELECT * FROM orders", "EXPLAIN FORMAT=JSON SELECT 1"])
async def test_a_plan_is_shown(query, maria_reader):
    assert (await maria_reader.query(query))["rows"]


async def test_pages_of_a_thousand_rows(maria_reader):
    ids: list[int] = []
    for offset in (0, 1000):
        page = await maria_reader.query(
            f"SELECT id FROM orders ORDER BY id LIMIT 1000 OFFSET {offset}"
        )
        assert page["truncated"] is False
        ids += [row[0] for row in page["rows"]]
    assert ids == list(range(1, 1501))
