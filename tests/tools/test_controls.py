"""Legitimate queries that must pass, with the rows they must give."""

import pytest

from activities.tools.sql import relations
from activities.tools.tool import ToolFailed

PASSES = {
    "cte": ("WITH a AS (SELECT id FROM orders WHERE id<3) SELECT * FROM a ORDER BY 1", [[1], [2]]),
    "cte-shadows-table": ("WITH orders AS (SELECT 7 AS id) SELECT id FROM orders", [[7]]),
    "recursive": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) TABLE n",
        [[1], [2], [3]],
    ),
    "window": (
        "SELECT id, rank() OVER (ORDER BY total DESC) FROM app.orders ORDER BY 2 LIMIT 2",
        [[1500, 1], [1499, 2]],
    ),
    "named window": (
        "SELECT sum(id) OVER w FROM app.orders WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 2",
        [[1], [3]],
    ),
    "values": ("VALUES (1, 'a'), (2, 'b')", [[1, "a"], [2, "b"]]),
    "string": ("SELECT '; DROP TABLE app.orders; --'", [["; DROP TABLE app.orders; --"]]),
    "dollar": ("SELECT $$;$$, $a$it's; $$ $a$", [[";", "it's; $$ "]]),
    "escape": (r"SELECT E'it\'s;'", [["it's;"]]),
    "comments": ("SELECT /* a /* nested; */ ; */ 1 -- ; and the end", [[1]]),
    "closing semicolon": (" \n SELECT 1 ; -- done\n ", [[1]]),
    "column named delete": ('SELECT "delete", o."delete" FROM orders o WHERE id=2', [[True, True]]),
    "functions": (
        "SELECT now() > '2020-01-01', lower('A'), jsonb_path_query('{\"a\": [1, 2]}', '$.a[*]')",
        [[True, "a", 1], [True, "a", 2]],
    ),
    "qualified": ("SELECT pg_catalog.lower('A'), pg_catalog.upper('b')", [["a", "B"]]),
    "union": ("(SELECT 1 ORDER BY 1) UNION ALL SELECT 2 ORDER BY 1 DESC", [[2], [1]]),
    "order kept": ("SELECT id FROM app.orders ORDER BY id DESC OFFSET 2 LIMIT 2", [[1498], [1497]]),
    "aggregate": (
        ('SELECT "delete", count(*), sum(total) FILTER (WHERE id < 10),'
        " string_agg(id::text, ',' ORDER BY id) FROM orders WHERE id < 5 GROUP BY 1 ORDER BY 1"),
        [[False, 2, 5.0, "1,3"], [True, 2, 7.5, "2,4"]],
    ),
    "lateral": (
        ("SELECT o.id, l.article FROM app.orders o CROSS JOIN LATERAL"
        " (SELECT article FROM app.lines WHERE order_id = o.id) l WHERE o.id = 7"),
        [[7, "article 7"]],
    ),
    "subqueries": (
        ("SELECT id FROM app.orders o WHERE EXISTS (SELECT FROM app.lines WHERE order_id = o.id)"
        " AND id = ANY (ARRAY[1, 200]) AND id NOT IN (SELECT 2)"),
        [[1]],
    ),
    "enum": (
        "SELECT mood, 'sad'::app.mood < mood, 'sad'::mood FROM app.orders WHERE id = 1",
        [["happy", True, "sad"]],
    ),
    "search path": ("SELECT count(*) FROM orders", [[1500]]),
    "view": ("SELECT * FROM app.plain WHERE id = 2", [[2, "customer 2", 4]]),
    "view on a view": ("SELECT n FROM over_plain", [[1500]]),
    "citext": ("SELECT name FROM app.names WHERE name = 'ADA'", [["Ada"]]),
    "trigram operator": ("SELECT 'word' % 'words'", [[True]]),
    "partitions": ("SELECT n, line FROM app.parts", [[1, "here"]]),
    "sequence": ("SELECT last_value FROM app.s1", [[1]]),
    "dates": (
        ("SELECT date_trunc('month', at), extract(year FROM at), at + interval '1 day' - at,"
        " at::date, to_char(at, 'YYYY-MM'), at AT TIME ZONE 'Asia/Tokyo' FROM orders WHERE id=1"),
        [[
            "2024-05-01T00:00:00+00:00", 2024, "P1D", "2024-05-06", "2024-05",
            "2024-05-06T16:08:09",
        ]],
    ),
    "series": ("SELECT n FROM generate_series(1, 3) AS n", [[1], [2], [3]]),
    "unnest": ("SELECT * FROM unnest(ARRAY['a', 'b']) WITH ORDINALITY", [["a", 1], ["b", 2]]),
    "json": (
        "SELECT * FROM jsonb_to_recordset('[{\"a\": 1, \"b\": \"x\"}]') AS x(a int, b text)",
        [[1, "x"]],
    ),
    "json table": (
        "SELECT * FROM json_table('[{\"a\": 3}]', '$[*]' COLUMNS (a int PATH '$.a')) AS j",
        [[3]],
    ),
    "case": ("SELECT CASE WHEN id>1 THEN 'no' ELSE 'one' END FROM orders WHERE id = 1", [["one"]]),
    "regular expression": (
        "SELECT 'abc' ~ '^a', regexp_replace('abc', 'b', 'x'), 'a' ILIKE 'A'",
        [[True, "axc", True]],
    ),
    "grouping sets": (
        "SELECT grouping(id), count(*) FROM orders WHERE id < 3 GROUP BY ROLLUP (id) ORDER BY 1, 2",
        [[0, 1], [0, 1], [1, 2]],
    ),
    "percentile": ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM orders", [[750.5]]),
    "information schema": (
        ("SELECT column_name FROM information_schema.columns WHERE table_schema = 'app'"
        " AND table_name = 'lines' ORDER BY ordinal_position"),
        [["order_id"], ["position"], ["article"]],
    ),
    "catalogue": (
        ("SELECT c.relname, pg_size_pretty(0::bigint) FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = 'app' AND c.relname = 'orders'"),
        [["orders", "0 bytes"]],
    ),
    "no columns": ("SELECT FROM app.orders WHERE id < 3", [[], []]),
    "no rows": ("SELECT id FROM app.orders WHERE false", []),
    "same names": ("SELECT 1 AS a, 2 AS a", [[1, 2]]),
    "sample": ("SELECT count(*) > 0 FROM app.orders TABLESAMPLE BERNOULLI (100)", [[True]]),
    "random": ("SELECT random() < 1, gen_random_uuid() IS NOT NULL", [[True, True]]),
    "operator": ("SELECT 1 OPERATOR(pg_catalog.+) 2, 2 ^ 3, 7 % 2, -5", [[3, 8.0, 1, -5]]),
    "quoted": ('SELECT "id" AS "Größe; --" FROM "app"."orders" WHERE "id" = 1', [[1]]),
    "non-ascii": ("SELECT 'Ωmega' AS \"ключ\", length('日本')", [["Ωmega", 2]]),
    "row": ("SELECT (1, 2) < (1, 3), ROW(1, 'a')", [[True, {"f1": 1, "f2": "a"}]]),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSES)
