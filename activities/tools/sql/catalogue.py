"""What the names in a query mean in this database, where the text alone does not tell.

PostgreSQL calls functions that no call in the text shows: ``t.x`` and ``(expression).x`` are calls
where there is no column x, an operator or an overload from the user's schema may fit better than
the built-in one, a cast runs the type's checks, a view runs what its author wrote, a foreign table
reaches another server. Each name is looked up, in the transaction that then runs the query, and
refused if it leads to code that is not PostgreSQL's own or a pure extension's. What a view or an
operator calls was chosen by the database's owner, so there it is enough that it cannot write: it is
declared STABLE or IMMUTABLE.
"""

from collections.abc import Iterable

import asyncpg

from activities.tools.sql import functions
from activities.tools.sql.guard import Name, Names, check_view, refused
from activities.tools.tool import ToolFailed, ToolRefused

# Extensions whose functions and operators compute from their arguments alone.
PURE_EXTENSIONS = (
    "btree_gin", "btree_gist", "citext", "cube", "earthdistance", "fuzzystrmatch", "hstore",
    "intarray", "isn", "ltree", "pg_trgm", "pgcrypto", "postgis", "seg", "unaccent", "uuid-ossp",
    "vector",
)  # fmt: skip
MAX_VIEWS = 100
MAX_VIEW_DEPTH = 10

# Implied by IN, BETWEEN, USING, DISTINCT, ORDER BY and their like.
_IMPLIED_OPERATORS = {"=", "<>", "<", "<=", ">", ">="}


def _pure(catalogue: str, *oids: str) -> str:
    """Whether an object belongs to a pure extension."""
    return f"""EXISTS (
        SELECT FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.{catalogue}'::pg_catalog.regclass
          AND d.objid IN ({", ".join(oids)})
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND d.deptype = 'e' AND e.extname = ANY($9::name[])
    )"""


# Every comparison has exactly the types of one of PostgreSQL's own operators, which stand first in
# the search path, so that an operator of the user's schema is never chosen here.
_LOOKUP = f"""
WITH path AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname = ANY(pg_catalog.current_schemas(false))
), system AS (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema')
), wanted_relations AS (
    SELECT DISTINCT c.oid, c.relkind, c.relnamespace, n.nspname, c.relname
    FROM ROWS FROM (pg_catalog.unnest($5::name[]), pg_catalog.unnest($6::name[])) AS w(schema, name)
    JOIN pg_catalog.pg_class AS c ON c.relname = w.name
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = w.schema OR (w.schema IS NULL AND n.oid IN (SELECT oid FROM path))
), parts AS (
    WITH RECURSIVE descent(root, oid) AS (
        SELECT oid, oid FROM wanted_relations
        UNION
        SELECT p.root, i.inhrelid FROM descent AS p
        JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.oid
    ) SELECT root, oid FROM descent
)
SELECT 'overload' AS kind, n.nspname::text AS schema, p.proname::text AS name, NULL::text AS detail
FROM pg_catalog.pg_proc AS p JOIN path AS n ON n.oid = p.pronamespace
WHERE p.proname = ANY($1::name[]) AND p.pronamespace NOT IN (SELECT oid FROM system)
  AND NOT {_pure("pg_proc", "p.oid")}
UNION ALL
SELECT 'attribute', n.nspname::text, p.proname::text, NULL
FROM pg_catalog.pg_proc AS p JOIN path AS n ON n.oid = p.pronamespace
WHERE p.proname = ANY($2::name[]) AND p.pronargs >= 1
  AND (p.pronargs - p.pronargdefaults <= 1 OR p.provariadic <> 0::oid)
  AND CASE WHEN p.pronamespace IN (SELECT oid FROM system)
      THEN p.provolatile <> 'i' AND NOT p.proname = ANY($8::name[])
      ELSE NOT {_pure("pg_proc", "p.oid")} END
UNION ALL
SELECT 'operator', n.nspname::text, o.oprname::text, NULL
FROM pg_catalog.pg_operator AS o JOIN path AS n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode::oid AND p.provolatile = 'v'
WHERE o.oprname = ANY($3::name[]) AND o.oprnamespace NOT IN (SELECT oid FROM system)
  AND NOT {_pure("pg_operator", "o.oid")}
UNION ALL
SELECT 'type', n.nspname::text, t.typname::text, NULL
FROM ROWS FROM (pg_catalog.unnest($4::name[]), pg_catalog.unnest($7::name[])) AS w(schema, name)
JOIN pg_catalog.pg_type AS t ON t.typname = w.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type AS element ON element.oid = t.typelem
WHERE t.typnamespace NOT IN (SELECT oid FROM system)
  AND (n.nspname = w.schema OR (
      w.schema IS NULL AND n.oid IN (SELECT oid FROM path)
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_type AS b
          WHERE b.typname = w.name AND b.typnamespace IN (SELECT oid FROM system)
      )
  ))
  AND NOT {_pure("pg_type", "t.oid", "t.typelem")}
  AND (
      coalesce(element.typtype, t.typtype) <> 'e'
      OR EXISTS (
          SELECT FROM pg_catalog.pg_cast AS c
          WHERE t.oid IN (c.castsource, c.casttarget) AND c.castfunc <> 0::oid
      )
  )
UNION ALL
-- Casts that are applied unasked, those asked for, and those that to_json looks for.
SELECT 'cast', NULL, pg_catalog.format_type(c.castsource, NULL), pg_catalog.format_type(t.oid, NULL)
FROM pg_catalog.pg_cast AS c
JOIN pg_catalog.pg_proc AS p ON p.oid = c.castfunc AND p.provolatile = 'v'
JOIN pg_catalog.pg_type AS t ON t.oid = c.casttarget
WHERE p.pronamespace NOT IN (SELECT oid FROM system)
  AND (c.castcontext = 'i' OR t.typname = ANY($7::name[]) OR t.typname IN ('json', 'jsonb'))
  AND NOT {_pure("pg_proc", "p.oid")}
UNION ALL
SELECT 'foreign', r.nspname::text, r.relname::text, NULL
FROM wanted_relations AS r WHERE EXISTS (
    SELECT FROM parts AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.oid
    WHERE p.root = r.oid AND c.relkind = 'f'
)
UNION ALL
SELECT 'view', r.nspname::text, r.relname::text, pg_catalog.pg_get_viewdef(r.oid)
FROM wanted_relations AS r
WHERE r.relkind = 'v' AND r.relnamespace NOT IN (SELECT oid FROM system)
"""  # noqa: S608 - our own constants

