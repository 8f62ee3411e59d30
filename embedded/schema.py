"""Whether the database has the newest schema, known without starting Alembic.

A warm start would wait most of a second for a process that finds nothing to do.
"""

import re
from pathlib import Path

import asyncpg

from embedded.processes import ROOT

VERSIONS = ROOT / "migrations" / "versions"
REVISION = re.compile(r'^(down_)?revision(?:: [^=]+)? = "([^"]+)"', re.MULTILINE)


def heads(versions: Path = VERSIONS) -> set[str]:
    """Revisions that no other builds upon."""
    revisions, built_upon = set[str](), set[str]()
    for file in versions.glob("*.py"):
        for is_down, name in REVISION.findall(file.read_text()):
            (built_upon if is_down else revisions).add(name)
    return revisions - built_upon


async def is_current(owner_dsn: str) -> bool:
    """Whether an upgrade would do nothing. In doubt no: an upgrade may always run."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        rows = await connection.fetch("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await connection.close()
    return {row["version_num"] for row in rows} == heads()
