"""What a PostgreSQL query may be, judged on the tree of PostgreSQL's own parser.

The text is parsed once and that text, cut to its one statement, is what is sent. Everything is an
allow-list (`nodes`, `functions`, `relations`): what is not known is refused. What a tree cannot
tell (is ``t.x`` a column, whose operator is ``=``) is left in `Statement.names` for `catalogue`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pgparse

from activities.tools.sql import functions, relations
from activities.tools.sql.nodes import NODES, STATEMENT_NAMES
from activities.tools.tool import ToolFailed, ToolRefused

# The parser is C code that recurses: at two bytes a level this leaves a third of an 8 MiB stack.
MAX_QUERY_BYTES = 32 * 1024
MAX_NODES = 20_000
MAX_COMMENTS = 200  # the parser's time grows with the square of their number
MAX_MESSAGE_CHARS = 1000
EXPLAIN_OPTIONS = frozenset({"verbose", "costs", "settings", "format", "summary", "generic_plan"})
TABLESAMPLE_METHODS = frozenset({"system", "bernoulli"})

Name = tuple[str | None, str]


def refused(rule: str, text: str) -> ToolRefused:
    """A refusal as the model reads it: the rule's name, then what to do."""
    return ToolRefused(f"Refused by the rule {rule!r}: {text}")


@dataclass(slots=True)
class Names:
    """Names in a query whose meaning only the database's catalogue tells.

    Attributes:
        functions: Called without a schema; each is also the name of an allowed function.
        operators: Used without a schema.
        attributes: Last part of ``a.b``, which is a function call where there is no column b.
        relations: Read, as (schema or None, name); names of WITH queries among them.
        types: Cast to, as (schema or None, name).
        called: Functions of a view that are not on the list, as (schema or None, name).
    """

    functions: set[str] = field(default_factory=set)
    called: set[Name] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    relations: set[Name] = field(default_factory=set)
    types: set[Name] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Statement:
    """One accepted statement.

    Attributes:
        text: To be sent as it is.
        offset: Where it begins in the query, in characters.
        explain: It is EXPLAIN, not a query.
    """

    text: str
    offset: int
    explain: bool
    names: Names


def check(query: str) -> Statement:
    """Parse and judge a query.

    Raises:
        ToolFailed: It is not SQL; with the parser's words.
        ToolRefused: It is not allowed; names the rule.
    """
    tree, text, offset = _parse(query)
    names = Names()
    ((kind, content),) = tree.items()
    explain = kind == "ExplainStmt"
    if explain:
        _check_explain(content)
    elif kind != "SelectStmt":
        what = STATEMENT_NAMES.get(kind, "This statement")
        raise refused(
            "read only",
            f"{what} is not a query. SELECT, WITH … SELECT, VALUES, TABLE and EXPLAIN are allowed.",
        )
    for node, fields in _walk(tree):
        judge = _JUDGES.get(node)
        if judge is not None:
            judge(fields, names)
    return Statement(text, offset, explain, names)


def check_view(definition: str) -> Names:
    """Judge the definition of a view, which its author could write as he liked.

    The functions it calls are left to the catalogue; everything else is held to `check`.

    Raises:
        ToolFailed: It cannot be read.
        ToolRefused: It does what a query may not.
    """
    tree, _, _ = _parse(definition)
    names = Names()
    for node, fields in _walk(tree):
        if node == "FuncCall":
            *schema, name = _strings(fields["funcname"])
            if schema in ([], ["pg_catalog"]) and name in functions.ALLOWED:
                names.functions.add(name)
            else:
                names.called.add((schema[0] if schema else None, name))
        elif node in _JUDGES and node != "TypeName":
            _JUDGES[node](fields, names)
    names.attributes.clear()  # its columns were told from functions when it was made
    return names


def _parse(query: str) -> tuple[dict[str, Any], str, int]:
    if "\0" in query:  # C code would see only what stands before it
        raise refused("text", "the query holds a NUL character.")
    try:
        data = query.encode()
    except UnicodeEncodeError as error:
        raise refused("text", "the query holds half of a surrogate pair.") from error
    if len(data) > MAX_QUERY_BYTES:
        raise refused("length", f"a query has at most {MAX_QUERY_BYTES // 1024} KiB.")
    if query.count("/*") > MAX_COMMENTS:
        raise refused("text", f"a query has at most {MAX_COMMENTS} comments.")
    try:
        statements = pgparse.parse(query)
    except pgparse.PGQueryError as error:
        raise ToolFailed(_syntax_error(query, error)) from error
    except RecursionError as error:
        raise refused("depth", "the query is nested too deeply. Split it with WITH.") from error
    if not statements:
        raise ToolFailed("The query is empty.")
    if len(statements) > 1:
        raise refused(
            "one statement",
            f"the query has {len(statements)} statements. Call the tool once for each.",
        )
    statement = statements[0]
    start = statement.get("stmt_location", 0)
    end = start + statement["stmt_len"] if "stmt_len" in statement else len(data)
    return statement["stmt"], data[start:end].decode(), len(data[:start].decode())


def _syntax_error(query: str, error: pgparse.PGQueryError) -> str:
    words = str(error)[:MAX_MESSAGE_CHARS].rstrip()
    position = getattr(error, "position", 0) or 0
    near = query[max(position - 21, 0) : position + 20].replace("\n", " ")
    return f"{words}, around: {near}" if near else words


