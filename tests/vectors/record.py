"""``python -m tests.vectors.record [scenario …]``: record event vectors of the real system.

Starts the whole system with the scripted model server and plays each scenario. One client listens
from the beginning; what its room said is the stream. Others join now and then while it runs: their
``project_joined`` frames and what REST answered them are kept beside it. The cases of
``tests/vectors/*.json`` are then derived from the streams (`tests.vectors.derive`).
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.client import RoomClient, items
from tests.system import Team, checked, running
from tests.vectors import derive
from tests.vectors.files import FOLDER, write
from tests.vectors.stable import stable
from workflows.events import DURABLE_EVENT_TYPES

MAX_PROBES = 8

Play = Callable[[Team, RoomClient, str], Awaitable[None]]


async def rest_of(http: httpx.AsyncClient, project_id: str) -> dict[str, Any]:
    """What REST tells of a project now."""
    seqs = [checked(await http.get(f"/api/projects/{project_id}/events?limit=1"))["seq"]]
    listed = await items(http, f"/api/projects/{project_id}/conversations")
    messages = {}
    for conversation in list(listed):
        answer = await http.get(f"/api/conversations/{conversation['id']}/messages?limit=200")
        if answer.status_code == 404:
            listed.remove(conversation)
            continue
        messages[conversation["id"]] = answer.json()["items"]
        seqs.append(answer.json()["seq"])
    return {"seq": min(seqs), "conversations": listed, "messages": messages}


def of_room(frame: dict[str, Any]) -> bool:
    """Whether a frame is part of what every member hears, in one order."""
    return frame["type"] in DURABLE_EVENT_TYPES


async def ask(room: RoomClient, conversation: str, text: str, number: int = 1, **more: Any) -> str:
    ack = await room.ask(conversation, text, client_message_id=f"message-{number}", **more)
    return str(ack["data"]["turn_id"])


async def grown(room: RoomClient, chars: int) -> None:
    await room.until(lambda: any(len(t.text) > chars for t in room.state.texts.values()))


async def plain(team: Team, room: RoomClient, conversation: str) -> None:
    """A question and its answer."""
    await room.turn(await ask(room, conversation, "#text:8:25"))


async def tools(team: Team, room: RoomClient, conversation: str) -> None:
    """Parallel calls, one of a tool there is not, one with arguments that are not JSON's."""
    text = '#tool:list_datasources:{} #tool:none:{"a":1} #tool:describe_schema:{"b":2} #text:5:25'
    await room.turn(await ask(room, conversation, text))


async def steps(team: Team, room: RoomClient, conversation: str) -> None:
    """Calls again and again, until the limit of steps ends the turn."""
    await room.turn(await ask(room, conversation, "#loop:list_datasources:{}"))


async def approval(team: Team, room: RoomClient, conversation: str) -> None:
    """Calls that ask: one approved by two people, with changed arguments; one denied."""
    path = f"/api/projects/{team.project_id}/tool-policies"
    rules = {"items": [{"tool": "*", "policy": "ask", "approvals": 2}]}
    checked(await team.ada.put(path, json=rules))
    text = '#tool:describe_schema:{"datasource_id":"a"} #tool:list_datasources:{} #text:5:25'
    turn_id = await ask(room, conversation, text)
    await room.until(lambda: room.state.turns.get(turn_id, {}).get("status") == "awaiting_approval")
    first, second = room.state.executions
    changed = {"datasource_id": "b"}
    for person in (team.ada, team.grace):
        word = {"decision": "approve", "arguments": changed}
        checked(await person.post(f"/api/tool-executions/{first}/decision", json=word))
    await room.until(lambda: room.state.executions[first]["status"] == "failed")
    word = {"decision": "deny", "note": "not now"}
    checked(await team.grace.post(f"/api/tool-executions/{second}/decision", json=word))
    await room.turn(turn_id)


async def failed(team: Team, room: RoomClient, conversation: str) -> None:
    """A model that refuses."""
    await room.turn(await ask(room, conversation, "#status:401"))


async def retry(team: Team, room: RoomClient, conversation: str) -> None:
    """Busy, then an answer; then one that breaks off and begins anew."""
    await room.turn(await ask(room, conversation, "#429:1:1 #text:5:25"))
    await room.turn(await ask(room, conversation, "#cut:3 #text:6:25", 2))


async def worker_killed(team: Team, room: RoomClient, conversation: str) -> None:
    """The worker dies in the middle of an answer, and another begins it again."""
    turn_id = await ask(room, conversation, "#text:12:12:25")
    await grown(room, 40)
    await team.system.restart_worker()
    await room.turn(turn_id, timeout=60)


async def stop(team: Team, room: RoomClient, conversation: str) -> None:
    """An answer stopped in the middle, and a question after it."""
    turn_id = await ask(room, conversation, "#text:2000:20")
    await grown(room, 60)
    await room.send("stop_turn", {"turn_id": turn_id})
    await room.turn(turn_id)
    await room.turn(await ask(room, conversation, "#text:3:25", 2))


async def queued(team: Team, room: RoomClient, conversation: str) -> None:
    """A second question while the first is answered in two steps."""
    first = await ask(room, conversation, "#tool:list_datasources:{} #text:8:25")
    second = await ask(room, conversation, "#text:4:25", 2)
    await room.turn(first)
    await room.turn(second)


