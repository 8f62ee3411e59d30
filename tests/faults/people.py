"""Three people in one project, doing what they please, and what must hold when they are quiet.

The model behind the state machine of ``test_people.py``; its steps are coroutines.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from tests.client import Folded, RoomClient, essence, fetch
from tests.faults.scene import Scene
from tests.model_server import Call
from tests.system import PASSWORD, Team, checked

OPEN = "('queued', 'running', 'awaiting_approval')"
NAMES = ("ada", "grace", "linus")
# How a question is answered; each comes with words of its own, so that it is found in prompts.
KINDS = {
    "quick": "#say:quick",
    "slow": "#text:30:20",
    "tool": "#tool:list_datasources:{}",
    "retried": "#500:1 #text:8:40",
}


@dataclass
class Sent:
    """A message somebody has sent, and its ack."""

    who: str
    conversation: str
    content: str
    on_busy: str
    key: str
    ack: dict[str, Any] | None = None


def shown(state: Folded, conversation: str) -> list[str]:
    """A conversation's messages in the order in which a client of docs/protocol.md shows them."""
    turns: dict[str, list[dict[str, Any]]] = {}
    rank: dict[str, int] = {}
    for number, message in enumerate(state.messages.values()):
        if message["conversation_id"] != conversation:
            continue
        group = turns.setdefault(message["turn_id"], [])
        after = (message.get("metadata") or {}).get("after")
        if message["role"] == "user" and after is None:
            group.insert(0, message)
            rank[message["turn_id"]] = number
            continue
        known = [m["id"] for m in group]
        named = [(m.get("metadata") or {}).get("after") for m in group]
        if after in known:
            group.insert(known.index(after) + 1, message)
        elif message["id"] in named:
            group.insert(named.index(message["id"]), message)
        else:
            group.append(message)
    return [m["id"] for turn_id in sorted(turns, key=rank.__getitem__) for m in turns[turn_id]]


