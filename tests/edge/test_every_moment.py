"""P17 at every moment of a turn: who comes, who drops and comes back elsewhere, on either edge.

A steady reader hears the turn. At each of its frames, event or delta, somebody new joins on each
edge, and somebody who was there drops without a word and comes back on the other edge a random time
later.
At the end all of them show what is stored.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.client import RoomClient, essence, fetch
from tests.model_server import expected
from tests.system import System, Team

EMOJI = "a👩‍🚀née\u0301 🚀🚀 end"
# Some come back while the answer still streams, some long after.
LONGEST_SECONDS = 5.0


@dataclass
class Crowd:
    """Everybody in one room, beside the steady reader."""

    team: Team
    system: System
    chance: random.Random
    droppers: list[RoomClient] = field(default_factory=list)
    newcomers: list[RoomClient] = field(default_factory=list)
    back: list[tuple[RoomClient, int]] = field(default_factory=list)
    frames: int = 0

    async def gather(self, count: int) -> None:
        """Open the sockets of those who will drop."""
        for number in range(count):
            room = RoomClient(self.team.ada, self.ws(number), self.team.project_id)
            await room.connect()
            self.droppers.append(room)

    def ws(self, number: int) -> str:
        return self.system.edges[number % 2].ws

    async def newcomer(self, edge: int) -> None:
        room = RoomClient(self.team.grace, self.ws(edge), self.team.project_id)
        self.newcomers.append(room)
        await room.connect()

    async def hop(self, number: int) -> None:
        room = self.droppers[number]
        await room.drop()
        seq = room.state.seq
        await asyncio.sleep(
            self.chance.choice((0, 0.1, 0.5, LONGEST_SECONDS)) * self.chance.random()
        )
        await room.resume(self.ws(number + 1))
        self.back.append((room, seq))

    async def follow(self, steady: RoomClient, turn_id: str) -> None:
        """Do all that at each frame, until the turn ends."""
        tasks: list[asyncio.Task[None]] = []

        def spawn(act: Callable[[int], Awaitable[None]], number: int) -> None:
            tasks.append(asyncio.ensure_future(act(number)))  # type: ignore[arg-type]

        heard = len(steady.frames)
        while steady.state.turns.get(turn_id, {}).get("status") != "completed":
            await steady.until(lambda heard=heard: len(steady.frames) > heard, timeout=30)
            while heard < len(steady.frames):
                kind = steady.frames[heard]["type"]
                heard += 1
                if kind == "presence":
                    continue
                spawn(self.newcomer, 0)
                spawn(self.newcomer, 1)
                if self.frames < len(self.droppers):
                    spawn(self.hop, self.frames)
                self.frames += 1
        await asyncio.gather(*tasks)

    async def close(self) -> None:
        await asyncio.gather(*(room.drop() for room in (*self.droppers, *self.newcomers)))


def events(room: RoomClient) -> list[dict[str, Any]]:
    return [frame for frame in room.frames if "seq" in frame["data"]
            and frame["type"] != "project_joined"]  # fmt: skip


def missed_endings(steady: RoomClient, room: RoomClient, seq: int) -> int:
    """How many texts ended while a client was away: those it may fetch."""
    joined = [frame for frame in room.frames if frame["type"] == "project_joined"][-1]
    return sum(
        frame["type"] == "assistant_response"
        and seq < frame["data"]["seq"] <= joined["data"]["seq"]
        for frame in events(steady)
    )


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        # A tool, then an answer whose first attempt breaks after ten tokens: two epochs.
        ("#tool:list_datasources:{} #text:30:12 #cut:10", expected(2, 30)),
        # Code points that belong together come in different deltas.
        ("#emoji:4", EMOJI),
    ],
)
async def test_every_moment(system: System, question: str, answer: str) -> None:
    team = await system.team(sockets_per_user=2_000)
    conversation = await team.conversation()
    crowd = Crowd(team, system, random.Random(question))
    async with team.room("ada", 0) as steady, team.room("grace", 1) as other:
        await crowd.gather(60)
        ack = await steady.ask(conversation, f"every moment {question}")
        turn_id = ack["data"]["turn_id"]
        await crowd.follow(steady, turn_id)
        # At least each token and each event has been a moment.
        assert crowd.frames > 8
        fresh = essence(await fetch(team.ada, team.project_id))
        everybody = (steady, other, *crowd.newcomers, *crowd.droppers)
        for room in everybody:
            # Who came after the end has it from REST, and no event of it.
            await room.until(lambda room=room: room.state.seq >= steady.state.seq)
            assert essence(room.state) == fresh
            assert answer in [held.text for held in room.state.texts.values()]
            assert room.rejoined == 0
        for room in (steady, other, *crowd.newcomers):
            assert room.refetched == 0
        assert len(crowd.back) == min(crowd.frames, len(crowd.droppers))
        for room, seq in crowd.back:
            assert [f["data"]["seq"] for f in events(room)] == [
                f["data"]["seq"] for f in events(steady)
            ]
            assert room.refetched <= missed_endings(steady, room, seq)
        # Some of them were back in time to hear all of it.
        assert any(room.refetched == 0 for room, _ in crowd.back)
        await crowd.close()
