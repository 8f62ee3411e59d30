"""Pages of a query's result: a handle leads from one to the next.

A page runs the same query again and leaves out the rows of the pages before it, so nothing is held
open between two calls, and no snapshot is promised. A handle is good for the very query on the very
version of the datasource it was given out for; all that judges a query judges it for every page.
"""

import hashlib
import re
from typing import Any

from activities.tools.bounds import MAX_MODEL_BYTES, size
from activities.tools.sql.engine import QueryResult
from activities.tools.tool import Datasource, ToolContext, ToolRefused
from store.handles import BadHandle, ExpiredHandle

MAX_HANDLE_CHARS = 80
MAX_SKIPPED_ROWS = 10_000_000
_PURPOSE = "page"
_FORM = re.compile(r"(.+)\.(\d{1,8})")


def skipped(page: str | None, source: Datasource, query: str, context: ToolContext) -> int:
    """How many rows come before the page.

    Raises:
        ToolRefused: The handle was not given out for this.
    """
    if page is None:
        return 0
    parts = _FORM.fullmatch(page)
    handles = context.handles
    if parts is None or handles is None or int(parts[2]) > MAX_SKIPPED_ROWS:
        raise _refused("is none of ours")
    try:
        handles.check(parts[1], _PURPOSE, _subject(source, query))
    except ExpiredHandle as error:
        raise _refused("is too old") from error
    except BadHandle as error:
        raise _refused(
            "was not given out for this query on this datasource as it is now: repeat the query "
            "exactly as it was"
        ) from error
    return int(parts[2])


def paged(
    result: QueryResult, skip: int, source: Datasource, query: str, context: ToolContext
) -> dict[str, Any]:
    """The result as the protocol shows it, with the handle of the next page where there is one.

    ``page`` names this very page; where rows are left out for want of room (`bounds.shown`), the
    next one is made of it.
    """
    shown = result.as_json()
    if skip:
        shown["first_row"] = skip + 1
    more = result.more and bool(result.rows) and skip + len(result.rows) <= MAX_SKIPPED_ROWS
    if context.handles is None or not (more or size(shown) > MAX_MODEL_BYTES):
        return shown
    handle = context.handles.seal(_PURPOSE, _subject(source, query))
    shown["page"] = f"{handle}.{skip}"
    if more:
        shown["next"] = f"{handle}.{skip + len(result.rows)}"
        shown["note"] = (
            "There are more rows: call again with the same query and page set to next. Each page "
            "runs the query anew, so give it a complete ORDER BY; what changes meanwhile may be "
            "missed or seen twice."
        )
    return shown


def _subject(source: Datasource, query: str) -> list[str]:
    digest = hashlib.sha256(query.encode(errors="surrogatepass")).hexdigest()
    return [str(source.id), str(source.version), digest]


def _refused(what: str) -> ToolRefused:
    return ToolRefused(
        f"Refused by the rule 'page': the handle {what}. Leave page out to begin with the first "
        "rows."
    )
