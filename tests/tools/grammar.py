"""Random statements, in the language of each kind of database, with something hostile in most.

Not valid SQL for its own sake: what matters is that a hostile part stands wherever a grammar lets
it, in disguises that a reader of text would miss.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

FULL = os.environ.get("EVERTURN_LIMITS") == "full"


def examples(few: int) -> int:
    """How many statements to try: `SQL_FUZZ_EXAMPLES`, or 10,000 at a release's size, or `few`."""
    return int(os.environ.get("SQL_FUZZ_EXAMPLES") or (10_000 if FULL else few))


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs.

    Attributes:
        calls: Calls that would change or tell something, and some harmless ones.
        writes: Statements that would.
        tables: Sources of rows.
        columns: Expressions without a call.
        quotes: Pairs around a name.
        noise: What may stand between tokens.
        tails: What may follow a query.
    """

    calls: Sequence[str]
    writes: Sequence[str]
    tables: Sequence[str]
    columns: Sequence[str]
    quotes: Sequence[str]
    noise: Sequence[str]
    tails: Sequence[str]


NOISE = ("", " ", "\n", "\t", "/**/", "/* ; */", "-- x\n", "/*'*/", "\u00a0", "\0", ";", "'")

MYSQL = Dialect(
    calls=(
        "bump()", "shop.bump()", "`bump`()", "`shop`.`bump` ()", "bump_plain()", "NEXTVAL(s1)",
        "NEXT VALUE FOR s1", "SETVAL(s1, 9)", "GET_LOCK('a', 0)", "LOAD_FILE('/etc/passwd')",
        "SLEEP(0)", "LAST_INSERT_ID(7)", "@a := 1", "@@sql_mode", "lower('A')", "count(*)", "now()",
        "`sleep`(0)", "BENCHMARK(1, 1)", "json_overlaps_too(1)", "coalesce(NULL, 1)", "uuid()",
    ),
    writes=(
        "DELETE FROM orders", "DELETE FROM log RETURNING 1", "UPDATE orders SET total = 0",
        "INSERT INTO log (what) VALUES ('x')", "INSERT INTO log (what) VALUES ('x') RETURNING what",
        "REPLACE INTO log (what) VALUES ('x')", "TRUNCATE log", "DROP TABLE log",
        "CREATE TABLE x (a int)", "CREATE TABLE x AS SELECT 1", "CALL p()", "DO bump()",
        "SET GLOBAL sql_mode = ''", "SET @a = 1", "COMMIT", "LOCK TABLES orders WRITE",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE log", "HANDLER orders OPEN",
        "EXECUTE IMMEDIATE 'DELETE FROM orders'", "BEGIN NOT ATOMIC DELETE FROM log; END",
        "ALTER TABLE orders ADD COLUMN x int", "RENAME TABLE log TO log2",
        "GRANT ALL ON *.* TO reader",
        "PREPARE s FROM 'DELETE FROM log'", "ANALYZE TABLE orders", "START TRANSACTION READ WRITE",
        "SET STATEMENT max_statement_time=1 FOR DELETE FROM log",
    ),
    tables=(
        "orders", "shop.orders", "`shop`.`orders`", "order_lines", "log", "plain",
        "mysql.user", "d",
        "information_schema.tables", "`orders`", "s1",
    ),
    columns=(
        "id", "o.id", "1", "'x'", "NULL", "*", "o.*", "`delete`", "o.delete", "'\\''", "\"a\"\"b\"",
        "x'ff'", "'/*! bump() */'", "'a\\\\'", "0x41", "1.5e3", "-- 1", "_utf8mb4'x'", "1 -- 1\n",
    ),
    quotes=("`", '"', "'", ""),
    noise=(
        *NOISE, "# x\n", "/*! */", "/*!50000 , bump() */", "/*M! , bump() */", "/*+ x */", "\\",
        "/*! UNION SELECT bump() */", "/*!99999 ; */", "--", "--x\n", "`",
    ),
    tails=(
        " FOR UPDATE", " LOCK IN SHARE MODE", " INTO OUTFILE '/tmp/pwned'", " INTO @a",
        " INTO DUMPFILE '/tmp/pwned'", " PROCEDURE ANALYSE()", " LIMIT 1", "; DELETE FROM log",
        " /*! INTO OUTFILE '/tmp/pwned' */", " UNION SELECT bump()", " # ", " -- ", ";;",
        " FOR UPDATE SKIP LOCKED", " INTO OUTFILE '/tmp/pwned' FROM orders",
    ),
)  # fmt: skip

SQLITE = Dialect(
    calls=(
        "load_extension('x')", "readfile('/etc/passwd')", "writefile('/tmp/pwned', 'x')",
        "random()", "lower('A')", "count(*)", "changes()", "edit('x')", "eval('DELETE FROM log')",
        "fts3_tokenizer('x')", "coalesce(NULL, 1)", "zeroblob(10)", "last_insert_rowid()",
    ),
    writes=(
        "DELETE FROM orders", "DELETE FROM log RETURNING 1", "UPDATE orders SET total = 0",
        "INSERT INTO log VALUES ('x') RETURNING 1", "REPLACE INTO log VALUES ('x')",
        "DROP TABLE log", "CREATE TABLE x (a int)", "CREATE TEMP TABLE x AS SELECT 1", "VACUUM",
        "VACUUM INTO '/tmp/pwned'", "ATTACH '/tmp/pwned' AS x", "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = WAL", "REINDEX", "ANALYZE", "BEGIN IMMEDIATE", "COMMIT",
        "SAVEPOINT x",
        "ALTER TABLE log RENAME TO log2", "CREATE VIRTUAL TABLE x USING fts5(a)", "DETACH main",
    ),
    tables=(
        "orders", "main.orders", '"orders"', "[orders]", "`log`", "sqlite_master", "sqlite_dbpage",
        "pragma_table_info('orders')", "json_each('[1]')", "generate_series(1, 3)", "d", "plain",
    ),
    columns=("id", "o.id", "1", "'x'", "NULL", "*", "o.*", '"delete"', "x'ff'", "'a''b'", "rowid"),
    quotes=('"', "`", "'", ""),
    noise=NOISE,
    tails=("; DELETE FROM log", " LIMIT 1", " RETURNING 1", ";;", " -- ", " FOR UPDATE"),
)  # fmt: skip

DUCKDB = Dialect(
    calls=(
        "nextval('s1')", "read_text('/etc/passwd')", "getvariable('a')", "sleep_ms(1)",
        "write_log('x')", "current_setting('threads')", "lower('A')", "count(*)", "now()",
        "query('DELETE FROM lines')", "pg_sleep(0)", "system.main.lower('A')", "setseed(0.5)",
        "getenv('HOME')", "list_transform([1], lambda x: nextval('s1'))", "[x FOR x IN [1]]",
        "json_execute_serialized_sql('{}')", "coalesce(NULL, 1)", "pragma_version()",
    ),
    writes=(
        "DELETE FROM orders", "DELETE FROM lines RETURNING 1", "UPDATE orders SET total = 0",
        "INSERT INTO lines VALUES (1, 'x') RETURNING 1", "TRUNCATE lines", "DROP TABLE lines",
        "CREATE TABLE memory.x (a int)", "COPY orders TO '/tmp/pwned'", "ATTACH '/tmp/pwned' AS x",
        "EXPORT DATABASE '/tmp/pwned'", "INSTALL httpfs", "LOAD httpfs", "SET threads = 1",
        "RESET threads", "PRAGMA threads = 1", "CALL force_checkpoint()", "CHECKPOINT", "VACUUM",
        "CREATE SECRET (TYPE s3)", "MERGE INTO lines USING orders ON true WHEN MATCHED THEN DELETE",
        "CREATE MACRO m() AS 1", "BEGIN", "COMMIT", "USE memory", "SET VARIABLE a = 1",
    ),
    tables=(
        "orders", "data.main.orders", '"orders"', "lines", "'/etc/passwd'",
        '"/etc/passwd"', "plain",
        "read_csv('/etc/passwd')", "glob('/*')", "duckdb_settings()", "range(3)", "spying", "d",
        "query('DELETE FROM lines')", "information_schema.tables",
    ),
    columns=(
        "id", "o.id", "1", "'x'", "NULL", "*", "o.*", '"delete"', "$$;$$", "'a''b'", "COLUMNS(*)",
        "{'a': 1}", "[1][1]", "1::int",
    ),
    quotes=('"', "'", ""),
    noise=NOISE,
    tails=("; DELETE FROM lines", " LIMIT 1", " RETURNING 1", ";;", " -- ", " USING SAMPLE 1"),
)  # fmt: skip


def statements(dialect: Dialect) -> st.SearchStrategy[str]:
    """Statements of a dialect."""
    calls, writes = st.sampled_from(dialect.calls), st.sampled_from(dialect.writes)
    tables, columns = st.sampled_from(dialect.tables), st.sampled_from(dialect.columns)
    noise, tails = st.sampled_from(dialect.noise), st.sampled_from(dialect.tails)
    quote = st.sampled_from(dialect.quotes)
    operators = st.sampled_from(["+", "=", "||", "<", " AND ", " IN ", " LIKE ", " IS NOT "])

    def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        expression = st.one_of(
            columns,
            calls,
            inner.map("({})".format),
            st.builds("{} {} {}".format, columns, operators, calls),
            st.builds("CASE WHEN {} IS NULL THEN {} END".format, calls, columns),
            st.builds("EXISTS ({})".format, inner),
            st.builds("{}{}{}".format, quote, calls, quote),
            st.builds("sum({}) OVER (ORDER BY {})".format, columns, calls),
            st.builds("CAST({} AS char)".format, calls),
        )
        source = st.one_of(
            tables.map("{} AS o".format),
            inner.map("({}) AS o".format),
            calls.map("{} AS o".format),
            st.builds("{} AS o JOIN {} AS p ON {} IS NULL".format, tables, tables, calls),
            st.builds("{} AS o, LATERAL ({}) AS p".format, tables, inner),
        )
        return st.one_of(
            st.builds("SELECT {} FROM {}".format, expression, source),
            st.builds("SELECT{}{}{}FROM{}{}".format, noise, expression, noise, noise, source),
            st.builds("SELECT {} FROM {}{}".format, expression, source, tails),
            st.builds("SELECT {} FROM {} WHERE {} IS NULL".format, columns, source, expression),
            st.builds("SELECT 1 FROM {} GROUP BY {} HAVING {}".format, source, columns, expression),
            st.builds("SELECT {} FROM {} ORDER BY {} LIMIT 2".format, columns, source, expression),
            st.builds("WITH d AS ({}) {}".format, st.one_of(inner, writes), inner),
            st.builds("WITH d (a, b) AS ({}) SELECT {} FROM d".format, inner, expression),
            st.builds("{} UNION ALL {}".format, inner, inner),
            st.builds("({}){}".format, inner, tails),
            st.builds("VALUES ({})".format, expression),
        )

    queries = st.recursive(
        st.one_of(
            st.builds("SELECT {}".format, columns),
            st.builds("SELECT {} FROM {} AS o".format, st.one_of(columns, calls), tables),
        ),
        nested,
        max_leaves=6,
    )
    return st.one_of(
        queries,
        queries,
        st.builds("{}{}".format, queries, tails),
        writes,
        st.builds("{}{}".format, noise, writes),
        st.builds("{}{};{}{}".format, queries, noise, writes, noise),
        st.builds("EXPLAIN {}".format, st.one_of(queries, writes)),
        st.builds("EXPLAIN ANALYZE {}".format, st.one_of(queries, writes)),
        st.builds("{}{}{}".format, noise, queries, noise),
    )
