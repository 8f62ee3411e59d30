"""Hostile and clumsy sockets. Beside each of them a healthy one works and misses nothing."""

import asyncio
import contextlib
import itertools
import json
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api import frames
from store.limits import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, TenantLimits
from tests.client import RoomClient, essence, fetch
from tests.edge.raw import BINARY, PING, RawSocket, cookies, frame, let_go
from tests.system import PASSWORD, Edge, System, Team, checked

PATIENCE = 10
REVOKED_WITHIN = 5


@pytest.fixture(scope="module")
async def ours(system: System) -> Team:
    return await system.team()


@pytest.fixture(scope="module")
async def theirs(system: System) -> Team:
    """Another tenant."""
    return await system.team()


@pytest.fixture
async def team(ours: Team) -> Team:
    """A project nobody else uses."""
    return await ours.elsewhere()


class Healthy:
    """A member who goes about his business while others misbehave."""

    def __init__(self, team: Team, room: RoomClient, conversation: str) -> None:
        self.team = team
        self.room = room
        self.conversation = conversation
        self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        for number in itertools.count():
            await self.room.reply(await self.room.send("ping", {}))
            await self.room.send("typing", {"conversation_id": self.conversation})
            await self.room.join(self.room.state.seq)
            path = f"/api/conversations/{self.conversation}"
            checked(await self.team.grace.patch(path, json={"title": f"Title {number}"}))
            await asyncio.sleep(0.05)

    async def verdict(self) -> None:
        """It has been served all the while, in order and completely."""
        assert not self._task.done(), self._task.result()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        ack = await self.room.ask(self.conversation, "still there? #say:yes")
        assert await self.room.turn(ack["data"]["turn_id"]) == "completed"
        seqs = [f["data"]["seq"] for f in self.room.frames if "seq" in f["data"]
                and f["type"] != "project_joined"]  # fmt: skip
        assert list(dict.fromkeys(seqs)) == list(range(seqs[0], seqs[-1] + 1))
        assert essence(self.room.state) == essence(await fetch(self.team.ada, self.team.project_id))
        told = [f for f in self.room.frames[-40:] if f["type"] == "assistant_response"]
        troubles = [line for line in self.team.system.logs[-300:] if "level=warning" in line]
        assert self.room.rejoined == self.room.refetched == 0, (told, troubles)
        assert self.room.close_code is None


@pytest.fixture
async def healthy(team: Team) -> AsyncIterator[Healthy]:
    conversation = await team.conversation("Business as usual")
    async with team.room("grace", 0) as room:
        member = Healthy(team, room, conversation)
        yield member
        await member.verdict()


@pytest.fixture
async def attacker(team: Team, healthy: Healthy) -> AsyncIterator[RoomClient]:
    async with team.room("ada", 0) as room:
        yield room


@pytest.fixture
async def raw(system: System, team: Team, healthy: Healthy) -> AsyncIterator[RawSocket]:
    """A socket of ada's that has been welcomed and may send any bytes."""
    socket = await RawSocket.open(system.edges[0], team.ada)
    assert socket.status == 101
    await socket.until_text(b'"welcome"')
    yield socket
    await socket.close()


def text(value: Any) -> bytes:
    return frame(json.dumps(value).encode())


PINGED = text({"type": "ping", "id": "still-here"})


async def closed(client: RoomClient, timeout: float = PATIENCE) -> int:
    code: int = await client.until(lambda: client.close_code, timeout)
    return code


async def alive(client: RoomClient) -> None:
    answer = await client.reply(await client.send("ping", {}))
    assert answer["type"] == "pong"


async def errors(client: RoomClient, count: int) -> list[dict[str, Any]]:
    """Wait for so many errors."""

    def heard() -> list[dict[str, Any]] | None:
        found = [f["data"] for f in client.frames if f["type"] == "error"]
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = await client.until(heard)
    return found


# --- silence: what takes long is begun first and judged last -------------------------------------


