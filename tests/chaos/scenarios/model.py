"""Set F: everything a model server is known to do, while the neighbours are served as ever."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.load import ANSWERED, Trial
from tests.chaos.scenarios.scenario import Run

FAILED = frozenset({"failed"})
EITHER = ANSWERED | FAILED
# More at once would measure what two cores can do, not whether tenants wait for each other.
AT_ONCE = 6


@dataclass(frozen=True)
class Shape:
    """One way of a model's server: its marker, how the turn may end, and what it may cost.

    Attributes:
        tokens: Length of the right answer; None where there is none or its text has no numbers.
        most_calls: Requests that one question may lead to.
    """

    name: str
    marker: str
    expected: frozenset[str]
    most_calls: int
    tokens: int | None = 12


TEXT = "#text:12:60"
SHAPES: Sequence[Shape] = (
    Shape("plain", TEXT, ANSWERED, 1),
    Shape("busy twice", f"#429:2 {TEXT}", ANSWERED, 3),
    Shape("busy, and says when", f"#429:1:2 {TEXT}", ANSWERED, 2),
    Shape("broken twice", f"#500:2 {TEXT}", ANSWERED, 3),
    Shape("always 401", "#status:401", FAILED, 1, None),
    Shape("always 400", "#status:400", FAILED, 1, None),
    Shape("an HTML page once", f"#html {TEXT}", ANSWERED, 2),
    Shape("an error inside a 200 once", f"#error200 {TEXT}", ANSWERED, 2),
    Shape("cut at once", f"#cut:0 {TEXT}", ANSWERED, 2),
    Shape("cut early", f"#cut:1 {TEXT}", ANSWERED, 2),
    Shape("cut late", f"#cut:11 {TEXT}", ANSWERED, 2),
    Shape("no [DONE]", f"#nodone {TEXT}", ANSWERED, 1),
    Shape("split surrogates", "#split", ANSWERED, 1, None),
    Shape("joined emoji", "#emoji", ANSWERED, 1, None),
    Shape("length", f"#length {TEXT}", ANSWERED, 1),
    Shape("an unknown tool", f'#tool:rm_rf:{{"x":1}} {TEXT}', ANSWERED, 2),
    Shape("arguments that are no object", f"#tool:look:[1] {TEXT}", ANSWERED, 2),
    Shape("arguments of a wrong kind", f'#tool:look:{{"key":7}} {TEXT}', ANSWERED, 2),
    Shape("tools for ever", '#loop:look:{"key":"loop","seconds":0}', FAILED, 16, None),
    Shape("two tools at once", f"#tool:list_datasources:{{}} #tool:list_datasources:{{}} {TEXT}",
          ANSWERED, 2),
    Shape("arguments that do not parse, once", f"#badjson:1 {TEXT}", ANSWERED, 2),
    Shape("arguments that never parse", f"#badjson {TEXT}", FAILED, 3, None),
    Shape("a call cut by its length, once", f"#lengthcall:1 {TEXT}", ANSWERED, 2),
    Shape("too long a context", f"#ctx:1 {TEXT}", FAILED, 2, None),
    Shape("silent once", f"#hang {TEXT}", ANSWERED, 2),
    Shape("byte by byte, once", f"#drip {TEXT}", ANSWERED, 2),
    Shape("comments alone, once", f"#keepalive {TEXT}", ANSWERED, 2),
    Shape("cut inside a character", f"#cutbytes:300 {TEXT}", ANSWERED, 2),
    *(
        Shape(f"{name} once", f"#{name} {TEXT}", EITHER, 2)
        for name in ("emptychoices", "noreason", "nocalls", "junk", "badutf8", "nullchunk",
                     "gzipjunk", "redirect", "wrongtype", "emptybody", "halfobject", "errorobject")
    ),
)  # fmt: skip


async def matrix(trial: Trial, run: Run) -> None:
    """Every shape a few times in one tenant, plain questions in the other (P10 to P16, I14)."""
    await trial.gather()
    await trial.measure(run.of(4, 12, 20))
    troubled, calm = trial.tenants[0], trial.tenants[1]
    sick = [p for p in trial.people if p.tenant is troubled]
    well = [p for p in trial.people if p.tenant is calm]
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, shape: Shape) -> None:
        async with slots:
            person = sick[number % len(sick)]
            asked = trial.question(person, await trial.conversation(person), "plain")
            asked.content = f"{troubled.canary} {asked.client_message_id} {shape.marker}"
            asked.tokens, asked.expected = shape.tokens, shape.expected
            asked.most_calls = shape.most_calls
            await trial.converse(person, asked, "plain")

    neighbours: list[float] = []

    over = asyncio.Event()

    async def meanwhile() -> None:
        number = 0
        while not over.is_set():
            person = well[number % len(well)]
            number += 1
            asked = trial.question(person, await trial.conversation(person), "plain")
            await trial.converse(person, asked, "plain")
            if asked.ended_at:
                neighbours.append(asked.ended_at - asked.acked_at)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(meanwhile())
    times = run.of(1, 10, 50)
    await asyncio.gather(*(one(number, shape) for number in range(times) for shape in SHAPES))
    over.set()
    await watching
    trial.figures["shapes"] = f"{len(SHAPES)} × {times}"
    trial.judge_neighbours("neighbours", trial.baseline, neighbours, run.size)
