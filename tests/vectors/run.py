"""The reference client over a case: socket and REST are the vector's, the client is real."""

import asyncio
import json
import re
from typing import Any

import httpx

from tests.client import RoomClient, canonical

MESSAGES = re.compile(r"/api/conversations/([^/]+)/messages$")
# An answer and what it sets off take a few turns of the loop each; this is plenty.
QUIET_TURNS = 25


class Socket:
    """A connection whose other end is the case."""

    close_code: int | None = None

    def __init__(self, told: list[dict[str, Any]]) -> None:
        self._told = told
        self.incoming: asyncio.Queue[str] = asyncio.Queue()
        self.transport = self

    async def send(self, text: str) -> None:
        frame = json.loads(text)
        if frame["type"] == "join_project":
            self._told.append({"join": frame["data"].get("after_seq")})

    def abort(self) -> None:
        """Nothing follows."""

    def __aiter__(self) -> "Socket":
        return self

    async def __anext__(self) -> str:
        return await self.incoming.get()


class Rest:
    """What REST answers at this point of the case."""

    def __init__(self, told: list[dict[str, Any]]) -> None:
        self._told = told
        self.now: dict[str, Any] = {}
        self.hold: str | None = None
        self.released = asyncio.Event()
        self._fetching = False

    def told_in_a_new_step(self) -> None:
        """From here on, asking for messages alone is a refetch; a fetch that is held goes on."""
        if not self.hold:
            self._fetching = False

    async def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        of_messages = MESSAGES.match(path)
        if path.endswith("/events"):
            return self._body(path)
        if path.endswith("/conversations"):
            self._told.append({"fetch": True})
            self._fetching = True
        elif of_messages and not self._fetching:
            self._told.append({"refetch": of_messages[1]})
        answer = self._body(path)
        if self.hold:
            holding = self.hold
            await self.released.wait()
            if holding == "requests":
                answer = self._body(path)
        return answer

    def _body(self, path: str) -> httpx.Response:
        if path.endswith("/events"):
            return httpx.Response(200, json={"seq": self.now["seq"]})
        if path.endswith("/conversations"):
            return _page(self.now["conversations"])
        if (of_messages := MESSAGES.match(path)) and of_messages[1] in self.now["messages"]:
            return _page(self.now["messages"][of_messages[1]], seq=self.now["seq"])
        return httpx.Response(404, json={"code": "not_found"})


def _page(found: list[Any], **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"items": found, "next_cursor": None, **more})


class Client(RoomClient):
    """The reference client on the case's socket."""

    def __init__(
        self, http: httpx.AsyncClient, project_id: str, told: list[dict[str, Any]]
    ) -> None:
        super().__init__(http, "ws://vector/ws/chat", project_id)
        self._told = told
        self.wire: Socket | None = None

    @property
    def reader(self) -> asyncio.Task[None] | None:
        """Where the client fails, if it does."""
        return self._reader

    async def _open(self) -> Any:
        self.wire = Socket(self._told)
        return self.wire


async def run(vector: dict[str, Any], case: dict[str, Any]) -> None:
    """Play the steps of a case.

    Raises:
        AssertionError: The client did something else, or holds something else.
    """
    told: list[dict[str, Any]] = []
    rest = Rest(told)
    transport = httpx.MockTransport(rest.answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://vector") as http:
        client = Client(http, vector["project_id"], told)
        tasks: list[asyncio.Task[Any]] = []
        try:
            for number, step in enumerate(case["steps"]):
                await _play(vector, client, rest, told, tasks, step, f"step {number}: {step}")
            assert told == [], "the client asked for more than it had to"
        finally:
            for task in tasks:
                task.cancel()
            await client.drop()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _play(
    vector: dict[str, Any], client: Client, rest: Rest, told: list[dict[str, Any]],
    tasks: list[asyncio.Task[Any]], step: dict[str, Any], where: str,
) -> None:  # fmt: skip
    match step:
        case {"expect": action}:
            assert told[:1] == [action], f"{where}, but it did {told[:1]}"
            del told[:1]
            return
        case {"state": name}:
            assert told == [], f"{where}: unexpected {told}"
            assert canonical(client.state) == vector["states"][name], where
            return
        case {"rest": index}:
            rest.now = vector["rests"][index]
            return
        case {"hold": what}:
            rest.hold = what
            rest.released.clear()
            return
    assert told == [], f"before {where}: unexpected {told}"
    rest.told_in_a_new_step()
    match step:
        case {"release": True}:
            rest.hold = None
            rest.released.set()
        case {"open": True}:
            again = client.wire is not None
            await client.drop()
            tasks.append(asyncio.create_task(client.resume() if again else client.connect()))
            await _quiet(client, rest)
        case {"receive": [start, end]}:
            for frame in vector["frames"][start:end]:
                _hear(client, frame)
        case {"joined": position, "recovered": recovered}:
            data = vector["joins"][position] | {
                "project_id": vector["project_id"], "recovered": recovered, "presence": []
            }  # fmt: skip
            _hear(client, {"type": "project_joined", "data": data, "timestamp": 0})
        case {"frame": frame}:
            _hear(client, frame)
        case _:
            raise ValueError(f"unknown {where}")
    await _quiet(client, rest)


def _hear(client: Client, frame: dict[str, Any]) -> None:
    assert client.wire is not None
    client.wire.incoming.put_nowait(json.dumps(frame))


async def _quiet(client: Client, rest: Rest) -> None:
    """Let the client do all it can do now: nothing here waits for the outside."""
    idle = 0
    while idle < QUIET_TURNS:
        await asyncio.sleep(0)
        reader = client.reader
        if reader is not None and reader.done() and not reader.cancelled():
            reader.result()
        busy = client.wire is not None and not client.wire.incoming.empty() and not rest.hold
        idle = 0 if busy else idle + 1
