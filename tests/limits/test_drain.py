"""P02: a worker that streams fifty answers is asked to go."""

import asyncio
import signal
import time

from tests.model_server import expected
from tests.system import System, Team

TURNS = 50


async def drained(system: System, team: Team, turns: int = TURNS) -> float:
    """Send SIGTERM to the only worker in the middle of so many answers; seconds until its end.

    Another one takes over; every answer is whole, of one attempt.
    """
    (old,) = system.workers
    async with team.room() as room:
        conversations = [await team.conversation() for _ in range(turns)]
        acks = [
            await room.ask(each, f"drain {number} #text:300:15:0")
            for number, each in enumerate(conversations)
        ]
        ids = [ack["data"]["turn_id"] for ack in acks]

        def streaming() -> bool:
            speaking = {
                room.state.messages[key]["turn_id"]
                for key, held in room.state.texts.items() if held.text
            }  # fmt: skip
            return speaking >= set(ids)

        await room.until(streaming, timeout=60)
        system.workers[0] = await system.start_worker()
        started = time.monotonic()
        old._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await old.wait() == 0
        took = time.monotonic() - started
        for turn_id in ids:
            assert await room.turn(turn_id, timeout=60) == "completed"
        for key, held in room.state.texts.items():
            if held.text:
                assert held.text == expected(held.epoch, 300), room.state.messages[key]
        assert room.refetched == 0
    return took


async def test_fifty_streaming_turns_do_not_keep_a_worker(system: System, team: Team) -> None:
    assert await drained(system, team) <= 15


async def test_an_edge_with_many_sockets_goes_within_seconds(system: System, team: Team) -> None:
    edge = await system.start_edge()
    system.edges.append(edge)
    sockets: list[asyncio.Task[None]] = []
    joined = asyncio.Semaphore(0)

    async def sit() -> None:
        async with team.room("ada" if len(sockets) % 3 else "grace", -1) as room:
            joined.release()
            await room.until(lambda: room.close_code, timeout=60)
            assert room.close_code == 1001

    try:
        for _ in range(18):
            sockets.append(asyncio.create_task(sit()))
            await joined.acquire()
        started = time.monotonic()
        edge.child._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            await edge.child.wait()
        assert time.monotonic() - started <= 15
        await asyncio.gather(*sockets)
    finally:
        system.edges.remove(edge)