async def test_passes(case, reader, shop):
    query, rows = PASSES[case]
    before = await shop.state()
    result = await reader.query(query)
    assert result["rows"] == rows
    assert result["row_count"] == len(rows)
    assert result["truncated"] is False
    assert await shop.state() == before


async def test_a_table_is_read_whole_up_to_the_limit(reader):
    result = await reader.query("TABLE app.orders")
    assert result["row_count"] == 1000
    assert result["truncated"] is True
    assert [column["type"] for column in result["columns"]] == [
        "integer", "text", "numeric", "boolean", "app.mood", "timestamp with time zone",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "relation",
    [
        *(f"pg_catalog.{name}" for name in sorted(relations.PG_CATALOG)),
        *(f"information_schema.{name}" for name in sorted(relations.INFORMATION_SCHEMA)),
    ],
)
async def test_every_readable_relation_has_types_that_can_be_shown(reader, relation):
    columns = "attrelid, attname, attnum" if relation.endswith("pg_attribute") else "*"
    result = await reader.query(f"SELECT {columns} FROM {relation} LIMIT 200")
    assert result["columns"]


async def test_a_type_that_cannot_be_shown_is_said_so(reader):
    with pytest.raises(ToolFailed, match="cannot be shown"):
        await reader.query("SELECT attmissingval FROM pg_attribute")
    assert (await reader.query("SELECT 1"))["rows"] == [[1]]


async def test_pages_of_a_thousand_rows(reader):
    ids: list[int] = []
    for offset in (0, 1000):
        page = await reader.query(f"SELECT id FROM orders ORDER BY id LIMIT 1000 OFFSET {offset}")
        assert page["truncated"] is False
        ids += [row[0] for row in page["rows"]]
    assert ids == list(range(1, 1501))


@pytest.mark.parametrize(
    "query", ["EXPLAIN SELECT * FROM orders", "EXPLAIN (COSTS OFF, FORMAT JSON) TABLE orders"]
)
async def test_a_plan_is_shown(reader, query):
    assert "orders" in str((await reader.query(query))["rows"])


async def test_columns_keep_their_names(reader):
    result = await reader.query('SELECT 1 AS "a b", 2 AS a, 3 AS "c1"')
    assert [column["name"] for column in result["columns"]] == ["a b", "a", "c1"]