@pytest.fixture(scope="module", autouse=True)
async def silent(system: System, ours: Team) -> AsyncIterator[dict[str, asyncio.Task[Any]]]:
    """W27: connections that say nothing, from the first test of this module on."""
    edge = system.edges[1]

    async def timed(work: Any) -> tuple[float, Any]:
        started = time.monotonic()
        result = await work
        return time.monotonic() - started, result

    async def speechless(first: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(first)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            await let_go(writer)

    async def dribbling() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        # A whole request first: the connection that is kept is no more patient with the second.
        writer.write(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        try:
            while not reader.at_eof():
                writer.write(b"G" if writer.transport.get_write_buffer_size() == 0 else b"")
                async with asyncio.timeout(0.5):
                    await reader.read(1)
        except TimeoutError:
            pass
        writer.write(b"ET /")
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            await let_go(writer)

    async def no_join() -> int | None:
        async with connect(
            edge.ws, origin=edge.url, additional_headers={"Cookie": cookies(ours.ada)}, proxy=None
        ) as socket:
            await socket.wait_closed()
            return socket.close_code

    async def no_pong() -> int | None:
        socket = await RawSocket.open(edge, ours.ada)
        socket.send(text({"type": "join_project", "data": {"project_id": ours.project_id}}))
        try:
            return await socket.until_closed(timeout=60)
        finally:
            await socket.close()

    tasks = {
        "no handshake": asyncio.create_task(timed(speechless(b""))),
        "half a handshake": asyncio.create_task(timed(speechless(b"GET /ws/chat HTTP/1.1\r\nHo"))),
        "half a second request": asyncio.create_task(timed(dribbling())),
        "no join": asyncio.create_task(timed(no_join())),
        "no pong": asyncio.create_task(timed(no_pong())),
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


# --- W01 to W10: frames ---------------------------------------------------------------------------


async def test_bad_json_is_answered_until_it_is_too_much(attacker: RoomClient) -> None:
    for _ in range(5):
        await attacker.raw("{bad")
    assert {e["code"] for e in await errors(attacker, 5)} == {"bad_json"}
    await alive(attacker)
    await attacker.raw("{bad")
    assert await closed(attacker) == 4400


async def test_a_bad_frame_now_and_then_is_forgiven(
    team: Team, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api import ws

    now = itertools.count(0, step=3)  # seconds between bad frames: four within any ten
    monkeypatch.setattr(ws.time, "monotonic", lambda: float(next(now)))
    socket = ws.ChatSocket.__new__(ws.ChatSocket)
    ended: list[int] = []
    socket._bad = ws.deque(maxlen=ws.BAD_FRAMES)
    monkeypatch.setattr(ws.ChatSocket, "end", lambda _self, code, _reason: ended.append(code))
    for _ in range(50):
        socket._count_bad()
    assert ended == []


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"type":"ping","data":' + '{"a":' * 100_000,
        '{"type":"ping","data":' + "[" * 33 + "]" * 33 + "}",
    ],
    ids=["brackets", "braces", "one too deep"],
)
async def test_depth_costs_nothing(attacker: RoomClient, content: str) -> None:
    if len(content) < MAX_FRAME_BYTES:
        await attacker.raw(content)
        (error,) = await errors(attacker, 1)
        assert error["code"] == "bad_json"
        await alive(attacker)
    started = time.process_time()
    with pytest.raises(frames.FrameError):
        frames.parse(content)
    assert time.process_time() - started < 0.05


async def test_depth_up_to_the_limit_is_read(attacker: RoomClient) -> None:
    deep = "[" * 28 + "]" * 28
    await attacker.raw(f'{{"type":"ping","id":"deep","data":{{"extra":{deep}}}}}')
    assert (await attacker.reply("deep"))["type"] == "pong"


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 17_000_000])
async def test_a_frame_that_is_too_big(raw: RawSocket, size: int) -> None:
    raw.send(frame(b"x" * min(size, 300_000), length=size))
    assert await raw.until_closed() == 1009


async def test_the_biggest_frame_is_read(attacker: RoomClient) -> None:
    head, tail = '{"type":"ping","id":"big","data":{"extra":"', '"}}'
    await attacker.raw(head + "x" * (MAX_FRAME_BYTES - len(head) - len(tail)) + tail)
    assert (await attacker.reply("big"))["type"] == "pong"


async def test_many_fragments_count_as_one_frame(raw: RawSocket) -> None:
    raw.send(frame(b"x" * 60_000, fin=False))
    for _ in range(4):
        raw.send(frame(b"x" * 60_000, 0, fin=False))
    assert await raw.until_closed() == 1009


async def test_invalid_utf8(raw: RawSocket) -> None:
    raw.send(bytes.fromhex("81 82 00000000 ff fe"))
    assert await raw.until_closed() == 1007


async def test_a_character_cut_over_fragments_is_whole(raw: RawSocket) -> None:
    body = json.dumps({"type": "ping", "id": "ü🚀"}, ensure_ascii=False).encode()
    cut = body.index("🚀".encode()) + 2
    raw.send(frame(body[:cut], fin=False) + frame(body[cut:], 0))
    assert "ü🚀".encode() in await raw.until_text(b'"pong"')


async def test_binary(raw: RawSocket) -> None:
    raw.send(frame(b'{"type":"ping"}', BINARY))
    assert await raw.until_closed() == 1003


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02{}",  # not masked
        frame(b"{}", 3),  # an opcode without meaning
        b"\xc1" + frame(b"{}")[1:],  # a reserved bit
        frame(b"x" * 126, PING),  # a control frame has at most 125 bytes
        frame(b"x", 0),  # a continuation of nothing
    ],
    ids=["unmasked", "opcode", "reserved", "long ping", "continuation"],
)
async def test_breaches_of_the_protocol(raw: RawSocket, data: bytes) -> None:
    raw.send(data)
    assert await raw.until_closed() == 1002


