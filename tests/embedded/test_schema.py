"""A warm start skips Alembic only when Alembic would do nothing."""

import os
import subprocess
import sys
from pathlib import Path

import asyncpg

from embedded import postgres, schema
from embedded.processes import ROOT
from embedded.roles import Postgres, for_sqlalchemy


def migrate(server: Postgres, *arguments: str) -> None:
    env = {
        **os.environ,
        "EVERTURN_MIGRATIONS_DATABASE_URL": for_sqlalchemy(server.owner_dsn),
        "EVERTURN_DATABASE_URL": for_sqlalchemy(server.app_dsn),
    }
    subprocess.run([sys.executable, "-m", "migrations", *arguments], cwd=ROOT, env=env, check=True)


async def test_only_the_newest_schema_is_current(tmp_path: Path) -> None:
    async with postgres.running(tmp_path) as server:
        assert not await schema.is_current(server.owner_dsn)
        migrate(server, "upgrade")
        assert await schema.is_current(server.owner_dsn)
        connection = await asyncpg.connect(server.owner_dsn)
        await connection.execute("UPDATE alembic_version SET version_num = 'older'")
        await connection.close()
        assert not await schema.is_current(server.owner_dsn)


def test_heads_are_what_nothing_builds_upon(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('revision = "1"\ndown_revision = None\n')
    (tmp_path / "b.py").write_text('revision: str = "2"\ndown_revision: str | None = "1"\n')
    assert schema.heads(tmp_path) == {"2"}