@dataclass
class People:
    """One example: a project, two conversations, three clients."""

    scene: Scene
    team: Team
    linus: httpx.AsyncClient
    talks: list[str] = field(default_factory=list)
    rooms: dict[str, RoomClient] = field(default_factory=dict)
    online: dict[str, bool] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    calls_before: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)

    # --- beginning and end ----------------------------------------------------------------------

    @classmethod
    async def hired(cls, scene: Scene) -> httpx.AsyncClient:
        """A third person of the tenant."""
        email = f"linus@{scene.team.domain}"
        body = {"email": email, "name": "Linus", "role": "member", "password": PASSWORD}
        user = checked(await scene.team.admin.post("/api/admin/users", json=body))
        scene.team.people["linus"] = user["id"]
        return await scene.system.sign_in(email, edge=1)

    @classmethod
    async def gathered(cls, scene: Scene, linus: httpx.AsyncClient) -> "People":
        team = await scene.team.elsewhere()
        path = f"/api/projects/{team.project_id}/members/{team.people['linus']}"
        checked(await team.ada.put(path, json={"role": "editor"}))
        people = cls(scene, team, linus, calls_before=len(scene.system.model.calls))
        people.talks = [await team.conversation(f"Talk {n}") for n in range(2)]
        for place, name in enumerate(NAMES):
            url = scene.system.edges[place % 2].ws
            people.rooms[name] = RoomClient(people.http(name), url, team.project_id)
            await people.rooms[name].connect()
            people.online[name] = True
        return people

    def http(self, who: str) -> httpx.AsyncClient:
        return self.linus if who == "linus" else getattr(self.team, who)

    async def leave(self) -> None:
        for room in self.rooms.values():
            await room.drop()

    # --- what people do -------------------------------------------------------------------------

    async def send(self, who: str, talk: int, kind: str, on_busy: str) -> None:
        number = next(self.numbers)
        sent = Sent(
            who,
            self.talks[talk],
            f"words-{id(self)}-{number}. {KINDS[kind]}",
            on_busy,
            f"k{number}",
        )
        self.sent.append(sent)
        await self.deliver(sent)

    async def deliver(self, sent: Sent) -> None:
        """Send a message, for the first time or again; by REST where there is no socket."""
        body = {"content": sent.content, "client_message_id": sent.key, "on_busy": sent.on_busy}
        if self.online[sent.who]:
            answer = await self.rooms[sent.who].ask(sent.conversation, **body)
            data, busy = answer["data"], answer["data"].get("code") == "busy"
        else:
            path = f"/api/conversations/{sent.conversation}/messages"
            response = await self.http(sent.who).post(path, json=body)
            data = response.json()
            busy = data.get("code") == "busy"
        if busy:
            assert sent.on_busy == "reject"
            assert sent.ack is None
            return
        assert "turn_id" in data, data
        if sent.ack is not None:
            assert data["duplicate"] is True
            assert (data["message_id"], data["turn_id"]) == (
                sent.ack["message_id"], sent.ack["turn_id"],
            )  # fmt: skip
        sent.ack = sent.ack or data

    async def resend(self, which: int) -> None:
        if self.sent:
            await self.deliver(self.sent[which % len(self.sent)])

    async def stop(self, who: str, which: int) -> None:
        acks = [sent.ack for sent in self.sent if sent.ack]
        if acks:
            turn_id = acks[-1 - which % len(acks)]["turn_id"]
            checked(await self.http(who).post(f"/api/turns/{turn_id}/stop"))

    async def drop(self, who: str) -> None:
        if self.online[who]:
            await self.rooms[who].drop()
            self.online[who] = False

    async def rejoin(self, who: str, edge: int) -> None:
        await self.drop(who)
        await self.rooms[who].resume(self.scene.system.edges[edge].ws)
        self.online[who] = True

    async def replace_worker(self) -> None:
        await self.scene.kill(self.scene.system.workers[0])
        await self.scene.hire()

    # --- what must hold -------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Wait until nothing is open, and hold everything against the promises."""
        project = UUID(self.team.project_id)

        async def nothing_open() -> bool:
            rows = await self.scene.system.sql(
                f"SELECT count(*) FROM turns WHERE project_id = $1 AND status IN {OPEN}", project
            )
            return rows[0][0] == 0

        await self.scene.system.until(nothing_open, timeout=75)
        for place, name in enumerate(NAMES):
            if not self.online[name]:
                await self.rejoin(name, place % 2)
        fresh = await fetch(self.team.ada, self.team.project_id)
        for name, room in self.rooms.items():
            await room.until(lambda room=room: room.state.seq == fresh.seq)
            assert essence(room.state) == essence(fresh), name
        for talk in self.talks:
            page = checked(
                await self.team.ada.get(f"/api/conversations/{talk}/messages?limit=200")
            )["items"]
            order = [message["id"] for message in page]
            for name, room in self.rooms.items():
                assert shown(room.state, talk) == order, name
            await self._answered(page)
        await self._kept(fresh)
        await self._one_at_a_time()
        self._prompts(self.scene.system.model.calls[self.calls_before :])

    async def _answered(self, page: list[dict[str, Any]]) -> None:
        """Each completed turn ends with its one answer; no text was left half-said."""
        turns: dict[str, list[dict[str, Any]]] = {}
        for message in page:
            assert message["status"] != "streaming"
            turns.setdefault(message["turn_id"], []).append(message)
        for turn_id, messages in turns.items():
            turn = checked(await self.team.ada.get(f"/api/turns/{turn_id}"))
            # What was joined while it streamed was not the answer.
            answers = [
                message
                for message, following in itertools.pairwise([*messages, None])
                if message["role"] == "assistant" and message["status"] == "complete"
                and not message["tool_calls"] and (following is None or following["role"] != "user")
            ]  # fmt: skip
            if turn["status"] == "completed":
                assert answers == messages[-1:], turn
                seen = self._seen()
                assert {m["content"] for m in messages if m["role"] == "user"} <= seen
            elif turn["status"] == "cancelled":
                # A stop may meet an answer that is just being stored: it is whole, and the last.
                assert answers in ([], messages[-1:]), turn
            else:
                assert answers == [], turn

    def _seen(self) -> set[str]:
        """Contents that some model call was shown."""
        calls = self.scene.system.model.calls[self.calls_before :]
        return {
            m["content"] for call in calls for m in call.body["messages"] if m["role"] == "user"
        }

    async def _kept(self, fresh: Folded) -> None:
        """Every message that was acked is there once, in the turn the ack named; no other is."""
        users = [m for m in fresh.messages.values() if m["role"] == "user"]
        kept = {m["id"]: (m["content"], m["turn_id"]) for m in users}
        acked = {
            sent.ack["message_id"]: (sent.content, sent.ack["turn_id"])
            for sent in self.sent
            if sent.ack
        }
        assert kept == acked

    async def _one_at_a_time(self) -> None:
        """Numbers have no hole, and in no conversation did two turns run at once."""
        path = f"/api/projects/{self.team.project_id}/events"
        events = await items_of(self.team.ada, path)
        assert [e["data"]["seq"] for e in events] == list(range(1, len(events) + 1))
        running: dict[str, str] = {}
        for event in events:
            data = event["data"]
            if event["type"] != "turn_status":
                continue
            talk, turn_id = data["conversation_id"], data["turn_id"]
            if data["status"] == "running":
                assert running.setdefault(talk, turn_id) == turn_id
            elif running.get(talk) == turn_id:
                del running[talk]
        assert running == {}

    def _prompts(self, calls: list[Call]) -> None:
        """Calls and results are paired in every prompt, and no message is in one twice."""
        for call in calls:
            messages = call.body["messages"]
            asked = [m["content"] for m in messages if m["role"] == "user"]
            assert len(asked) == len(set(asked))
            assert messages[-1]["role"] in {"user", "tool"}
            expected: list[str] = []
            for message in messages:
                if message["role"] == "tool":
                    assert message["tool_call_id"] == expected.pop(0)
                else:
                    assert expected == []
                    expected = [c["id"] for c in message.get("tool_calls") or ()]
            assert expected == []


async def items_of(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All events of a room."""
    found: list[dict[str, Any]] = []
    while True:
        page = checked(await http.get(f"{path}?limit=200&after_seq={len(found)}"))
        found += page["items"]
        if not page["next_cursor"]:
            return found
