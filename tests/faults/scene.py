"""What the fault tests share: a system that can be hurt, healed and audited."""

import asyncio
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from embedded.processes import Child
from tests.client import RoomClient, essence, fetch
from tests.system import System, Team, checked


@dataclass
class Scene:
    """One system, one tenant, and a project for each test."""

    system: System
    team: Team
    sink: Path
    acked: list[str] = field(default_factory=list)

    # --- people and processes -------------------------------------------------------------------

    async def fresh_project(self) -> None:
        self.team = await self.team.elsewhere()
        self.acked.clear()

    async def allow(self, tool: str) -> None:
        rules = {"items": [{"tool": tool, "policy": "allow"}]}
        checked(await self.team.admin.put("/api/admin/tool-policies", json=rules))

    async def hire(self, *queues: str) -> Child:
        """Start another worker, of all queues or of some."""
        worker = await self.system.start_worker(
            *queues, module="tests.faults.worker", EVERTURN_TEST_SINK=str(self.sink)
        )
        self.system.workers.append(worker)
        return worker

    async def kill(self, child: Child) -> None:
        await self.system.kill(child)
        if child in self.system.workers:
            self.system.workers.remove(child)

    def send(self, child: Child, signum: signal.Signals) -> None:
        os.kill(child.pid, signum)

    async def heal(self) -> None:
        """Bring back whatever is down."""
        system = self.system
        if system.postgres_child is not None and not system.postgres_child.alive:
            await system.start_postgres()
        if system.temporal_child is not None and not system.temporal_child.alive:
            await system.start_temporal()
        for number, edge in enumerate(system.edges):
            if not edge.child.alive:
                system.edges[number] = await system.start_edge(edge.port)
        for worker in system.workers:
            if worker.alive:
                self.send(worker, signal.SIGCONT)
        system.workers = [worker for worker in system.workers if worker.alive]
        if not system.workers:
            await self.hire()
        for extra in system.workers[1:]:
            await self.kill(extra)

    # --- turns ----------------------------------------------------------------------------------

    async def ask(self, room: RoomClient, content: str, conversation: str = "") -> str:
        """Ask in a conversation, a new one by default; the id of the turn."""
        conversation = conversation or await self.team.conversation()
        ack = await room.ask(conversation, content)
        assert ack["type"] == "ack", ack
        self.acked.append(ack["data"]["message_id"])
        return str(ack["data"]["turn_id"])

    async def effects(self, line: str) -> None:
        """Wait until the outside has seen an effect."""

        async def seen() -> bool:
            return line in self.sink.read_text().splitlines()

        await self.system.until(seen)

    def counted(self) -> Counter[str]:
        """Effects by tool and key, as the outside counted them."""
        return Counter(line.rpartition(" ")[0] for line in self.sink.read_text().splitlines())

    async def answer(self, turn_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A turn and its assistant messages, as REST shows them."""
        turn = checked(await self.team.ada.get(f"/api/turns/{turn_id}"))
        path = f"/api/conversations/{turn['conversation_id']}/messages?limit=200"
        page = checked(await self.team.ada.get(path))
        return turn, [
            m for m in page["items"] if m["turn_id"] == turn_id and m["role"] == "assistant"
        ]

    async def execution(self, turn_id: str) -> dict[str, Any]:
        """The one tool execution of a turn."""
        _, messages = await self.answer(turn_id)
        (execution,) = [e for m in messages for e in m["tool_executions"]]
        return dict(execution)

    # --- the audit ------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """The invariants that hold at every quiet moment, whatever was killed."""
        system, project = self.system, UUID(self.team.project_id)

        async def quiet() -> bool:
            rows = await system.sql(
                "SELECT count(*) FROM turns WHERE project_id = $1"
                " AND status IN ('queued', 'running', 'awaiting_approval')", project,
            )  # fmt: skip
            return rows[0][0] == 0

        await system.until(quiet, timeout=40)
        # Every message that was acked is there, once, with one turn.
        stored = await system.sql(
            "SELECT m.id::text, count(t.id) FROM messages m JOIN turns t ON t.message_id = m.id"
            " WHERE t.project_id = $1 GROUP BY m.id", project,
        )  # fmt: skip
        assert {row[0] for row in stored} >= set(self.acked)
        assert {row[1] for row in stored} <= {1}
        # Nothing streams for ever, and no turn answers twice.
        answers = await system.sql(
            "SELECT t.id, t.status,"
            " count(*) FILTER (WHERE m.status = 'streaming') AS streaming,"
            " count(*) FILTER (WHERE m.status = 'complete' AND m.tool_calls = '[]') AS answers"
            " FROM turns t JOIN messages m ON m.turn_id = t.id AND m.role = 'assistant'"
            " WHERE t.project_id = $1 GROUP BY t.id", project,
        )  # fmt: skip
        for row in answers:
            assert row["streaming"] == 0
            assert row["answers"] == (1 if row["status"] == "completed" else 0), dict(row)
        # Numbers have no hole, and all who look see the same.
        numbers = await system.sql(
            "SELECT count(*), min(seq), max(seq), (SELECT head FROM rooms WHERE project_id = $1)"
            " FROM room_events WHERE project_id = $1", project,
        )  # fmt: skip
        count, first, last, head = numbers[0]
        if count:
            assert (first, last, count) == (1, head, head)
        async with self.team.room("grace", 1) as late:
            await late.join(0)
            await late.until(lambda: late.state.seq == head)
            assert essence(late.state) == essence(await fetch(self.team.ada, self.team.project_id))
        # What must not happen twice has not.
        assert all(n == 1 for name, n in self.counted().items() if name.startswith("pay "))

    async def gone(self, child: Child, within: float) -> int:
        """Wait for a process's end; its exit code."""
        async with asyncio.timeout(within):
            return await child.wait()