# A function of a view: by name, since the definition's text does not tell overloads apart.
_CALLED = """
SELECT n.nspname::text AS schema, p.proname::text AS name
FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[])) AS w(schema, name)
JOIN pg_catalog.pg_proc AS p ON p.proname = w.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.provolatile = 'v'
  AND (
      n.nspname = w.schema OR (
          w.schema IS NULL AND n.nspname = ANY(pg_catalog.current_schemas(false))
      )
  )
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend AS d
      JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        AND d.deptype = 'e' AND e.extname = ANY($3::name[])
  )
"""


async def resolve(connection: asyncpg.Connection, names: Names) -> None:
    """Look every name up; within the query's transaction, with its search path set.

    Raises:
        ToolRefused: A name leads to code or data that is not for a query; names the rule.
    """
    views = await _look_up(connection, names)
    seen = set(views)
    for _ in range(MAX_VIEW_DEPTH):
        if not views:
            return
        inner = Names()
        for name, definition in views.items():
            _merge(inner, _judge_view(name, definition))
        await _judge_called(connection, inner.called)
        views = {
            name: definition
            for name, definition in (await _look_up(connection, inner)).items()
            if name not in seen
        }
        seen |= set(views)
        if len(seen) > MAX_VIEWS:
            break
    raise refused("views", f"its views rest on more than {MAX_VIEWS} others, or too deeply.")


def _judge_view(name: Name, definition: str) -> Names:
    try:
        return check_view(definition)
    except (ToolRefused, ToolFailed) as error:
        raise refused(
            "views", f"the view {name[0]}.{name[1]} does what a query may not. {error.message}"
        ) from error


def _merge(into: Names, names: Names) -> None:
    into.functions |= names.functions
    into.called |= names.called
    into.operators |= names.operators
    into.relations |= names.relations


def _split(names: Iterable[Name]) -> tuple[list[str | None], list[str]]:
    ordered = sorted(names, key=lambda name: (name[0] or "", name[1]))
    return [schema for schema, _ in ordered], [name for _, name in ordered]


async def _look_up(connection: asyncpg.Connection, names: Names) -> dict[Name, str]:
    type_schemas, types = _split(names.types)
    relation_schemas, relations = _split(names.relations)
    rows = await connection.fetch(
        _LOOKUP,
        sorted(names.functions),
        sorted(names.attributes),
        sorted(names.operators | _IMPLIED_OPERATORS),
        type_schemas,
        relation_schemas,
        relations,
        types,
        sorted(functions.ALLOWED),
        list(PURE_EXTENSIONS),
    )
    views: dict[Name, str] = {}
    for row in rows:
        name = f"{row['schema']}.{row['name']}"
        match row["kind"]:
            case "overload":
                raise refused(
                    "functions",
                    f"this database has a function {name}() of its own beside PostgreSQL's. "
                    f"Write pg_catalog.{row['name']}(…).",
                )
            case "attribute":
                raise refused(
                    "functions",
                    f"in `….{row['name']}` PostgreSQL may call the function {name}(). If a "
                    "column is meant, write it without what stands before the dot.",
                )
            case "operator":
                raise refused(
                    "operators",
                    f"this database's own operator {row['name']} may change something. If it "
                    "only computes, its owner can declare its function IMMUTABLE.",
                )
            case "type":
                raise refused(
                    "types",
                    f"casting to {name} may run code of this database. Only PostgreSQL's own "
                    "types and enums can be cast to; compare as text instead.",
                )
            case "cast":
                raise refused(
                    "types",
                    f"casting {row['name']} to {row['detail']} runs a function of this database "
                    "that may change something. If it only computes, its owner can declare it "
                    "IMMUTABLE.",
                )
            case "foreign":
                raise refused(
                    "relations",
                    f"{name} lies on another server. Add that server as a datasource of its own.",
                )
            case "view":
                views[row["schema"], row["name"]] = row["detail"]
            case _:
                continue
    return views


async def _judge_called(connection: asyncpg.Connection, called: set[Name]) -> None:
    if not called:
        return
    row = await connection.fetchrow(_CALLED, *_split(called), list(PURE_EXTENSIONS))
    if row is not None:
        raise refused(
            "views",
            f"a view calls {row['schema']}.{row['name']}(), which may change something. If it "
            "only reads, its owner can declare it STABLE.",
        )
