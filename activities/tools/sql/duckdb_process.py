"""The process in which DuckDB runs: one query, then its end.

It gets its job and the files' descriptors over a socket and writes one answer to its output. It has
no environment, no other files, cannot write any, and has little memory: whatever a query makes
DuckDB do, it is done here, and can be ended from outside at any moment.
"""

import array
import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
from typing import Any

import duckdb

from activities.tools.sql import duckdb_guard, values

MEMORY = "256MB"  # up to eight of a tenant run at once
MOST_MEMORY_BYTES = 4 * 1024**3
THREADS = 2
MAX_FILES = 128
_HEADER = struct.Struct("!II")  # bytes of the job, number of descriptors
_PARENT_DIED = 1  # PR_SET_PDEATHSIG

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY,
    "threads": THREADS,
    "temp_directory": "",
    "max_temp_directory_size": "0B",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    "allow_persistent_secrets": False,
    "enable_external_file_cache": False,
}
_READERS = {"csv": "read_csv", "json": "read_json", "parquet": "read_parquet"}
_NATIVE = frozenset(
    """BOOLEAN TINYINT SMALLINT INTEGER BIGINT UTINYINT USMALLINT UINTEGER UBIGINT HUGEINT UHUGEINT
    FLOAT DOUBLE VARCHAR BLOB""".split()  # noqa: SIM905
)
# The query itself, which is judged: neither ANALYZE, which runs it, nor options.
_EXPLAIN = re.compile(
    r"\s*EXPLAIN\s+(?=(?:\(\s*)*(?:SELECT|WITH|FROM|VALUES|TABLE)\b)", re.IGNORECASE
)
_NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")


