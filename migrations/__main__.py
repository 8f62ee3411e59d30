"""``python -m migrations upgrade|downgrade|revision|current``: the schema, as the owning role."""

import argparse
import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError

from store.settings import Settings


def alembic_config(url: str, app_role: str) -> Config:
    """Alembic's configuration without an ini file.

    Args:
        url: ``postgresql+asyncpg://…`` of the role that owns the schema.
        app_role: Role that receives the application's grants.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    config.attributes["url"] = url
    config.attributes["app_role"] = app_role
    return config


def role_of(url: str) -> str:
    """User name in a database URL."""
    from sqlalchemy.engine import make_url

    return make_url(url).username or "everturn_app"


def main() -> int:
    """Run one Alembic command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m migrations")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, default in (("upgrade", "head"), ("downgrade", None)):
        sub = commands.add_parser(name)
        sub.add_argument("revision", nargs="?" if default else None, default=default)
    commands.add_parser("current")
    sub = commands.add_parser("revision")
    sub.add_argument("-m", "--message", required=True)
    arguments = parser.parse_args()

    settings = Settings()
    url = settings.migrations_database_url.get_secret_value()
    if not url:
        print(
            "EVERTURN_MIGRATIONS_DATABASE_URL is not set: give the URL of the role that owns the"
            " schema (postgresql+asyncpg://owner:…@host/everturn)",
            file=sys.stderr,
        )
        return 2
    config = alembic_config(url, role_of(settings.database_url.get_secret_value() or url))
    try:
        if arguments.command == "upgrade":
            command.upgrade(config, arguments.revision)
        elif arguments.command == "downgrade":
            command.downgrade(config, arguments.revision)
        elif arguments.command == "current":
            command.current(config, verbose=True)
        else:
            command.revision(config, message=arguments.message, autogenerate=True)
    except (CommandError, OSError) as exc:
        print(f"migrations: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