@pytest.mark.parametrize(
    "value",
    [{"type": "nope"}, {"type": 1}, {}, [], "x", None, 7, {"type": ["ping"]}, {"type": {}},
     {"type": None}, {"type": "Ping"}, {"type": "__class__"}, {"type": "welcome"}],
)  # fmt: skip
async def test_unknown_types(raw: RawSocket, value: Any) -> None:
    raw.send(text(value) + PINGED)
    answer = json.loads(await raw.until_text(b'"error"'))
    assert answer["data"]["code"] == "unknown_type"
    await raw.until_text(b"still-here")


@pytest.mark.parametrize(
    "value",
    [
        {"type": "ping", "data": []},
        {"type": "ping", "data": None},
        {"type": "join_project"},
        {"type": "join_project", "data": {"project_id": "../x"}},
        {"type": "join_project", "data": {"project_id": {"$ne": ""}}},
        {"type": "leave_project", "data": {"project_id": 1}},
        {"type": "stop_turn", "data": {"turn_id": "' OR 1=1"}},
        {"type": "typing", "data": {"conversation_id": None}},
        {"type": "user_message", "data": {"conversation_id": str(uuid.uuid4()), "content": 5}},
        {"type": "user_message", "data": {"conversation_id": str(uuid.uuid4()), "content": None}},
    ],
)
async def test_malformed_data(raw: RawSocket, value: Any) -> None:
    raw.send(text(value | {"id": "mine"}) + PINGED)
    answer = json.loads(await raw.until_text(b'"error"'))
    assert answer["data"]["code"] == "invalid"
    assert answer["data"]["reply_to"] == "mine"
    await raw.until_text(b"still-here")


async def test_half_a_surrogate_pair_and_odd_ids(raw: RawSocket) -> None:
    raw.send(frame(b'{"type":"ping","id":"\\ud800"}'))
    assert b"bad_json" in await raw.until_text(b'"error"')
    for odd in (5, "x" * 129, {"a": 1}, None):
        raw.send(text({"type": "ping", "id": odd}))
        assert json.loads(await raw.until_text(b'"pong"'))["data"]["reply_to"] is None


async def test_a_flood_is_slowed_down_and_survives(attacker: RoomClient) -> None:
    for _ in range(600):
        await attacker.raw('{"type":"ping"}')
    (error, *_) = await errors(attacker, 1)
    assert error["code"] == "rate_limited"
    assert error["retry_after_ms"] > 0
    await asyncio.sleep(error["retry_after_ms"] / 1000)
    await alive(attacker)


# --- W12 to W17: who is there ---------------------------------------------------------------------


async def refused(edge: Edge, headers: dict[str, str], query: str = "") -> int:
    """HTTP status that a handshake is refused with; 101 if it is not."""
    origin = headers.pop("Origin", None)
    try:
        async with connect(
            edge.ws + query,
            origin=origin,
            additional_headers=headers,
            proxy=None,  # type: ignore[arg-type]
        ):
            return 101
    except InvalidStatus as exc:
        body = json.loads(exc.response.body or b"{}")
        assert body["code"] in ("forbidden", "session_ended"), body
        return exc.response.status_code


async def test_foreign_origins(system: System, team: Team, healthy: Healthy) -> None:
    edge = system.edges[0]
    cookie = {"Cookie": cookies(team.ada)}
    for origin in (
        "https://evil.test",
        "null",
        f"http://127.0.0.1:{edge.port}.evil.test",
        f"http://127.0.0.1:{edge.port}@evil.test",
        f"https://127.0.0.1:{edge.port}",
        f"http://127.0.0.1:{system.edges[1].port}",
        "http://127.0.0.1",
        f"http://evil.test#http://127.0.0.1:{edge.port}",
    ):
        assert await refused(edge, {**cookie, "Origin": origin}) == 403, origin
    assert await refused(edge, dict(cookie)) == 403, "a cookie without an Origin is not believed"
    assert await refused(edge, {**cookie, "Origin": edge.url}) == 101


