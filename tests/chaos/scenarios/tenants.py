"""Set L: nobody reads what is not his, nobody waits behind another, and a revoked right is gone."""

import asyncio
import time
import uuid

from tests.chaos.load import Trial
from tests.chaos.people import Person
from tests.chaos.scenarios.scenario import Run
from tests.client import RoomClient
from tests.system import checked

REVOKED_WITHIN_SECONDS = 5.0


async def apart(trial: Trial, run: Run) -> None:
    """L: many tenants talk, one of them all at once, while people are removed (P31, P35, P37)."""
    await trial.gather()
    await trial.measure(run.of(6, 12, 20))
    await _noisy(trial, run, run.of(40, 200, 200))
    for _ in range(run.of(2, 10, 50)):
        await _removed_while_it_streams(trial)
    await _other_rooms(trial)
    events = run.of(0, 5_000, 100_000)
    while events and await _events(trial) < events:
        await trial.load(100, 8)
    trial.figures["events"] = str(await _events(trial))


async def _events(trial: Trial) -> int:
    projects = [uuid.UUID(t.team.project_id) for t in trial.tenants]
    (row,) = await trial.arena.system.sql(
        "SELECT sum(head)::bigint FROM rooms WHERE project_id = ANY($1)", projects
    )
    return int(row[0])


async def _noisy(trial: Trial, run: Run, burst: int) -> None:
    """One tenant submits everything at once; the others' first tokens come as ever (P35)."""
    loud, calm = trial.tenants[0], trial.tenants[1]
    noisy = next(p for p in trial.people if p.tenant is loud)
    well = next(p for p in trial.people if p.tenant is calm)
    quiet = [await _first_token(trial, well) for _ in range(5)]
    conversations = [await trial.conversation(noisy) for _ in range(min(burst, 50))]
    crowd = [
        asyncio.create_task(trial.converse(noisy, trial.question(noisy, conversation, "plain"),
                                           "plain"))
        for number in range(burst)
        for conversation in [conversations[number % len(conversations)]]
    ]  # fmt: skip
    await asyncio.sleep(0.3)
    during: list[float] = []
    while not all(task.done() for task in crowd) and len(during) < 12:
        during.append(await _first_token(trial, well))
    await asyncio.gather(*crowd)
    trial.judge_neighbours("first token beside a burst", quiet, during, run.size)


async def _first_token(trial: Trial, person: Person) -> float:
    """Seconds from sending to the first text."""
    asked = trial.question(person, await trial.conversation(person), "plain")
    began = time.monotonic()
    await person.ask(asked)
    await person.room.until(
        lambda: any(
            f["type"] == "assistant_response" and f["data"]["turn_id"] == asked.turn_id
            and f["data"]["content"]
            for f in reversed(person.room.frames)
        ), timeout=60,
    )  # fmt: skip
    seconds = time.monotonic() - began
    await person.see_end(asked, 60)
    return seconds


async def _removed_while_it_streams(trial: Trial) -> None:
    """Somebody is removed from the project in the middle of an answer (P37)."""
    tenant = trial.tenants[1]
    team = await tenant.team.elsewhere("left")
    edge = trial.rng.randrange(2)
    asker = RoomClient(team.ada, trial.arena.system.edges[1 - edge].ws, team.project_id)
    removed = RoomClient(team.grace, trial.arena.system.edges[edge].ws, team.project_id)
    await asker.connect()
    await removed.connect()
    conversation = await team.conversation()
    ack = await asker.ask(conversation, f"{tenant.canary} #text:400:40")
    await removed.until(lambda: removed.state.texts)
    url = f"/api/projects/{team.project_id}/members/{team.people['grace']}"
    checked(await team.ada.delete(url))
    cut_off = time.monotonic()
    try:
        await removed.frame("project_left", timeout=REVOKED_WITHIN_SECONDS)
    except TimeoutError:
        trial.extra.append("somebody removed was not told so within 5 s")
    heard = len(removed.frames)
    await asyncio.sleep(1)
    if len(removed.frames) > heard:
        trial.extra.append(
            f"{len(removed.frames) - heard} frames after {time.monotonic() - cut_off:.1f} s"
        )
    frame_id = await removed.send(
        "join_project", {"project_id": team.project_id, "after_seq": removed.state.seq}
    )
    if await _code(removed, frame_id) != "not_found":
        trial.extra.append("somebody removed could join again")
    said = await removed.ask(conversation, "still here?")
    if said["data"].get("code") != "not_found":
        trial.extra.append("somebody removed could still ask")
    await asker.send("stop_turn", {"turn_id": ack["data"]["turn_id"]})
    await asker.turn(ack["data"]["turn_id"])
    await asker.drop()
    await removed.drop()


async def _code(room: RoomClient, frame_id: str) -> str | None:
    """Code of the error that answers a frame; None when no error comes."""
    try:
        return str((await room.reply(frame_id, timeout=5))["data"].get("code"))
    except TimeoutError:
        return None


async def _other_rooms(trial: Trial) -> None:
    """Ids that are not one's own are answered as random ones."""
    one, other = trial.tenants[0], trial.tenants[1]
    private = await one.team.elsewhere("private")
    checked(
        await private.ada.delete(
            f"/api/projects/{private.project_id}/members/{private.people['grace']}"
        )
    )
    hidden = await private.conversation()
    foreign = await other.team.conversation()
    grace = RoomClient(one.team.grace, trial.arena.system.edges[0].ws, one.team.project_id)
    await grace.connect()
    answers, joins = [], []
    for conversation in (hidden, foreign, str(uuid.uuid4())):
        # The project named in the frame is one where she may ask; the conversation's own is not.
        reply = await grace.ask(conversation, "what is in here?")
        answers.append((reply["type"], reply["data"].get("code"), reply["data"].get("message")))
    for project in (private.project_id, other.team.project_id, str(uuid.uuid4())):
        frame_id = await grace.send("join_project", {"project_id": project, "after_seq": 0})
        joins.append(await _code(grace, frame_id))
    if len(set(answers)) != 1 or answers[0][1] != "not_found":
        trial.extra.append(f"what is not hers is answered differently: {set(answers)}")
    if set(joins) != {"not_found"}:
        trial.extra.append(f"rooms that are not hers answer {joins}")
    await grace.drop()
