"""What a query on files may be, judged on the tree of DuckDB's own parser.

Runs in the process that runs the query (`duckdb_process`), and knows nothing but this tree. Node
types and functions are an allow-list; what is not known is refused.
"""

import json
from collections.abc import Iterator
from typing import Any

from activities.tools.sql.duckdb_functions import ALLOWED, ALLOWED_TABLES

MAX_NODES = 50_000

_NODES = """
SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE
ORDER_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER DISTINCT_MODIFIER ORDER_DEFAULT ASCENDING
DESCENDING
BASE_TABLE SUBQUERY JOIN TABLE_FUNCTION EXPRESSION_LIST EMPTY TYPE
STAR COLUMN_REF POSITIONAL_REFERENCE VALUE_CONSTANT CASE_EXPR OPERATOR_CAST LAMBDA LAMBDA_REF
FUNCTION COLLATE VALUE_DEFAULT
CONJUNCTION_AND CONJUNCTION_OR COMPARE_EQUAL COMPARE_NOTEQUAL COMPARE_LESSTHAN COMPARE_GREATERTHAN
COMPARE_LESSTHANOREQUALTO COMPARE_GREATERTHANOREQUALTO COMPARE_DISTINCT_FROM
COMPARE_NOT_DISTINCT_FROM COMPARE_BETWEEN COMPARE_NOT_BETWEEN COMPARE_IN COMPARE_NOT_IN
OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL OPERATOR_NULLIF OPERATOR_COALESCE OPERATOR_TRY
OPERATOR_UNPACK ARRAY_EXTRACT ARRAY_SLICE STRUCT_EXTRACT ARRAY_CONSTRUCTOR GROUPING_FUNCTION ARROW
WINDOW_AGGREGATE WINDOW_RANK WINDOW_RANK_DENSE WINDOW_NTILE WINDOW_PERCENT_RANK WINDOW_CUME_DIST
WINDOW_ROW_NUMBER WINDOW_FIRST_VALUE WINDOW_LAST_VALUE WINDOW_LEAD WINDOW_LAG WINDOW_NTH_VALUE
WINDOW_FILL
"""
NODES = frozenset(_NODES.split())
# Of a table whose name is a path, DuckDB makes a reading of that file.
_PATH = frozenset("/\\:*?[")


class Refused(Exception):
    """The query is not allowed."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"Refused by the rule {rule!r}: {text}")


class Unreadable(Exception):
    """The query is not SQL."""


def judge(serialized: str) -> None:
    """Judge what json_serialize_sql made of a query.

    Raises:
        Refused: It is not allowed; names the rule.
        Unreadable: DuckDB could not read it.
    """
    tree = json.loads(serialized)
    if tree["error"]:
        if tree.get("error_type") == "not implemented":
            raise Refused(
                "read only",
                "only queries are allowed: SELECT, WITH … SELECT, FROM, VALUES, TABLE and EXPLAIN. "
                "For SHOW and DESCRIBE use describe_schema.",
            )
        raise Unreadable(str(tree.get("error_message", "the query could not be read")))
    if len(tree["statements"]) != 1:
        raise Refused("one statement", "call the tool once for each statement.")
    for count, node in enumerate(_nodes(tree["statements"])):
        if count > MAX_NODES:
            raise Refused("size", "the query has too many parts.")
        _judge(node)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            yield value
            waiting.extend(value.values())


def _judge(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and kind not in NODES and not kind.endswith("_TYPE_INFO"):
        raise _unknown(kind)
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in ALLOWED_TABLES:
            raise Refused("functions", f"{name}() is not on the list of allowed functions.")
    elif "function_name" in node:
        _judge_function(node)
    if kind == "BASE_TABLE":
        _judge_table(node)


def _unknown(kind: str) -> Refused:
    if kind.endswith("_QUERY_NODE"):
        return Refused("read only", "only queries can be nested.")
    if kind == "SHOW_REF":
        return Refused("read only", "use describe_schema instead of SHOW and DESCRIBE.")
    if kind == "VALUE_PARAMETER":
        return Refused("parameters", "there are no values for parameters. Write the value.")
    return Refused("grammar", f"{kind} is not among the parts of SQL that can be used here.")


def _judge_function(node: dict[str, Any]) -> None:
    name = str(node["function_name"]).lower()
    if node.get("schema") or node.get("catalog"):
        raise Refused("functions", f"….{name}() is not one of DuckDB's own functions.")
    if name not in ALLOWED and name not in ALLOWED_TABLES:
        raise Refused("functions", f"{name}() is not on the list of allowed functions.")


def _judge_table(node: dict[str, Any]) -> None:
    name, schema = str(node["table_name"]), str(node["schema_name"]).lower()
    catalog = str(node["catalog_name"]).lower()
    if _PATH & set(name) or node.get("at_clause"):
        raise Refused("relations", f"{name!r} is not a table here. Call describe_schema.")
    if catalog in {"system", "temp"} or schema in {"pg_catalog", "information_schema"}:
        raise Refused("relations", f"{schema}.{name} is not readable here. Call describe_schema.")
    if name.lower().startswith(("duckdb_", "pragma_", "sqlite_", "pg_")):
        raise Refused("relations", f"{name} is not readable here. Call describe_schema.")
