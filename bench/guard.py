"""What judging a query costs, per kind of database: ``python -m bench.guard``.

The guard alone, without a server: parsing and walking, as before each query. Milliseconds.
"""

import statistics
import time
from collections.abc import Callable

import duckdb

from activities.tools.sql import duckdb_guard, guard, mysql_guard

SMALL = "SELECT count(*) FROM orders WHERE total > 10"
USUAL = """
WITH monthly AS (
    SELECT customer, extract(month FROM placed) AS month, sum(total) AS total
    FROM orders JOIN order_lines ON order_lines.order_id = orders.id
    WHERE placed >= '2024-01-01' AND lower(customer) LIKE 'a%'
    GROUP BY customer, extract(month FROM placed)
)
SELECT customer, month, total, rank() OVER (PARTITION BY month ORDER BY total DESC) AS place
FROM monthly WHERE total > (SELECT avg(total) FROM monthly) ORDER BY month, place LIMIT 100
"""
ROUNDS = 2000


def _duckdb() -> Callable[[str], object]:
    connection = duckdb.connect(":memory:")

    def check(query: str) -> None:
        row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
        duckdb_guard.judge(row[0] if row else "{}")

    return check


def _percentiles(check: Callable[[str], object], query: str) -> tuple[float, float]:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        check(query)
        times.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def main() -> None:
    """Measure and print."""
    kinds = {"postgresql": guard.check, "mysql": mysql_guard.check, "duckdb": _duckdb()}
    print("| kind | query | p50 | p99 |\n| --- | --- | --- | --- |")
    for kind, check in kinds.items():
        for name, query in (("small", SMALL), ("usual", USUAL)):
            middle, high = _percentiles(check, query)
            print(f"| {kind} | {name} | {middle:.3f} | {high:.3f} |")


if __name__ == "__main__":
    main()
