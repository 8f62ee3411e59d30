"""Becomes one child of the stack: ends with its parent, and is not root where root is refused.

Runs as a script of its own (``python -I -S launch.py``) between ``fork`` and the real program,
because the kernel forgets a parent-death signal whenever credentials change: it has to be set
last. The process keeps its pid, so whoever started it supervises the real program.

Limits: Linux only. Elsewhere the program starts without the tie to its parent.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 1 << 2
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CLONE_NEWUSER = 0x10000000
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
NOBODY = 65534
CANNOT_START = 127

PROBE = """
import os, sys
folder, program = sys.argv[1:]
probe = os.path.join(folder, ".probe")
os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o600))
os.unlink(probe)
for stream in (1, 2):
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
sys.exit(not os.access(program, os.X_OK) or os.spawnv(os.P_WAIT, program, [program, "--version"]))
"""


def _libc(name: str, *args: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*args) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")


def tie_to_parent(parent: int, death_signal: int) -> None:
    """Ask the kernel to send ``death_signal`` to this process when ``parent`` ends."""
    if not sys.platform.startswith("linux"):
        return
    _libc("prctl", PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def _own(folder: Path, uid: int, gid: int) -> None:
    """Hand ``folder`` over."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid)


def enter_user_namespace(folder: Path) -> None:
    """Be "nobody" within a user namespace and root's own account without powers outside it."""
    if folder.stat().st_uid != 0:
        raise PermissionError(f"{folder} belongs to someone else")
    uid, gid = os.geteuid(), os.getegid()
    _libc("unshare", CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def become_owner(folder: Path) -> None:
    """Be the folder's owner, able to read the way to programs and data below root's folders.

    A folder of root's own becomes that of the account "nobody".
    """
    uid, gid = folder.stat().st_uid, folder.stat().st_gid
    if uid == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        _own(folder, uid, gid)
    # Without it access(2), which PostgreSQL asks for its own programs, disregards capabilities.
    _libc("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()
    _libc("capget", header, held)
    wanted = held[1] & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    _libc("capset", header, (ctypes.c_uint32 * 6)(wanted, wanted, wanted, 0, 0, 0))
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if wanted & 1 << capability:
            _libc("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


IDENTITIES: dict[str, Callable[[Path], None]] = {
    "namespace": enter_user_namespace,
    "owner": become_owner,
}


def _works(become: Callable[[Path], None], folder: Path, program: str) -> bool:
    """Whether a process with this identity can own ``folder`` and run ``program``; tried in one."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        become(folder)
        # Tried in a program of its own: what is left of our powers shows only after an exec.
        os.execv(  # noqa: S606 - our own interpreter
            sys.executable, [sys.executable, "-I", "-S", "-c", PROBE, str(folder), program]
        )
    except OSError:
        os._exit(1)


def lose_root(folder: Path, program: str) -> None:
    """Give up root for the first identity that works on this machine.

    Raises:
        PermissionError: none does.
    """
    if os.geteuid() != 0:
        return
    allowed = os.environ.get("EVERTURN_UNPRIVILEGED_AS", " ".join(IDENTITIES)).split()
    for name in allowed:
        if _works(IDENTITIES[name], folder, program):
            IDENTITIES[name](folder)
            return
    raise PermissionError("it may not run as root, and no other identity works here")


def stand_over(argv: list[str]) -> NoReturn:
    """Run a program that starts others, such as npm, and end them all when told to end.

    They are in this process's group, and they may not pass on a signal as they should.
    """
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    _, status = os.waitpid(os.spawnvp(os.P_NOWAIT, argv[0], argv), 0)  # noqa: S606
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


def main() -> None:
    """``launch.py HOW PARENT SIGNAL FOLDER PROGRAM [ARGUMENT …]``.

    HOW is "become" or "stand-over"; an empty FOLDER keeps root.
    """
    how, parent, death_signal, folder, *argv = sys.argv[1:]
    try:
        if folder:
            lose_root(Path(folder), argv[0])
        tie_to_parent(int(parent), int(death_signal))
        if how == "stand-over":
            stand_over(argv)
        # Python ignores these two, and an ignored signal stays ignored in the next program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 - this is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error}\n")
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main()