async def interrupt(team: Team, room: RoomClient, conversation: str) -> None:
    """A second question that stops the first one's answer."""
    first = await ask(room, conversation, "#text:2000:20")
    await grown(room, 60)
    second = await ask(room, conversation, "#text:4:25", 2, on_busy="interrupt")
    await room.turn(first)
    await room.turn(second)


async def characters(team: Team, room: RoomClient, conversation: str) -> None:
    """Characters beyond U+FFFF, joined and combining ones."""
    await room.turn(await ask(room, conversation, "👩‍🚀 #emoji"))
    await room.turn(await ask(room, conversation, "#split", 2))


async def conversations(team: Team, room: RoomClient, conversation: str) -> None:
    """Made, renamed while answering, and deleted in the middle of an answer."""
    other = await team.conversation("To be deleted")
    path = f"/api/conversations/{conversation}"
    first = await ask(room, conversation, "#text:10:20")
    await grown(room, 20)
    checked(await team.ada.patch(path, json={"title": "Né 👩‍🚀"}))
    await room.turn(first)
    await ask(room, other, "#text:2000:20", 2)
    await room.until(
        lambda: any(
            m["conversation_id"] == other and len(room.state.text_of(m)) > 40
            for m in room.state.messages.values() if m["role"] == "assistant"
        )
    )  # fmt: skip
    checked(await team.ada.delete(f"/api/conversations/{other}"))
    await room.until(lambda: other not in room.state.conversations)
    # Late deltas of what was deleted would come now.
    await asyncio.sleep(0.5)


SCENARIOS: tuple[Play, ...] = (
    plain, tools, approval, steps, failed, retry, worker_killed, stop, queued, interrupt,
    characters, conversations,
)  # fmt: skip


async def recorded(team: Team, play: Play, *, probes: int = MAX_PROBES) -> dict[str, Any]:
    """The stream of one scenario, played in an empty project of its own."""
    conversation = await team.conversation()
    before = await rest_of(team.ada, team.project_id)
    async with team.room() as room:
        (joined,) = [f for f in room.frames if f["type"] == "project_joined"]
        listening = asyncio.create_task(_probe(team, room, probes))
        try:
            await play(team, room, conversation)
        finally:
            listening.cancel()
            found = (await asyncio.gather(listening, return_exceptions=True))[0]
        if isinstance(found, BaseException):
            raise found
        stream = [f for f in room.frames if of_room(f)]
        answers = [
            {"at": _place(stream, late), "joined": late.frames[0]["data"], "rest": rest}
            for late, rest in found
        ]
        return {
            "project_id": team.project_id,
            "joined": joined["data"],
            "before": before,
            "stream": stream,
            "after": await rest_of(team.ada, team.project_id),
            "late": [a | {"joined": _without_people(a["joined"])} for a in answers],
        } | {"joined": _without_people(joined["data"])}


def _without_people(joined: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in joined.items() if key != "presence"}


async def _probe(team: Team, room: RoomClient, count: int) -> list[tuple["Late", dict[str, Any]]]:
    """Join again and again while something happens; what each found."""
    found: list[tuple[Late, dict[str, Any]]] = []
    heard = 0
    try:
        while True:
            if len(found) >= count:
                # They listen to the end.
                await asyncio.Event().wait()
            await room.until(lambda heard=heard: len(room.frames) > heard + 2, timeout=3600)
            heard = len(room.frames)
            late = Late(team.grace, room.ws_url, team.project_id)
            await late.connect()
            found.append((late, late.seen))
    except asyncio.CancelledError:
        # What is missing of their frames is on its way.
        await asyncio.sleep(0.3)
    for late, _ in found:
        await late.drop()
        late.frames = late.frames[[f["type"] for f in late.frames].index("project_joined") :]
    return found


class Late(RoomClient):
    """Keeps what REST told it when it joined."""

    seen: dict[str, Any]

    async def _fetch(self) -> None:
        self.seen = await rest_of(self.http, self.project_id)
        await super()._fetch()


def _place(stream: list[dict[str, Any]], late: RoomClient) -> int:
    """How much of the stream a snapshot holds: where the frames that follow it begin."""
    following = [f for f in late.frames[1:] if of_room(f)]
    for place in range(len(stream) + 1):
        if stream[place:] == following:
            return place
    heard = "\n".join(json.dumps(f["data"]) for f in [late.frames[0], *following])
    whole = "\n".join(json.dumps(f["data"]) for f in stream)
    raise AssertionError(f"the late client heard another stream:\n{heard}\nof\n{whole}")


async def record(only: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), edges=1) as system:
            team, strict = await system.team(), await system.team(steps_per_turn=3)
            for play in SCENARIOS:
                name = play.__name__
                if only and name not in only:
                    continue
                of = strict if play is steps else team
                found = stable(await recorded(await of.elsewhere(name), play))
                found = {"about": (play.__doc__ or "").strip(), **found}
                write(FOLDER / "recorded" / f"{name}.json", found)
                cases = sum(len(v["cases"]) for v in derive.rewrite({name}).values())
                print(f"{name}: {len(found['stream'])} frames, {len(found['late'])} late joins,"
                      f" {cases} cases")  # fmt: skip


if __name__ == "__main__":
    asyncio.run(record(set(sys.argv[1:])))
    sys.stdout.flush()
    os._exit(0)
