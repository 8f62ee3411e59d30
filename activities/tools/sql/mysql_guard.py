"""What a MySQL or MariaDB query may be: judged on the server's tokens, then on a tree.

There is no parser of the server's own to be had, so two that know nothing of each other must both
agree. The tokens (`mysql_tokens`) follow the server's rules and tell every name before a bracket
and every reserved word, which no trick of the grammar hides. The tree of `sqlglot` must consist of
known parts only. What is sent is the text that both have read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError

from activities.tools.sql.guard import MAX_NODES, MAX_QUERY_BYTES, refused
from activities.tools.sql.mysql_functions import ALLOWED, SUGGESTIONS, WORDS_BEFORE_BRACKETS
from activities.tools.sql.mysql_nodes import FUNCTIONS, NODES
from activities.tools.sql.mysql_tokens import Kind, Token, take_apart
from activities.tools.tool import ToolFailed, ToolRefused
from store.datasource.config import MYSQL_SYSTEM_DATABASES

MAX_DEPTH = 100  # of brackets; sqlglot and servers recurse
MAX_TOKENS = 10_000
# Of JOINs whose ON does not follow at once; sqlglot's time doubles with each.
MAX_OPEN_JOINS = 8

_BEGINNINGS = frozenset({"SELECT", "WITH", "VALUES", "TABLE"})
_EXPLAIN_FORMATS = frozenset({"JSON", "TRADITIONAL", "TREE"})

# Reserved in MySQL and MariaDB: unquoted, they are never names, except after a dot. Some are
# functions as well, and then a bracket follows.
_WORDS = """
ALTER ANALYZE CALL CREATE DELETE DROP GRANT INSERT KILL LOAD OPTIMIZE PROCEDURE PURGE RENAME
REPLACE REVOKE SET SIGNAL UPDATE USE INFILE INTO OUTFILE DUMPFILE
"""
_STATEMENT_WORDS = {
    **dict.fromkeys(_WORDS.split(), "read only"),
    "LOCK": "no locks",
    "UNLOCK": "no locks",
}
_DIALECT = MySQL()
_QUOTES = frozenset("'\"`")
_FUNCTION_TOO = frozenset({"INSERT", "REPLACE"})

_INFORMATION = """
character_sets collations column_statistics columns check_constraints key_column_usage keywords
parameters partitions referential_constraints routines schemata statistics table_constraints
tables views
"""
READABLE_INFORMATION = frozenset(_INFORMATION.split())


@dataclass(frozen=True, slots=True)
class Statement:
    """One accepted statement.

    Attributes:
        text: To be sent as it is.
        is_explain: It is EXPLAIN, not a query.
    """

    text: str
    is_explain: bool


def check(query: str) -> Statement:
    """Take apart, parse and judge a query.

    Raises:
        ToolFailed: It is not SQL.
        ToolRefused: It is not allowed; names the rule.
    """
    if "\0" in query:
        raise refused("text", "the query holds a NUL character.")
    if len(query.encode(errors="replace")) > MAX_QUERY_BYTES:
        raise refused("length", f"a query has at most {MAX_QUERY_BYTES // 1024} KiB.")
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in query):
        raise refused("text", "the query holds half of a surrogate pair.")
    text, tokens = take_apart(query)
    while tokens and tokens[-1].is_sign(";"):
        text = text[: tokens.pop().start]
    if not tokens:
        raise ToolFailed("The query is empty.")
    _judge_tokens(tokens)
    explained = _after_explain(tokens)
    first = next((token for token in tokens[explained:] if not token.is_sign("(")), None)
    if first is None or first.word not in _BEGINNINGS:
        raise refused(
            "read only",
            "only queries are allowed: SELECT, WITH … SELECT, VALUES, TABLE and EXPLAIN. For "
            "SHOW and DESCRIBE use describe_schema.",
        )
    # Blanks keep the places of the tokens.
    start = tokens[explained].start
    _judge_tree(" " * start + text[start:], tokens[explained:], is_values=first.word == "VALUES")
    return Statement(text, explained > 0)


def _judge_tokens(tokens: Sequence[Token]) -> None:
    if len(tokens) > MAX_TOKENS:
        raise refused("size", "the query has too many parts.")
    if _open_joins(tokens) > MAX_OPEN_JOINS:
        raise refused("size", "the query has too many JOINs without ON.")
    depth = 0
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        if token.is_sign(";"):
            raise refused("one statement", "call the tool once for each statement.")
        depth += token.is_sign("(") - token.is_sign(")")
        if depth > MAX_DEPTH:
            raise refused("depth", "the query is nested too deeply. Split it with WITH.")
        if not token.name:
            continue
        has_bracket = after is not None and after.is_sign("(")
        is_qualified = before is not None and before.is_sign(".")
        if token.word and not is_qualified:
            _judge_word(token.word, tokens, place, has_bracket=has_bracket)
        if has_bracket:
            _judge_call(token, before, tokens, place, is_qualified=is_qualified)


def _open_joins(tokens: Sequence[Token]) -> int:
    """How many JOINs have no ON or USING before the next table."""
    count = 0
    waiting: list[int] = [0]  # for each open bracket, whether a JOIN waits for its ON
    for place, token in enumerate(tokens):
        if token.is_sign("("):
            waiting.append(0)
        elif token.is_sign(")"):
            count += waiting.pop() if len(waiting) > 1 else 0
        elif token.is_sign(","):
            count, waiting[-1] = count + waiting[-1], 0
        elif token.word in {"ON", "USING"}:
            waiting[-1] = 0
        elif token.word in {"JOIN", "STRAIGHT_JOIN"}:
            is_cross = place > 0 and tokens[place - 1].word == "CROSS"
            count, waiting[-1] = count + waiting[-1], int(not is_cross)
    return count + sum(waiting)


def _judge_word(word: str, tokens: Sequence[Token], place: int, *, has_bracket: bool) -> None:
    following = [token.word for token in tokens[place + 1 : place + 3]]
    rule = _STATEMENT_WORDS.get(word)
    is_harmless = (word in _FUNCTION_TOO and has_bracket) or (
        word == "USE" and following[:1] in (["INDEX"], ["KEY"])
    )
    if rule is not None and not is_harmless:
        raise refused(rule, f"{word} cannot be part of a query.")
    if word == "FOR" and following[:1] in (["UPDATE"], ["SHARE"]):
        raise refused("no locks", "FOR UPDATE and FOR SHARE lock rows. Leave them out.")
    if word in {"NEXT", "PREVIOUS"} and following == ["VALUE", "FOR"]:
        raise refused("functions", "sequences are not advanced.")


def _judge_call(
    token: Token, before: Token | None, tokens: Sequence[Token], place: int, *, is_qualified: bool
) -> None:
    """Judge a name before a bracket."""
    if is_qualified:
        raise refused(
            "functions",
            f"….{token.text}() is a function of a database, and only the server's own can be "
            "called. Express it in the query.",
        )
    if token.word in WORDS_BEFORE_BRACKETS or token.name in ALLOWED:
        return
    if before is not None and before.word == "AS":  # the columns of a named subquery
        return
    if _is_named_query(tokens, place):
        return
    hint = SUGGESTIONS.get(token.name, "Use another function, or plain columns.")
    raise refused("functions", f"{token.text}() is not on the list of allowed functions. {hint}")


def _is_named_query(tokens: Sequence[Token], place: int) -> bool:
    """``name (column, …) AS (``, as it stands after WITH and nowhere else."""
    for end in range(place + 2, len(tokens)):
        if tokens[end].is_sign(")"):
            return (
                len(tokens) > end + 2
                and tokens[end + 1].word == "AS"
                and tokens[end + 2].is_sign("(")
            )
        if not tokens[end].name and not tokens[end].is_sign(","):
            return False
    return False


def _after_explain(tokens: Sequence[Token]) -> int:
    """How many tokens stand before the query that is explained."""
    if tokens[0].word not in {"EXPLAIN", "DESCRIBE", "DESC"}:
        return 0
    words = [token.word for token in tokens[1:4]]
    if words[:1] == ["FORMAT"]:
        if tokens[2].is_sign("=") and words[2:] and words[2] in _EXPLAIN_FORMATS:
            return 4
        raise refused("explain", "EXPLAIN FORMAT is JSON, TRADITIONAL or TREE.")
    if words[:1] in (["EXTENDED"], ["PARTITIONS"]):
        return 2
    return 1


def _judge_tree(text: str, tokens: Sequence[Token], *, is_values: bool) -> None:
    try:
        theirs = _DIALECT.tokenize(text)
        if not _agrees(text, tokens, theirs):
            raise refused("text", "the query can be read in more than one way.")
        if is_values:  # sqlglot takes them for a function, unless they are a table
            text = f"SELECT * FROM ({text}) AS v"  # noqa: S608 - only read, never sent
            theirs = _DIALECT.tokenize(text)
        trees = _DIALECT.parser().parse(theirs, text)
    except SqlglotError as error:
        raise ToolFailed(_syntax_error(error)) from error
    except RecursionError as error:
        raise refused("depth", "the query is nested too deeply. Split it with WITH.") from error
    if len(trees) != 1 or trees[0] is None:
        raise refused("one statement", "call the tool once for each statement.")
    root = trees[0]
    if not isinstance(root, (exp.Query, exp.Values)):
        raise refused("read only", "only queries are allowed.")
    for count, node in enumerate(root.walk(bfs=True)):
        if count > MAX_NODES:
            raise refused("size", "the query has too many parts.")
        _judge_node(node)


def _agrees(text: str, tokens: Sequence[Token], parsed: Sequence[sqlglot.Token]) -> bool:
    """Whether sqlglot sees the same quoted parts in the same places."""
    ours = [(token.start, token.end) for token in tokens if token.kind in {Kind.TEXT, Kind.QUOTED}]
    theirs = [
        # x'ff', b'1' and N'x' are one token there and two here.
        (token.start + (text[token.start] not in _QUOTES), token.end + 1)
        for token in parsed
        if text[token.end] in _QUOTES
    ]
    return ours == theirs


def _judge_node(node: exp.Expr) -> None:
    kind = type(node).__name__
    if isinstance(node, exp.Table):
        _judge_relation(node)
    elif isinstance(node, exp.Anonymous):
        if str(node.this).lower() not in ALLOWED:
            raise refused("functions", f"{node.this}() is not on the list of allowed functions.")
    elif isinstance(node, exp.Lock):
        raise refused("no locks", "a query cannot lock rows.")
    elif kind not in NODES and kind not in FUNCTIONS:
        raise _unknown_node(node, kind)


def _unknown_node(node: exp.Expr, kind: str) -> ToolRefused:
    if isinstance(node, (exp.Command, exp.DDL, exp.DML)):
        return refused("read only", f"{kind.upper()} may not be part of a query.")
    return refused("grammar", f"{kind} is not among the parts of SQL that can be used here.")


def _judge_relation(node: exp.Table) -> None:
    database = node.db.lower()
    if node.catalog:
        raise refused("relations", "name tables as database.table.")
    if database == "information_schema":
        if node.name.lower() not in READABLE_INFORMATION:
            raise refused("relations", f"information_schema.{node.name} is not readable here.")
    elif database in MYSQL_SYSTEM_DATABASES:
        raise refused("relations", f"{database} is the server's own and not readable here.")


def _syntax_error(error: SqlglotError) -> str:
    details = getattr(error, "errors", None) or [{}]
    first = details[0]
    words = str(first.get("description") or "The query could not be read")[:500].rstrip(".")
    near = f"{first.get('start_context', '')[-20:]}{first.get('highlight', '')}"
    return f"{words}, around: {near}".replace("\n", " ") if near else words