def _walk(tree: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node below `tree`, each of an allowed type with allowed fields.

    Without recursion: the tree is as deep as the query wants.
    """
    waiting: list[tuple[Any, str]] = [(tree, "")]
    seen = 0
    while waiting:
        value, kind = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, "") for item in value)
            continue
        if not isinstance(value, dict) or (not value and not kind):
            continue  # a plain value, or the absent node of a bare DISTINCT
        if not kind:
            if len(value) != 1:
                raise refused("grammar", "part of the query is of a kind that is not known.")
            ((kind, value),) = value.items()
        fields = NODES.get(kind)
        if fields is None:
            raise _unknown_node(kind)
        seen += 1
        if seen > MAX_NODES:
            raise refused("size", "the query has too many parts.")
        yield kind, value
        for name, item in value.items():
            expected = fields.get(name)
            if expected is None:
                raise _unknown_field(kind, name)
            if isinstance(item, (dict, list)):
                waiting.append((item, expected))


def _unknown_node(kind: str) -> ToolRefused:
    if kind in STATEMENT_NAMES:
        return refused("read only", f"{STATEMENT_NAMES[kind]} may not be part of a query.")
    if kind == "ParamRef":
        return refused("parameters", "$1 and its like have no values here. Write the value.")
    return refused("grammar", f"{kind} is not among the parts of SQL that can be used here.")


def _unknown_field(kind: str, name: str) -> ToolRefused:
    match kind, name:
        case "SelectStmt", "intoClause":
            return refused("read only", "SELECT … INTO makes a table. Leave INTO out.")
        case "SelectStmt", "lockingClause":
            return refused("no locks", "FOR UPDATE and FOR SHARE lock rows. Leave them out.")
        case "RangeVar", "catalogname":
            return refused("relations", "name tables as schema.table, without a database.")
        case _:
            return refused("grammar", f"{kind}.{name} cannot be used here.")


def _check_explain(content: Mapping[str, Any]) -> None:
    if set(content["query"]) != {"SelectStmt"}:
        raise refused("read only", "EXPLAIN is for queries only.")
    for option in content.get("options", ()):
        name = option["DefElem"]["defname"].lower()
        if name not in EXPLAIN_OPTIONS:
            raise refused("explain", f"EXPLAIN ({name}) is not allowed. Use plain EXPLAIN.")


def _strings(nodes: Any) -> list[str]:
    return [node["String"]["sval"] for node in nodes or () if "String" in node]


def _judge_function(fields: Mapping[str, Any], names: Names) -> None:
    *schema, name = _strings(fields["funcname"])
    if schema not in ([], ["pg_catalog"]):
        raise refused(
            "functions",
            f"{'.'.join(schema)}.{name}() is not one of PostgreSQL's own functions, and only "
            "those can be called. Express it in the query.",
        )
    if name not in functions.ALLOWED:
        hint = functions.SUGGESTIONS.get(name, "Use another function, or plain columns.")
        raise refused("functions", f"{name}() is not on the list of allowed functions. {hint}")
    if not schema:
        names.functions.add(name)


def _judge_operator(parts: Any, names: Names) -> None:
    *schema, name = _strings(parts) or [""]
    if schema not in ([], ["pg_catalog"]):
        raise refused("operators", f"only PostgreSQL's own operators can be used, not {name}.")
    if not schema:
        names.operators.add(name)


def _judge_expression(fields: Mapping[str, Any], names: Names) -> None:
    _judge_operator(fields.get("name"), names)


def _judge_sort(fields: Mapping[str, Any], names: Names) -> None:
    if fields.get("useOp"):
        _judge_operator(fields["useOp"], names)


def _judge_sublink(fields: Mapping[str, Any], names: Names) -> None:
    if set(fields["subselect"]) != {"SelectStmt"}:
        raise refused("read only", "only queries can be nested.")
    if fields.get("operName"):
        _judge_operator(fields["operName"], names)


def _judge_relation(fields: Mapping[str, Any], names: Names) -> None:
    schema, name = fields.get("schemaname"), fields["relname"]
    reason = relations.refusal(schema, name)
    if reason is not None:
        raise refused("relations", reason)
    names.relations.add((schema, name))


def _judge_type(fields: Mapping[str, Any], names: Names) -> None:
    *schema, name = _strings(fields.get("names")) or [""]
    if len(schema) > 1:
        raise refused("types", "name types as schema.type, without a database.")
    names.types.add((schema[0] if schema else None, name))


def _judge_attribute(fields: Mapping[str, Any], names: Names) -> None:
    # The first part is a column, table or schema; none of the others can be told from a function.
    names.attributes.update(_strings(fields["fields"])[1:])


def _judge_indirection(fields: Mapping[str, Any], names: Names) -> None:
    names.attributes.update(_strings(fields["indirection"]))


def _judge_sample(fields: Mapping[str, Any], _: Names) -> None:
    method = _strings(fields["method"])
    if method[-1] not in TABLESAMPLE_METHODS or method[:-1] not in ([], ["pg_catalog"]):
        raise refused("functions", "TABLESAMPLE takes SYSTEM or BERNOULLI.")


def _judge_with(fields: Mapping[str, Any], _: Names) -> None:
    if set(fields["ctequery"]) != {"SelectStmt"}:
        raise refused("read only", "WITH may hold queries only, no INSERT, UPDATE or DELETE.")


_JUDGES = {
    "A_Expr": _judge_expression,
    "A_Indirection": _judge_indirection,
    "ColumnRef": _judge_attribute,
    "CommonTableExpr": _judge_with,
    "FuncCall": _judge_function,
    "RangeTableSample": _judge_sample,
    "RangeVar": _judge_relation,
    "SortBy": _judge_sort,
    "SubLink": _judge_sublink,
    "TypeName": _judge_type,
}
