"""Set A, second half: processes die at ten named moments, each microseconds wide (K1 to K10)."""

import asyncio
import time

from tests.chaos.arena import Injected
from tests.chaos.load import Trial
from tests.chaos.people import Person
from tests.chaos.scenarios.scenario import Run

# Point → the part that passes it, and the kind of question that leads there.
POINTS = {
    "K1": ("edge", "plain"),  # message stored, run not started
    "K2": ("edge", "plain"),  # run started, ack not sent
    "K4": ("worker", "plain"),  # in the middle of the stream
    "K5": ("worker", "plain"),  # last delta sent, final text not stored
    "K6": ("worker", "effect"),  # tool claimed, effect not begun
    "K7": ("worker", "effect"),  # effect done, outcome not stored
    "K8": ("worker", "effect"),  # outcome stored, activity not completed
    "K9": ("worker", "plain"),  # final text stored, bus not told
    "K10": ("worker", "plain"),  # bus told, activity not completed
}
DIES_WITHIN_SECONDS = 30.0
MOST_QUESTIONS = 40


async def points(trial: Trial, run: Run) -> None:
    """Let the process that reaches a point die there, again and again."""
    await trial.gather()
    await trial.measure(run.of(2, 4, 8))
    # Over PostgreSQL the commit itself tells the bus, and nothing lies between.
    names = [name for name in POINTS if name != "K9" or run.bus == "nats"]
    struck = dict.fromkeys([*names, "K3"], 0)
    rounds = run.of(1, 6, 100)
    talk: set[asyncio.Task[None]] = set()
    for _ in range(rounds):
        for part in ("worker", "edge"):
            index = trial.rng.randrange(2)
            here = [name for name in names if POINTS[name][0] == part]
            for name in trial.rng.sample(here, len(here)):
                struck[name] += await _strike(trial, name, f"{part}{index}", talk)
            await trial.arena.restart(f"{part}{index}")
        struck["K3"] += await _strike_before_the_first_byte(trial, talk)
    await asyncio.gather(*talk)
    missed = [name for name, count in struck.items() if count < rounds]
    trial.figures["died at"] = " ".join(f"{name}×{count}" for name, count in struck.items())
    trial.extra += [f"nobody died at {name} in every round" for name in missed]


def _talk(trial: Trial, kind: str, talk: set[asyncio.Task[None]], edge: int | None) -> None:
    """Somebody asks, through a given edge if that is where somebody is to die."""
    person = trial.rng.choice(trial.people)

    async def converse() -> None:
        asker = person
        if edge is not None:
            asker = Person(trial.arena, person.tenant, person.who, edge)
            await asker.arrive()
        asked = trial.question(asker, await trial.conversation(asker), kind)
        await trial.converse(asker, asked, kind)
        if asker is not person:
            await asker.leave()

    talk.add(asyncio.create_task(converse()))


async def _strike(trial: Trial, name: str, part: str, talk: set[asyncio.Task[None]]) -> bool:
    """Start a process that dies at the point, and ask until it has; it stays dead."""
    kind, question = POINTS[name]
    index = int(part[-1])
    arena = trial.arena
    began = time.monotonic()
    if arena.child(part).alive:
        await arena.system.kill(arena.child(part))
    armed = {"FAULT_POINT": f"{name}:{trial.rng.randint(1, 3)}"}
    if kind == "edge":
        await arena.start_edge(index, **armed)
    else:
        await arena.start_worker(index, **armed)
    child = arena.child(part)
    for _ in range(MOST_QUESTIONS):
        if not child.alive or time.monotonic() > began + DIES_WITHIN_SECONDS:
            break
        _talk(trial, question, talk, index if kind == "edge" else None)
        await asyncio.sleep(0.4)
    died = not child.alive
    if not died:
        await arena.system.kill(child)
    arena.injected.append(Injected(f"kill {part} at {name}", began, time.monotonic()))
    return died


async def _strike_before_the_first_byte(trial: Trial, talk: set[asyncio.Task[None]]) -> bool:
    """K3: the request is with the model's server, and nothing has come back."""
    arena = trial.arena
    began = time.monotonic()
    person = trial.rng.choice(trial.people)
    asked = trial.question(person, await trial.conversation(person), "plain")
    asked.content += " #hang"

    async def asked_for() -> bool:
        return any(call.user_text == asked.content for call in arena.system.model.calls)

    talk.add(asyncio.create_task(trial.converse(person, asked, "plain")))
    await arena.system.until(asked_for, timeout=30)
    for index in range(len(arena.system.workers)):
        await arena.system.kill(arena.child(f"worker{index}"))
    for index in range(len(arena.system.workers)):
        await arena.restart(f"worker{index}")
    arena.injected.append(Injected("kill all workers at K3", began, time.monotonic()))
    return True