def _limit_myself() -> None:
    ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
    for what, most in (
        (resource.RLIMIT_AS, MOST_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
    ):
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _receive(channel: socket.socket) -> dict[str, Any] | None:
    """The job, with `descriptor` of each file now one of this process; None without one."""
    room = socket.CMSG_SPACE(MAX_FILES * array.array("i").itemsize)
    header, ancillary, _, _ = channel.recvmsg(_HEADER.size, room)
    if len(header) < _HEADER.size:
        return None
    size, count = _HEADER.unpack(header)
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    text = b""
    while len(text) < size:
        piece = channel.recv(size - len(text))
        if not piece:
            return None
        text += piece
    job: dict[str, Any] = json.loads(text)
    if len(descriptors) != count or len(job["files"]) != count:
        return None
    for file, descriptor in zip(job["files"], descriptors, strict=True):
        file["path"] = f"/proc/self/fd/{descriptor}"
    return job


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def open_files(files: list[dict[str, str]]) -> duckdb.DuckDBPyConnection:
    """A database that sees these files, and nothing else from now on."""
    connection = duckdb.connect(":memory:", config=_SETTINGS)
    for statement in ("SET python_enable_replacements = false", "SET TimeZone = 'UTC'"):
        connection.execute(statement)
    for file in files:
        path = _literal(file["path"])
        if file["format"] == "duckdb":
            connection.execute(f"ATTACH {path} AS data (READ_ONLY)")
            connection.execute("USE data")
            continue
        options = f", compression = {_literal(file['compression'])}" if file["compression"] else ""
        connection.execute(
            f"CREATE VIEW {_name(file['table'])} AS"  # noqa: S608
            f" SELECT * FROM {_READERS[file['format']]}({path}{options})"
        )
    paths = ", ".join(_literal(file["path"]) for file in files)
    for statement in (
        f"SET allowed_paths = [{paths}]",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)
    return connection


def _judged(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[str, bool]:
    """The query that may run, and whether it is EXPLAIN."""
    statements = connection.extract_statements(query)
    if not statements:
        raise duckdb_guard.Unreadable("The query is empty.")
    if len(statements) > 1:
        raise duckdb_guard.Refused("one statement", "call the tool once for each statement.")
    (statement,) = statements
    text = statement.query
    explain = statement.type is duckdb.StatementType.EXPLAIN
    judged = text
    if explain:
        found = _EXPLAIN.match(text)
        if found is None:
            raise duckdb_guard.Refused("explain", "write EXPLAIN and then the query, no options.")
        judged = text[found.end() :]
    if statement.type not in {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}:
        raise duckdb_guard.Refused(
            "read only", "only queries are allowed: SELECT, WITH … SELECT, FROM, VALUES, EXPLAIN."
        )
    row = connection.execute("SELECT json_serialize_sql(?)", [judged]).fetchone()
    duckdb_guard.judge(row[0] if row else "{}")
    return text, explain


def _form(kind: str) -> tuple[str, str]:
    """How a column of this type is asked for, and what its value then is."""
    if kind in _NATIVE or kind.startswith("DECIMAL"):
        return "{}", "native"
    if kind.endswith("]") or kind.startswith(_NESTED):
        return "CAST(to_json({}) AS VARCHAR)", "json"
    if kind == "JSON":
        return "CAST({} AS VARCHAR)", "json"
    if kind.startswith("TIMESTAMP"):
        return "CAST({} AS VARCHAR)", "timestamp"
    return "CAST({} AS VARCHAR)", "native"


def _value(value: Any, form: str) -> Any:
    if value is None or form == "native":
        return value
    if form == "json":
        return values.from_json(value) if len(value) <= values.CELL_BYTES else value
    # 2024-05-06 07:08:09+00, infinity
    text = str(value).replace(" ", "T", 1) if str(value)[:1].isdigit() else str(value)
    return text + ":00" if text[-3:-2] in {"+", "-"} and "T" in text[:-3] else text


def run(connection: duckdb.DuckDBPyConnection, query: str, skip: int) -> dict[str, Any]:
    """Run a query once it was judged; its first `skip` rows are left out."""
    text, explain = _judged(connection, query)
    rows = values.Rows(skip=skip if explain else 0)
    if explain:
        found = connection.execute(text)
        described = [(str(column[0]), "VARCHAR") for column in found.description or ()]
        forms = ["native"] * len(described)
    else:
        # The closing semicolon is not part of what is put into brackets.
        text = text.rstrip().removesuffix(";")
        described = [
            (str(row[0]), str(row[1])) for row in connection.execute(f"DESCRIBE\n{text}").fetchall()
        ]
        asked = [_form(kind) for _, kind in described]
        forms = [form for _, form in asked]
        columns = ", ".join(
            expression.format(f"q.c{number}") for number, (expression, _) in enumerate(asked)
        )
        aliases = ", ".join(f"c{number}" for number in range(len(described)))
        found = connection.execute(
            f"SELECT {columns} FROM (\n{text}\n) AS q({aliases})"  # noqa: S608
            f" LIMIT {values.MAX_ROWS + 1} OFFSET {skip:d}"
        )
    while batch := found.fetchmany(100):
        if not all(
            rows.add([_value(value, form) for value, form in zip(row, forms, strict=True)])
            for row in batch
        ):
            break
    return {
        "columns": [{"name": name, "type": kind.lower()} for name, kind in described],
        "rows": rows.rows,
        "truncated": rows.truncated,
        "more": rows.more,
    }


def describe(connection: duckdb.DuckDBPyConnection, most: int) -> dict[str, Any]:
    """Tables and views with their columns."""
    found = connection.execute(
        "SELECT schema_name, name, estimated_size FROM ("
        " SELECT schema_name, table_name AS name, estimated_size, database_name, internal"
        " FROM duckdb_tables() UNION ALL"
        " SELECT schema_name, view_name, NULL, database_name, internal FROM duckdb_views()"
        ") WHERE NOT internal AND database_name = current_database() ORDER BY 1, 2 LIMIT ?",
        [most],
    ).fetchall()
    tables = []
    for schema, name, size in found:
        quoted = _name(name) if schema == "main" else f"{_name(schema)}.{_name(name)}"
        columns: list[dict[str, Any]] = []
        with contextlib.suppress(duckdb.Error):  # a view whose tables are gone
            columns = [
                {"name": row[0], "type": str(row[1]).lower(), "nullable": row[2] == "YES"}
                for row in connection.execute(f"DESCRIBE {quoted}").fetchall()
            ]
        tables.append(
            {"schema": schema, "name": name, "quoted": quoted, "size": size, "columns": columns}
        )
    keys = connection.execute(
        "SELECT schema_name, table_name, constraint_type, constraint_column_names,"
        " referenced_table, referenced_column_names FROM duckdb_constraints()"
        " WHERE database_name = current_database()"
        " AND constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY')"
    ).fetchall()
    return {"tables": tables, "keys": keys}


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        connection = open_files(job["files"])
        if "query" in job:
            return run(connection, job["query"], job["skip"])
        return describe(connection, job["most"])
    except duckdb_guard.Refused as error:
        return {"error": "refused", "message": str(error)}
    except duckdb_guard.Unreadable as error:
        return {"error": "failed", "message": str(error)}
    except (duckdb.OutOfMemoryException, MemoryError):
        return {"error": "too_large", "message": ""}
    except duckdb.PermissionException as error:
        return {"error": "refused", "message": f"Refused by the rule 'files': {error}"}
    except duckdb.Error as error:
        return {"error": "failed", "message": str(error)}


def main() -> None:
    """Wait for a job on the socket of descriptor 0."""
    _limit_myself()
    channel = socket.socket(fileno=os.dup(0))
    channel.sendall(b"\1")  # ready
    job = _receive(channel)
    if job is None:
        return
    sys.stdout.buffer.write(json.dumps(_answer(job), ensure_ascii=True).encode())
    sys.stdout.flush()
    os._exit(0)  # nothing of DuckDB is worth being cleaned up
