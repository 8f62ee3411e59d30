"""Builds the page in ``frontend/`` once per content of its sources.

python -m embedded.page             # build it
python -m embedded.page check test  # run its npm scripts
"""

import asyncio
import fcntl
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM

from embedded.node import bin_folder
from embedded.processes import ROOT, Child, ChildEnded, Command

FRONTEND = ROOT / "frontend"
DIST = FRONTEND / "dist"
BUILT_FROM = DIST / ".built-from"
INSTALLED_FROM = FRONTEND / "node_modules" / ".installed-from"
NOT_SOURCES = {"node_modules", "dist", "coverage"}


def exists() -> bool:
    """Whether this checkout has a page."""
    return (FRONTEND / "package-lock.json").exists()


def _hash(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(FRONTEND)}\0{content}\n".encode())
    return digest.hexdigest()


def _sources() -> list[Path]:
    found = []
    for parent, folders, files in os.walk(FRONTEND):
        folders[:] = [name for name in folders if name not in NOT_SOURCES]
        found += [Path(parent, name) for name in files if not name.endswith(".tsbuildinfo")]
    return sorted(found)


def _stamped(stamp: Path, content: str) -> bool:
    return stamp.exists() and stamp.read_text() == content


def is_built() -> bool:
    """Whether the built page is the one of the sources as they are now."""
    return _stamped(BUILT_FROM, _hash(_sources()))


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """Two commands must not install or build at the same time."""
    lock = os.open(FRONTEND / "package-lock.json", os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield
    finally:
        os.close(lock)


class Npm:
    """Runs npm in ``frontend/``."""

    def __init__(self, bin_path: Path, hear: Callable[[str], None]) -> None:
        self._bin = bin_path
        self._hear = hear

    async def __call__(self, *arguments: str) -> None:
        """Run one npm command.

        Raises:
            ChildEnded: it failed.
        """
        env = {**os.environ, "PATH": f"{self._bin}{os.pathsep}{os.environ.get('PATH', '')}"}
        command = Command(
            name=f"npm {' '.join(arguments)}",
            argv=[str(self._bin / "npm"), *arguments],
            env=env,
            cwd=FRONTEND,
            umask=0o022,
            death_signal=SIGTERM,
            starts_others=True,
        )
        async with Child(command, self._hear) as child:
            await child.require_end()

    async def install(self) -> None:
        """Install what the lock names, unless that is what is there."""
        lock = _hash([FRONTEND / "package.json", FRONTEND / "package-lock.json"])
        if not _stamped(INSTALLED_FROM, lock):
            await self("ci", "--no-audit", "--no-fund", "--loglevel=error")
            INSTALLED_FROM.write_text(lock)


async def build(data_dir: Path, hear: Callable[[str], None]) -> None:
    """Build the page unless it is built.

    Raises:
        ChildEnded: Node.js or the packages could not be installed, or the build failed.
    """
    async with _alone():
        content = _hash(_sources())
        if _stamped(BUILT_FROM, content):
            return
        npm = Npm(await bin_folder(data_dir, hear), hear)
        await npm.install()
        await npm("run", "build", "--silent")
        BUILT_FROM.write_text(content)


async def run_scripts(data_dir: Path, hear: Callable[[str], None], scripts: Sequence[str]) -> None:
    """Run npm scripts, installing what they need.

    Raises:
        ChildEnded: one failed.
    """
    async with _alone():
        npm = Npm(await bin_folder(data_dir, hear), hear)
        await npm.install()
        for script in scripts:
            await npm("run", script)


async def _main(scripts: Sequence[str]) -> int:
    # Read here and not at the top: the stack has read them already.
    from store.settings import Settings

    if not exists():
        print("there is no page in frontend/ yet")
        return 0
    data_dir = Settings().data_dir.absolute()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if scripts:
            await run_scripts(data_dir, print, scripts)
        else:
            await build(data_dir, print)
    except ChildEnded as error:
        print(f"{error.name} failed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = asyncio.run(_main(sys.argv[1:]))
    sys.stdout.flush()
    os._exit(code)
