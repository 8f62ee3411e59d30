"""P04 in small: far more sockets than database connections come at once, and come back at once."""

import asyncio
import json
import os
import signal

from tests.edge.raw import RawSocket, frame
from tests.system import Edge, System, Team

SOCKETS = 300
POOL = 3
PATIENCE = 30


async def join(edge: Edge, team: Team, place: int) -> RawSocket:
    """A socket in one of the rooms; asks again when it is told to."""
    one = [team.ada, team.grace][place % 2]
    socket = await RawSocket.open(edge, one)
    assert socket.status == 101
    body = {"type": "join_project", "data": {"project_id": team.project_id}}
    socket.send(frame(json.dumps(body).encode()))
    await socket.until_text(b'"project_joined"', PATIENCE)
    return socket


async def test_a_crowd_is_served_by_a_few_connections(system: System) -> None:
    team = await system.team(sockets_per_user=1_000)
    rooms = [team] + [await team.elsewhere(str(number)) for number in range(9)]
    settings = {
        "EVERTURN_DATABASE_POOL_SIZE": str(POOL),
        "EVERTURN_SOCKETS_PER_ADDRESS": "1000",
    }
    edge = await system.start_edge(**settings)
    for _ in range(2):
        heard = len(system.logs)
        sockets = await asyncio.gather(
            *(join(edge, rooms[place % len(rooms)], place) for place in range(SOCKETS))
        )
        # The others' pools are theirs: this one is within its own.
        rows = await system.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'edge'"
        )
        assert rows[0][0] <= POOL + 10 * len(system.edges)
        assert not [line for line in system.logs[heard:] if "failed" in line or "away" in line]
        os.kill(edge.child.pid, signal.SIGTERM)
        codes = await asyncio.gather(*(socket.until_closed(PATIENCE) for socket in sockets))
        assert set(codes) == {1001}
        await asyncio.gather(*(socket.close() for socket in sockets))
        await edge.child.wait()
        edge = await system.start_edge(edge.port, **settings)
    await edge.child.stop()


async def test_the_limit_of_an_address_is_a_setting(team: Team, system: System) -> None:
    edge = await system.start_edge(EVERTURN_SOCKETS_PER_ADDRESS="2")
    sockets = [await RawSocket.open(edge, team.ada) for _ in range(3)]
    assert await sockets[2].until_closed() == 4429
    await sockets[0].close()

    async def room_again() -> bool:
        socket = await RawSocket.open(edge, team.grace)
        try:
            return b"welcome" in (await socket.receive())[1]
        finally:
            await socket.close()

    await system.until(room_again)
    for socket in sockets[1:]:
        await socket.close()
    await edge.child.stop()
