"""Sets G and H: people come and go, read too slowly, send twice, talk at once, and stop."""

import asyncio
import contextlib
import json
import time
from itertools import pairwise

from temporalio.client import Client

from store.runs import TurnRuns
from tests.chaos.load import STOPPED, TOKENS_PER_SECOND, Trial
from tests.chaos.people import Asked, Person
from tests.chaos.scenarios.scenario import Run
from tests.client import RoomClient, essence, fetch
from tests.edge.raw import RawSocket, frame
from workflows.types import TurnRef

STOP_SECONDS = 3.0


async def comings_and_goings(trial: Trial, run: Run) -> None:
    """G: sockets drop at every event and inside deltas, and resume on the other edge (P17)."""
    await trial.gather()
    resumes = run.of(40, 500, 2_000)
    offline = run.of(1, 3, 5)
    hoppers = [_Hopper(trial, number) for number in range(min(20, resumes // 4))]
    for hopper in hoppers:
        await hopper.arrive()
    done = asyncio.Event()

    async def talk() -> None:
        mix = {"plain": 50, "tool": 25, "tools": 25}
        while not done.is_set():
            await trial.load(4, 2, mix)

    talking = asyncio.create_task(talk())
    share = -(-resumes // len(hoppers))
    await asyncio.gather(*(hopper.hop(share, offline) for hopper in hoppers))
    done.set()
    await talking
    await trial.arena.quiet(60)
    for hopper in hoppers:
        trial.extra += await hopper.differs()
    waits = sorted(wait for hopper in hoppers for wait in hopper.waits)
    trial.figures["resumes"] = str(len(waits))
    trial.figures["caught up p95"] = f"{waits[int(0.95 * len(waits))]:.2f} s"
    refetched = sum(hopper.room.refetched for hopper in hoppers)
    trial.figures["hoppers' refetches"] = str(refetched)
    trial.extra += await _slow_reader(trial)


class _Hopper:
    """Somebody on a train: drops without a word, comes back on the other edge."""

    def __init__(self, trial: Trial, number: int) -> None:
        tenant = trial.tenants[number % len(trial.tenants)]
        self.trial = trial
        self.edge = number % 2
        edges = trial.arena.system.edges
        self.room = RoomClient(tenant.team.grace, edges[self.edge].ws, tenant.team.project_id)
        self.waits: list[float] = []

    async def arrive(self) -> None:
        await self.room.connect()

    async def hop(self, times: int, offline: float) -> None:
        rng = self.trial.rng
        for _ in range(times):
            # The next event or delta, or the one after it, or …
            frames = len(self.room.frames) + rng.randint(1, 6)
            with contextlib.suppress(TimeoutError):
                await self.room.until(lambda n=frames: len(self.room.frames) >= n, timeout=2)
            await self.room.drop()
            await asyncio.sleep(rng.uniform(0, offline) * rng.random())
            self.edge = 1 - self.edge
            began = time.monotonic()
            await self.room.resume(self.trial.arena.system.edges[self.edge].ws)
            self.waits.append(time.monotonic() - began)

    async def differs(self) -> list[str]:
        """What this page shows and a fresh one does not."""
        fresh = await fetch(self.room.http, self.room.project_id)
        with contextlib.suppress(TimeoutError):
            await self.room.until(lambda: self.room.state.seq >= fresh.seq)
        same = essence(self.room.state) == essence(fresh)
        await self.room.drop()
        return [] if same else ["somebody who came and went sees another room"]


async def _slow_reader(trial: Trial) -> list[str]:
    """Who reads nothing is let go with 4409 and costs the edge no more than 5 MB (P18)."""
    team, edge = trial.tenants[0].team, trial.arena.system.edges[0]
    slow = await RawSocket.open(edge, team.grace, buffer=4096)
    join = {"type": "join_project", "data": {"project_id": team.project_id}}
    slow.send(frame(json.dumps(join).encode()))
    await slow.until_text(b'"project_joined"')
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    before = _rss(edge.child.pid)
    conversation = await team.conversation()
    loud = "loud " + "x" * 60_000
    person = trial.people[0]
    for number in range(100):
        # Queued behind a long answer: only their events matter.
        asked = Asked(
            person.tenant, conversation, f"{trial.label}-loud-{number}", f"{loud} {number}", None,
            STOPPED, 6,
        )  # fmt: skip
        if not await person.ask(asked):
            return [f"a loud message was refused: {asked.refused}"]
    cost = _rss(edge.child.pid) - before
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    try:
        code = await slow.until_closed(timeout=20)
    except TimeoutError:
        code = None
    await slow.close()
    trial.figures["slow reader"] = f"closed {code}, edge grew {cost / 2**20:.1f} MiB"
    await trial.arena.quiet(120)
    return [] if code == 4409 else [f"the slow reader was closed with {code} instead of 4409"]


def _rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


# --- H ------------------------------------------------------------------------------------------


async def twice_and_at_once(trial: Trial, run: Run) -> None:
    """H: the same message many times, many messages at once, stops at any moment (P20 to P22)."""
    await trial.gather()
    rounds = run.of(8, 100, 330)
    for number in range(rounds):
        await _same_again(trial, number)
    for _ in range(rounds):
        await _at_once(trial)
    late = [await _stopped(trial) for _ in range(rounds)]
    trial.figures["rounds"] = f"{rounds} of each"
    trial.figures["stop to end p95"] = f"{sorted(late)[int(0.95 * len(late))]:.2f} s"
    trial.extra += [f"a stop took {seconds:.1f} s" for seconds in late if seconds > STOP_SECONDS]
    trial.extra += await _second_starts(trial)


async def _same_again(trial: Trial, number: int) -> None:
    """One message through both edges at once, and again after its turn has ended."""
    persons = [p for p in trial.people if p.who == "ada" and p.tenant is trial.tenants[0]]
    person = persons[0]
    asked = trial.question(person, await trial.conversation(person), "plain")
    asked.content += " #text:3"
    asked.tokens = None
    url = f"/api/conversations/{asked.conversation}/messages"
    body = {"content": asked.content, "client_message_id": asked.client_message_id}

    async def send(index: int) -> tuple[str, str]:
        edge = trial.arena.system.edges[index % 2]
        answer = await person.tenant.team.ada.post(f"{edge.url}{url}", json=body)
        said = answer.json()
        return str(said.get("message_id", answer.status_code)), str(said.get("turn_id", ""))

    copies = trial.rng.randint(2, 20)
    answers = await asyncio.gather(*(send(index) for index in range(copies)))
    asked.message_id, asked.turn_id = answers[0]
    asked.acked_at = time.monotonic()
    await person.see_end(asked, 30)
    answers.append(await send(number))
    if len(set(answers)) != 1:
        trial.extra.append(f"{copies} copies of one message got different answers")
    other = await person.tenant.team.ada.post(url, json=body | {"content": "something else"})
    if other.status_code != 409:
        trial.extra.append(f"the same id with other words: {other.status_code} instead of 409")
    calls = sum(c.user_text == asked.content for c in trial.arena.system.model.calls)
    if calls != 1:
        trial.extra.append(f"{copies} copies of one message: {calls} calls of the model")


async def _at_once(trial: Trial) -> None:
    """Everybody sends into one conversation at the same moment; all see one order, no mixture."""
    tenant = trial.tenants[0]
    persons = [p for p in trial.people if p.tenant is tenant]
    conversation = await trial.conversation(persons[0])
    asked = [trial.question(p, conversation, "plain") for p in (*persons, *persons)]
    for each in asked:
        each.content = f"{tenant.canary} {each.client_message_id} #text:4"
        each.tokens = 4
    await asyncio.gather(
        *(trial.converse(person, each, "plain")
          for person, each in zip((*persons, *persons), asked, strict=True))
    )  # fmt: skip
    orders = [_order(person, conversation) for person in persons]
    if any(one != other for one, other in pairwise(orders)):
        trial.extra.append("people see different orders")
    for person in persons:
        if (mixed := _interleaved(person, conversation)) is not None:
            trial.extra.append(mixed)


def _order(person: Person, conversation: str) -> list[str]:
    return [
        f["data"]["message"]["id"]
        for f in person.room.frames
        if f["type"] == "message_created"
        and f["data"]["message"]["conversation_id"] == conversation
    ]


def _interleaved(person: Person, conversation: str) -> str | None:
    """Whether two turns of a conversation spoke at the same time."""
    speaking: list[str] = []
    for heard in person.room.frames:
        data = heard["data"]
        if data.get("conversation_id") != conversation or heard["type"] != "assistant_response":
            continue
        if not speaking or speaking[-1] != data["turn_id"]:
            speaking.append(data["turn_id"])
    return None if len(speaking) == len(set(speaking)) else "answers are interleaved"


async def _stopped(trial: Trial) -> float:
    """Stop a turn at a random moment; seconds until it has ended."""
    person = trial.rng.choice(trial.people)
    asked = trial.question(person, await trial.conversation(person), "stop")
    asked.content = asked.content.replace("#text:400", f"#text:{20 * TOKENS_PER_SECOND}")
    await person.ask(asked)
    await asyncio.sleep(trial.rng.uniform(0, 1.5))
    if not await person.stop(asked):
        trial.extra.append("a stop was not acked")
    pressed = time.monotonic()
    await person.see_end(asked, 20)
    ended = time.monotonic() - pressed
    frames = [f for f in person.room.frames if f["data"].get("turn_id") == asked.turn_id]
    end = next(
        (n for n, f in enumerate(frames)
         if f["type"] == "turn_status" and f["data"]["status"] == asked.status), len(frames),
    )  # fmt: skip
    if any(f["type"] == "assistant_response" for f in frames[end + 1 :]):
        trial.extra.append("a delta came after the end of a stopped turn")
    return ended


async def _second_starts(trial: Trial) -> list[str]:
    """Starting a turn's run again after its end must change nothing."""
    client = await Client.connect(trial.arena.system.temporal.address)
    runs = TurnRuns(client)
    wrong = []
    for asked in [a for a in trial.asked if a.status == "completed"][:5]:
        team = asked.tenant.team
        ref = TurnRef(team.tenant_id, team.project_id, asked.conversation, asked.turn_id)
        await runs.start(ref)
        await asyncio.sleep(0.2)
        found = [run async for run in client.list_workflows(f"WorkflowId = '{ref.workflow_id}'")]
        if len(found) != 1:
            wrong.append(f"{ref.workflow_id} has run {len(found)} times")
    return wrong