async def test_nobody(system: System, healthy: Healthy) -> None:
    edge = system.edges[0]
    for headers in (
        {},
        {"Origin": edge.url},
        {"Origin": edge.url, "Cookie": "everturn="},
        {"Origin": edge.url, "Cookie": "everturn=evs_" + "x" * 43},
        {"Origin": edge.url, "Cookie": "everturn=" + "%00" * 20},
        {"Origin": edge.url, "Cookie": "everturn=" + "A" * 5_000},
        {"Origin": edge.url, "Cookie": "other=1; everturn"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nobody"},
        {"Authorization": "Basic YWRhOmFkYQ=="},
    ):
        assert await refused(edge, dict(headers)) == 401, headers
    for query in ("?ticket=", "?ticket=%00", "?ticket=" + "x" * 3_000):
        assert await refused(edge, {}, query) == 401, query


async def test_an_expired_session(system: System, ours: Team, healthy: Healthy) -> None:
    http = await system.sign_in(f"ada@{ours.domain}")
    mine = next(row["id"] for row in checked(await http.get("/api/auth/sessions"))["items"]
                if row["current"])  # fmt: skip
    await system.sql(
        "UPDATE sessions SET expires_at = now() - interval '1 s' WHERE id = $1", uuid.UUID(mine)
    )
    edge = system.edges[0]
    assert await refused(edge, {"Cookie": cookies(http), "Origin": edge.url}) == 401


async def test_a_session_in_the_address_is_never_accepted(
    system: System, team: Team, healthy: Healthy
) -> None:
    edge = system.edges[0]
    (value,) = [cookie.value or "" for cookie in team.ada.cookies.jar]
    for name in ("token", "session", "everturn", "api_key", "access_token", "ticket", "cookie"):
        assert await refused(edge, {"Origin": edge.url}, f"?{name}={value}") == 401, name
    assert await refused(edge, {"Authorization": f"Bearer {value}"}) == 401
    assert not any(value in line for line in system.logs)


async def test_a_ticket_opens_one_socket(system: System, team: Team, healthy: Healthy) -> None:
    for edge, other in (system.edges, reversed(system.edges)):
        ticket = checked(await team.ada.post("/api/auth/ws-ticket"))["ticket"]
        query = f"?ticket={ticket}"
        assert await refused(edge, {"Origin": "https://elsewhere.test"}, query) == 101
        assert await refused(other, {}, query) == 401
    ticket = checked(await team.ada.post("/api/auth/ws-ticket"))["ticket"]
    results = await asyncio.gather(
        *(refused(system.edges[n % 2], {}, f"?ticket={ticket}") for n in range(6))
    )
    assert sorted(results) == [101, 401, 401, 401, 401, 401]
    late = checked(await team.ada.post("/api/auth/ws-ticket"))["ticket"]
    await system.sql("UPDATE socket_tickets SET expires_at = now() - interval '1 s'")
    assert await refused(system.edges[0], {}, f"?ticket={late}") == 401
    assert not any(ticket in line for line in system.logs)


@asynccontextmanager
async def by_token(edge: Edge, token: str) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(edge.ws, additional_headers=headers, proxy=None) as socket:
        yield socket


async def told(socket: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            heard = json.loads(await socket.recv())
            if heard["type"] == kind:
                return heard["data"]  # type: ignore[no-any-return]


async def say(socket: ClientConnection, kind: str, **data: Any) -> None:
    await socket.send(json.dumps({"type": kind, "data": data, "id": "t"}))


async def test_an_api_token_needs_no_origin_and_ends_when_revoked(
    system: System, team: Team, healthy: Healthy
) -> None:
    async def token(*scopes: str) -> dict[str, str]:
        body = {"name": "A program", "scopes": scopes}
        return checked(await team.ada.post("/api/auth/tokens", json=body))  # type: ignore[no-any-return]

    reads, writes = await token("read"), await token("read", "write")
    message = {"conversation_id": healthy.conversation, "project_id": team.project_id,
               "content": "from a program #say:yes"}  # fmt: skip
    async with (
        by_token(system.edges[0], reads["token"]) as reader,
        by_token(system.edges[1], writes["token"]) as writer,
    ):
        for socket in (reader, writer):
            await say(socket, "join_project", project_id=team.project_id)
            await told(socket, "project_joined")
        await say(reader, "user_message", **message)
        assert (await told(reader, "error"))["code"] == "forbidden"
        await say(reader, "stop_turn", turn_id=str(uuid.uuid4()))
        assert (await told(reader, "error"))["code"] == "forbidden"
        await say(writer, "user_message", **message)
        await told(writer, "ack")
        assert (await told(reader, "message_created"))["message"]["content"] == message["content"]
        checked(await team.ada.delete(f"/api/auth/tokens/{reads['id']}"))
        assert (await told(reader, "session_ending"))["reason"]
        async with asyncio.timeout(REVOKED_WITHIN):
            await reader.wait_closed()
        assert reader.close_code == 4401
        await say(writer, "ping")
        await told(writer, "pong")
    assert await refused(system.edges[0], {"Authorization": f"Bearer {reads['token']}"}) == 401


async def test_signing_out_closes_the_sockets_of_every_edge(
    system: System, team: Team, healthy: Healthy
) -> None:
    tab = await system.sign_in(f"ada@{team.domain}")
    ticket = checked(await tab.post("/api/auth/ws-ticket"))["ticket"]
    rooms = [RoomClient(tab, edge.ws, team.project_id) for edge in system.edges]
    by_ticket = RoomClient(tab, system.edges[1].ws, team.project_id)
    async with team.room("ada", 1) as other_session:
        for room in rooms:
            await room.connect()
        await by_ticket.connect(ws_url=f"{system.edges[1].ws}?ticket={ticket}")
        checked(await tab.post("/api/auth/logout"))
        for room in (*rooms, by_ticket):
            assert await closed(room, REVOKED_WITHIN) == 4401
            assert [f["data"]["reason"] for f in room.frames if f["type"] == "session_ending"] == [
                "logout"
            ]
        await alive(other_session)


async def test_too_many_sockets_of_one_person(system: System, team: Team, healthy: Healthy) -> None:
    http = await newcomer(team, "crowd", "viewer")
    edge = system.edges[0]
    headers = {"Cookie": cookies(http)}
    sockets = [
        await connect(edge.ws, origin=edge.url, additional_headers=headers, proxy=None)  # type: ignore[arg-type]
        for _ in range(TenantLimits().sockets_per_user + 1)
    ]
    last = sockets[-1]
    async with asyncio.timeout(PATIENCE):
        await last.wait_closed()
    assert last.close_code == 4429
    await sockets[0].close()

    async def room_again() -> bool:
        async with connect(
            edge.ws,
            origin=edge.url,
            additional_headers=headers,
            proxy=None,  # type: ignore[arg-type]
        ) as socket:
            with contextlib.suppress(ConnectionClosed):
                await say(socket, "ping")
                return bool(await told(socket, "pong"))
            return False

    await system.until(room_again)
    for socket in sockets[1:-1]:
        await say(socket, "ping")
        await told(socket, "pong")
        socket.transport.abort()


async def test_a_tenant_may_allow_fewer_sockets(
    system: System, theirs: Team, healthy: Healthy
) -> None:
    limits = {"messages_per_minute": 100_000}
    path = "/api/admin/tenant"
    checked(await theirs.admin.patch(path, json={"limits": limits | {"sockets_per_user": 1}}))
    async with theirs.room("grace", 1) as first:
        edge = system.edges[1]
        async with connect(
            edge.ws,
            origin=edge.url,  # type: ignore[arg-type]
            additional_headers={"Cookie": cookies(theirs.grace)},
            proxy=None,
        ) as second:
            async with asyncio.timeout(PATIENCE):
                await second.wait_closed()
            assert second.close_code == 4429
        await alive(first)
    checked(await theirs.admin.patch(path, json={"limits": limits}))


# --- W19 to W25: whose is it ----------------------------------------------------------------------


async def newcomer(team: Team, name: str, role: str) -> httpx.AsyncClient:
    """A new person of the tenant, and a member of the project."""
    email = f"{name}-{uuid.uuid4().hex[:6]}@{team.domain}"
    body = {"email": email, "name": name.title(), "role": "member", "password": PASSWORD}
    user = checked(await team.admin.post("/api/admin/users", json=body))
    path = f"/api/projects/{team.project_id}/members/{user['id']}"
    checked(await team.ada.put(path, json={"role": role}))
    return await team.system.sign_in(email)


async def test_a_removed_member_hears_no_more(team: Team, healthy: Healthy) -> None:
    guest = await newcomer(team, "guest", "editor")
    me = checked(await guest.get("/api/auth/me"))["user"]["id"]
    conversation = await team.conversation()
    room = RoomClient(guest, team.system.edges[1].ws, team.project_id)
    await room.connect()
    ack = await room.ask(conversation, "a long story #text:150:25")
    running = ack["data"]["turn_id"]
    await room.until(lambda: any(held.text for held in room.state.texts.values()))
    removed_at = time.monotonic()
    checked(await team.ada.delete(f"/api/projects/{team.project_id}/members/{me}"))
    left = await room.frame("project_left", timeout=REVOKED_WITHIN)
    assert left["data"] == {"project_id": team.project_id, "reason": "membership_removed"}
    heard = len(room.frames)
    for kind, data in (
        ("join_project", {"project_id": team.project_id, "after_seq": 0}),
        ("user_message", {"conversation_id": conversation, "content": "and me?"}),
        ("stop_turn", {"turn_id": running}),
        ("typing", {"conversation_id": conversation}),
    ):
        answer = await room.reply(await room.send(kind, data))
        assert answer["data"]["code"] == "not_found", kind
    # The story goes on for the others, and is told to the end.
    await healthy.room.turn(running)
    assert time.monotonic() - removed_at < 30
    await alive(room)
    assert {f["type"] for f in room.frames[heard:]} == {"error", "pong"}
    await room.drop()


async def test_who_becomes_a_viewer_reads_on_but_no_longer_asks(
    team: Team, healthy: Healthy
) -> None:
    http = await newcomer(team, "fallen", "editor")
    me = checked(await http.get("/api/auth/me"))["user"]["id"]
    conversation = await team.conversation()
    room = RoomClient(http, team.system.edges[1].ws, team.project_id)
    await room.connect()
    ack = await room.ask(conversation, "while I may #text:100:25")
    path = f"/api/projects/{team.project_id}/members/{me}"
    checked(await team.ada.put(path, json={"role": "viewer"}))
    refusal = await room.ask(conversation, "and now?")
    assert refusal["data"]["code"] == "forbidden"
    stop = await room.reply(await room.send("stop_turn", {"turn_id": ack["data"]["turn_id"]}))
    assert stop["data"]["code"] == "forbidden"
    assert await room.turn(ack["data"]["turn_id"]) == "completed"
    page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
    assert [m["role"] for m in page["items"]] == ["user", "assistant"]
    await room.drop()


async def test_a_deleted_project_is_left(team: Team, system: System) -> None:
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        checked(await team.ada.delete(f"/api/projects/{team.project_id}"))
        for room in (ada, grace):
            left = await room.frame("project_left", timeout=REVOKED_WITHIN)
            assert left["data"]["reason"] == "project_deleted"
            answer = await room.reply(
                await room.send("join_project", {"project_id": team.project_id})
            )
            assert answer["data"]["code"] == "not_found"


async def test_ids_of_another_tenant_are_like_ids_of_nothing(
    team: Team, theirs: Team, attacker: RoomClient, system: System
) -> None:
    conversation = await theirs.conversation()
    async with theirs.room() as theirs_room:
        ack = await theirs_room.ask(conversation, "private #text:400:40")
        before = await system.sql("SELECT count(*) FROM messages")
        turn_id = ack["data"]["turn_id"]
        heard = len(attacker.frames)

        def probes(project: str, chat: str, turn: str) -> list[tuple[str, dict[str, Any]]]:
            return [
                ("join_project", {"project_id": project}),
                ("join_project", {"project_id": project, "after_seq": 0}),
                ("user_message", {"conversation_id": chat, "content": "x"}),
                ("user_message", {"conversation_id": chat, "content": "x", "project_id": project}),
                ("user_message", {"conversation_id": chat, "content": "x",
                                  "project_id": team.project_id}),
                ("stop_turn", {"turn_id": turn}),
                ("typing", {"conversation_id": chat}),
            ]  # fmt: skip

        nothing = [str(uuid.uuid4()) for _ in range(3)]
        times: dict[bool, list[float]] = {True: [], False: []}
        answers: dict[bool, list[Any]] = {True: [], False: []}
        for foreign in (True, False) * 6:
            ids = (theirs.project_id, conversation, turn_id) if foreign else nothing
            for kind, data in probes(*ids):
                if kind == "typing":
                    await asyncio.sleep(1)  # more often it is dropped unread
                started = time.perf_counter()
                answer = await attacker.reply(await attacker.send(kind, data))
                times[foreign].append(time.perf_counter() - started)
                assert answer["type"] == "error"
                assert answer["data"].pop("reply_to")
                assert answer["data"]["code"] == "not_found", kind
                answers[foreign].append(answer["data"])
        assert answers[True] == answers[False]
        assert abs(statistics.median(times[True]) - statistics.median(times[False])) < 0.02
        left = await attacker.reply(
            await attacker.send("leave_project", {"project_id": theirs.project_id})
        )
        assert left["data"]["reason"] == "requested"
        # What they wrote meanwhile is theirs alone, and their turn runs on.
        assert await theirs_room.turn(turn_id) == "completed"
        assert theirs.project_id not in json.dumps(
            [f for f in attacker.frames[heard:] if f is not left]
        )
        after = await system.sql(
            "SELECT count(*) FROM messages WHERE conversation_id = $1", uuid.UUID(conversation)
        )
        assert after[0][0] == 2
        assert before[0][0] >= 1


async def test_claims_of_identity_are_ignored(
    team: Team, theirs: Team, attacker: RoomClient
) -> None:
    conversation = await team.conversation()
    spoofed = str(uuid.uuid4())
    ack = await attacker.ask(
        conversation, "who am I? #say:ada",
        user_id=team.people["grace"], client_id=theirs.tenant_id, tenant_id=theirs.tenant_id,
        role="assistant", message_id=spoofed, turn_id=spoofed, status="complete", id=spoofed,
        author={"id": team.people["grace"], "name": "Grace"}, seq=10**6, epoch=99,
        tool_calls=[{"id": "x"}], scopes=["admin"],
    )  # fmt: skip
    assert ack["type"] == "ack"
    assert await attacker.turn(ack["data"]["turn_id"]) == "completed"
    page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
    asked, _answer = page["items"]
    assert asked["author"] == {"id": team.people["ada"], "name": "Ada"}
    assert (asked["role"], asked["epoch"], asked["tool_calls"]) == ("user", 0, [])
    assert spoofed not in json.dumps(page)
    turn = checked(await team.ada.get(f"/api/turns/{ack['data']['turn_id']}"))
    assert turn["asked_by"] == team.people["ada"]


async def test_a_viewer_reads_and_does_no_more(team: Team, healthy: Healthy) -> None:
    viewer = await newcomer(team, "vera", "viewer")
    room = RoomClient(viewer, team.system.edges[0].ws, team.project_id)
    await room.connect()
    refusal = await room.ask(healthy.conversation, "may I?")
    assert refusal["data"]["code"] == "forbidden"
    async with team.room("ada", 1) as ada:
        ack = await ada.ask(healthy.conversation, "see this #say:seen")
        turn_id = ack["data"]["turn_id"]
        stop = await room.reply(await room.send("stop_turn", {"turn_id": turn_id}))
        assert stop["data"]["code"] == "forbidden"
        assert await room.turn(turn_id) == "completed"
    assert "seen " in {held.text for held in room.state.texts.values()}
    await room.drop()


# --- W29 to W34: messages -------------------------------------------------------------------------


async def test_a_message_id_stands_for_one_message(
    team: Team, attacker: RoomClient, system: System
) -> None:
    conversation = await team.conversation()
    async with team.room("ada", 1) as other_edge, team.room("grace", 1) as grace:
        rooms = (attacker, other_edge)
        acks = await asyncio.gather(
            *(rooms[n % 2].ask(conversation, "just once #say:yes", client_message_id="mine")
              for n in range(10))
        )  # fmt: skip
        assert [ack["type"] for ack in acks] == ["ack"] * 10
        assert len({ack["data"]["message_id"] for ack in acks}) == 1
        assert await attacker.turn(acks[0]["data"]["turn_id"]) == "completed"
        for room, content in (
            (attacker, "twice"), (other_edge, "just once #say:yes "), (grace, "just once #say:yes"),
        ):  # fmt: skip
            answer = await room.ask(conversation, content, client_message_id="mine")
            assert answer["data"]["code"] == "conflict"
        again = await other_edge.ask(conversation, "just once #say:yes", client_message_id="mine")
        assert again["data"]["duplicate"] is True
        assert again["data"]["status"] == "completed"
    assert len(system.model.calls_for("just once #say:yes")) == 1


async def test_what_a_message_may_hold(team: Team, attacker: RoomClient) -> None:
    conversation = await team.conversation()
    for content, code in (
        ("", "invalid"),
        (" \n\t\u3000 ", "invalid"),
        ("a\0b", "invalid"),
        ("x" * (MAX_MESSAGE_BYTES + 1), "too_large"),
        ("ü" * (MAX_MESSAGE_BYTES // 2 + 1), "too_large"),
    ):
        answer = await attacker.ask(conversation, content)
        assert answer["data"]["code"] == code, content[:10]
    # 100,000 combining marks: 200,000 bytes in a frame of their own encoding.
    data = {"conversation_id": conversation, "content": "a" + "\u0301" * 100_000}
    body = {"type": "user_message", "id": "zalgo", "data": data}
    await attacker.raw(json.dumps(body, ensure_ascii=False))
    assert (await attacker.reply("zalgo"))["data"]["code"] == "too_large"
    for name in ("", "x" * 129, "a\nb", "a\0b"):
        body = {"type": "user_message", "id": f"name of {len(name)}",
                "data": {"conversation_id": conversation, "content": "x",
                         "client_message_id": name}}  # fmt: skip
        await attacker.raw(json.dumps(body))
        assert (await attacker.reply(body["id"]))["data"]["code"] == "invalid", name  # type: ignore[arg-type]
    answer = await attacker.ask(conversation, "x", on_busy="whenever")
    assert answer["data"]["code"] == "invalid"
    page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
    assert page["items"] == []


async def test_a_megabyte_of_message_is_too_big_a_frame(raw: RawSocket, team: Team) -> None:
    conversation = await team.conversation()
    data = {"conversation_id": conversation, "content": "x" * 1_000_000}
    raw.send(text({"type": "user_message", "data": data}))
    assert await raw.until_closed() == 1009


async def test_the_largest_and_the_oddest_text_is_kept_as_it_is(
    team: Team, attacker: RoomClient
) -> None:
    conversation = await team.conversation()
    odd = "a" + "\u0301" * 20_000 + " \u202e \ufeff \u2028 \x7f \x1b[31m 👩‍🚀 \ue000 end"
    for content in ("x" * MAX_MESSAGE_BYTES, odd):
        ack = await attacker.ask(conversation, content)
        assert ack["type"] == "ack", ack
        await attacker.turn(ack["data"]["turn_id"])
    page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
    assert [m["content"] for m in page["items"] if m["role"] == "user"] == [
        "x" * MAX_MESSAGE_BYTES, odd,
    ]  # fmt: skip
    fresh = essence(await fetch(team.ada, team.project_id))
    assert essence(attacker.state)["messages"] == fresh["messages"]


async def test_a_message_after_leaving_is_stored_and_acked(
    team: Team, attacker: RoomClient, healthy: Healthy
) -> None:
    await attacker.reply(await attacker.send("leave_project", {"project_id": team.project_id}))
    heard = len(attacker.frames)
    ack = await attacker.ask(healthy.conversation, "from outside #say:heard")
    assert ack["type"] == "ack"
    assert await healthy.room.turn(ack["data"]["turn_id"]) == "completed"
    await alive(attacker)
    assert {f["type"] for f in attacker.frames[heard:]} == {"ack", "pong"}
    joined = await attacker.join(attacker.state.seq)
    assert joined["data"]["recovered"] is True
    await attacker.turn(ack["data"]["turn_id"])


async def test_a_project_in_the_address_is_joined_at_once(
    system: System, team: Team, theirs: Team, healthy: Healthy
) -> None:
    edge = system.edges[0]
    headers = {"Cookie": cookies(team.ada)}
    for project, answer in (
        (team.project_id, "project_joined"), (theirs.project_id, "error"), ("nonsense", "error"),
        ("%00", "error"), ("", "error"),
    ):  # fmt: skip
        async with connect(
            f"{edge.ws}?project={project}",
            origin=edge.url,
            additional_headers=headers,
            proxy=None,  # type: ignore[arg-type]
        ) as socket:
            assert json.loads(await socket.recv())["type"] == "welcome"
            await told(socket, answer)
            await say(socket, "ping")
            await told(socket, "pong")


async def test_ten_of_every_kind(team: Team, attacker: RoomClient) -> None:
    conversation = await team.conversation()
    for number in range(10):
        await alive(attacker)
        await attacker.reply(await attacker.send("leave_project", {"project_id": team.project_id}))
        await attacker.join(attacker.state.seq)
        await attacker.send("typing", {"conversation_id": conversation})
        ack = await attacker.ask(conversation, f"number {number} #say:yes")
        await attacker.reply(await attacker.send("stop_turn", {"turn_id": ack["data"]["turn_id"]}))
        assert await attacker.turn(ack["data"]["turn_id"]) in ("completed", "cancelled")
    fresh = essence(await fetch(team.ada, team.project_id))
    assert essence(attacker.state)["messages"] == fresh["messages"]


# --- W27, judged ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "within", "result"),
    [
        ("no handshake", 11, b""),
        ("half a handshake", 11, b""),
        ("half a second request", 12, b""),
        ("no join", 31, 4408),
        ("no pong", 42, 1011),
    ],
)
async def test_silence_ends(
    silent: dict[str, asyncio.Task[Any]], what: str, within: float, result: Any
) -> None:
    took, answer = await silent[what]
    assert took < within
    assert answer == result
