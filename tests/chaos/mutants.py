"""Does the suite bite? Twelve deliberate faults in a copy of the code; it must catch them.

A mutant is a handful of exact replacements. It is applied to a copy of the tree, and what is meant
to catch it (a scenario, or a few tests) runs there; the original of the same command passes in CI.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded.processes import ROOT

COPIED = (
    "workflows", "store", "activities", "api", "worker", "embedded", "migrations", "tests",
    "bench", "pyproject.toml", "docs", "docker-compose.yml", "deploy",
)  # fmt: skip
# The suite needs at least so many of the twelve to be worth its time.
LEAST_CAUGHT = 11
TIMEOUT_SECONDS = 420


@dataclass(frozen=True)
class Change:
    """One replacement; `old` stands exactly once in the file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A fault somebody might really make.

    Attributes:
        command: Arguments of ``python -m`` that must fail with it.
    """

    name: str
    fault: str
    changes: Sequence[Change]
    command: Sequence[str]


def _chaos(*sets: str) -> list[str]:
    return ["tests.chaos", "--no-shrink", "--sets", ",".join(sets)]


MUTANTS: Sequence[Mutant] = (
    Mutant(
        "m1", "the same client_message_id is stored again",
        [
            Change("store/turns.py",
                   "        if earlier is not None:\n            return earlier\n",
                   "        client_message_id = f'{client_message_id}-{uuid4()}'\n"),
        ],
        _chaos("H"),
    ),
    Mutant(
        "m2", "a turn's run may be started again after its end",
        [
            Change("store/runs.py", "id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE",
                   "id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE"),
        ],
        _chaos("H"),
    ),
    Mutant(
        "m3", "a new attempt continues the old epoch",
        [
            Change("store/steps.py", "        message.epoch += 1\n",
                   "        message.epoch = max(message.epoch, 1)\n"),
        ],
        _chaos("A", "F"),
    ),
    Mutant(
        "m4", "the final event is believed without its hash",
        [
            Change("tests/client.py", 'if sha256(held.text) != data["sha256"]:', "if False:"),
        ],
        ["tests", "tests/vectors", "-q", "-x"],
    ),
    Mutant(
        "m5", "the LISTEN connection is never opened again",
        [
            Change("store/postgres_bus.py", "            attempt += 1\n",
                   "            await asyncio.Event().wait()\n"),
        ],
        _chaos("E"),
    ),
    Mutant(
        "m6", "the effect comes before its claim is committed",
        [
            Change("activities/tools/executor.py",
                   "        row.execution_status = ToolStatus.EXECUTING\n",
                   "        await tool.run(arguments, ToolContext(row.tenant_id, turn.project_id,"
                   " row.id, 1, '', tool.deadline, None))\n"
                   "        row.execution_status = ToolStatus.EXECUTING\n"),
        ],
        _chaos("A", "AK"),
    ),
    Mutant(
        "m7", "an effect of class once is simply retried",
        [
            Change("activities/tools/executor.py", "            if row.effect == Effect.ONCE:\n",
                   "            if row.effect == 'never':\n"),
        ],
        _chaos("AK"),
    ),
    Mutant(
        "m8", "a socket joins a room without being a member",
        [
            Change("api/rooms.py", "access.check(role, Role.VIEWER)", "pass"),
        ],
        _chaos("L"),
    ),
    Mutant(
        "m9", "the project in the frame is believed",
        [
            Change("store/turns.py",
                   "    if project_id is not None and project_id != conversation.project_id:\n"
                   "        raise NotFound\n", ""),
            Change("store/turns.py", "await asking(session, principal, conversation)",
                   "await asking(session, principal, conversation, project_id)"),
            Change("store/asking.py", "conversation: Conversation) -> Asking:",
                   "conversation: Conversation, project_id: object = None) -> Asking:"),
            Change("store/asking.py",
                   "access.role_column(principal.user_id, conversation.project_id)",
                   "access.role_column(principal.user_id, project_id or conversation.project_id)"),
        ],
        _chaos("L"),
    ),
    Mutant(
        "m10", "a socket's queue has no end",
        [
            Change("api/ws.py", "MAX_QUEUED_BYTES = 1024 * 1024", "MAX_QUEUED_BYTES = 1024**4"),
            Change("api/ws.py", "MAX_QUEUED_FRAMES = 1_000", "MAX_QUEUED_FRAMES = 10**9"),
        ],
        _chaos("G"),
    ),
    Mutant(
        "m11", "a tool's result travels through Temporal",
        [
            Change("activities/tools/executor.py", "            return ToolRunResult(status)\n",
                   "            return ToolRunResult(f'{status} {outcome.result}')\n"),
        ],
        ["tests", "tests/limits/test_giants.py", "-q", "-x"],
    ),
    Mutant(
        "m12", "an activity is added to the workflow without a patch",
        [
            Change("workflows/turn.py", "            status, code = await self._loop(first)\n",
                   "            await self._generate(1)\n            status, code ="
                   " await self._loop(first)\n"),
        ],
        _chaos("J"),
    ),
)  # fmt: skip


async def hunt(names: Sequence[str], seed: int) -> int:
    """Apply mutants one after another; returns the exit code."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no such mutant: {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = [known[name] for name in names] or list(MUTANTS)
    caught = []
    print("| mutant | what was broken | caught by | caught | how it showed |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for mutant in wanted:
        how = await _tried(mutant, seed)
        caught += [mutant.name] if how else []
        print(
            f"| {mutant.name} | {mutant.fault} | `{' '.join(mutant.command)}` |"
            f" {'yes' if how else '**no**'} | {how or ''} |", flush=True,
        )  # fmt: skip
    missed = len(wanted) - len(caught)
    print(f"{len(caught)} of {len(wanted)} mutants caught")
    enough = missed <= len(MUTANTS) - LEAST_CAUGHT
    print(f"{len(caught)} passed, {missed} failed", flush=True)
    return 0 if enough else 1


async def _tried(mutant: Mutant, seed: int) -> str:
    """Run what should catch it on a broken copy; the first words of how it did, or nothing."""
    with tempfile.TemporaryDirectory(prefix=f"mutant-{mutant.name}-") as name:
        copy = Path(name)
        for item in COPIED:
            source = ROOT / item
            if source.is_dir():
                shutil.copytree(source, copy / item, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / item)
        for change in mutant.changes:
            _apply(copy / change.path, change)
        command = [*mutant.command]
        if command[0] == "tests.chaos":
            command += ["--seed", str(seed)]
        code, output = await _run(command, copy)
    sign = _first_sign(output)
    if code and not sign:
        # It broke before it could notice anything: that is no catch.
        print(output[-2_000:], file=sys.stderr)
    return sign if code else ""


def _apply(path: Path, change: Change) -> None:
    source = path.read_text()
    if source.count(change.old) != 1:
        raise SystemExit(f"{change.path}: {change.old[:60]!r} stands there not exactly once")
    path.write_text(source.replace(change.old, change.new))


async def _run(command: Sequence[str], cwd: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, cwd=cwd, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            output = (await process.stdout.read()).decode(errors="replace")
            return await process.wait(), output
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        return 1, f"E   it was still running after {TIMEOUT_SECONDS} s"


def _first_sign(output: str) -> str:
    signs = ("  I", "  scenario:", "FAILED tests", "E   ")
    for line in output.splitlines():
        if line.startswith(signs):
            return line.strip().replace("|", "/")[:140]
    return ""
