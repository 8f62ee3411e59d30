"""What people do while the system is being hurt: a seeded mix of questions at a steady rate."""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.chaos.arena import Arena, Tenant
from tests.chaos.faults import Fault
from tests.chaos.people import Asked, Person

ANSWERED = frozenset({"completed"})
STOPPED = frozenset({"cancelled", "completed"})
# After the last fault is undone, a turn may still need a heartbeat timeout and its whole text.
END_SECONDS = 60.0
# Of a hundred questions: plain, one tool, three tools, an effect, one that is stopped.
MIX = {"plain": 50, "tool": 15, "tools": 5, "effect": 20, "stop": 10}
TOKENS, TOKENS_PER_SECOND = 30, 40


@dataclass
class Trial:
    """One scenario on one arena: what was asked, by whom, under which faults, and what came of it.

    Attributes:
        baseline: Seconds from ack to end of undisturbed turns, measured in the same run.
        figures: What the report prints beside the verdict.
        extra: Violations that the scenario itself has found.
    """

    arena: Arena
    rng: random.Random
    label: str
    tenants: list[Tenant] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    schedule: Sequence[Fault] = ()
    began: float = field(default_factory=time.monotonic)
    baseline: list[float] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    checks: dict[str, list[str]] = field(default_factory=dict)

    # --- people ---------------------------------------------------------------------------------

    async def gather(self, persons: int = 2) -> None:
        """A fresh project in each tenant, with people in its room on alternating edges."""
        for tenant in self.arena.tenants:
            fresh = replace(tenant, team=await tenant.team.elsewhere(self.label))
            self.tenants.append(fresh)
            for number in range(persons):
                who = ("ada", "grace")[number % 2]
                person = Person(self.arena, fresh, who, len(self.people))
                await person.arrive()
                self.people.append(person)

    async def disperse(self) -> None:
        """Everybody leaves."""
        await asyncio.gather(*(person.leave() for person in self.people))

    # --- questions ------------------------------------------------------------------------------

    def question(self, person: Person, conversation: str, kind: str) -> Asked:
        """A question whose right answer is known."""
        number = len(self.asked)
        cid = f"{self.label}-{number:05}-{self.rng.randrange(16**6):06x}"
        text = f"#text:{TOKENS}:{TOKENS_PER_SECOND}"
        tokens: int | None = TOKENS
        expected, calls = ANSWERED, 1
        if kind == "stop":
            text, tokens, expected = f"#text:400:{TOKENS_PER_SECOND}", None, STOPPED
        elif kind != "plain":
            tool = "pay" if kind == "effect" else "look"
            errands = [
                {"key": f"{cid}.{place}", "seconds": round(self.rng.uniform(0.05, 0.6), 2)}
                for place in range(3 if kind == "tools" else 1)
            ]
            marks = [f"#tool:{tool}:{json.dumps(e, separators=(',', ':'))}" for e in errands]
            text, calls = " ".join([*marks, text]), 2
        asked = Asked(
            person.tenant, conversation, cid, f"{person.tenant.canary} {cid} {text}", tokens,
            expected, calls * 6,
        )  # fmt: skip
        self.asked.append(asked)
        return asked

    async def converse(self, person: Person, asked: Asked, kind: str) -> None:
        """Ask, press stop where that is the plan, and watch until the end."""
        if not await person.ask(asked):
            return
        if kind == "stop":
            await asyncio.sleep(self.rng.uniform(0, 1.5))
            await person.stop(asked)
        await person.see_end(asked, END_SECONDS + 60)

    async def measure(self, count: int) -> None:
        """Ask `count` plain questions without faults."""
        for number in range(count):
            person = self.people[number % len(self.people)]
            asked = self.question(person, await self.conversation(person), "plain")
            await self.converse(person, asked, "plain")
            if asked.ended_at:
                self.baseline.append(asked.ended_at - asked.acked_at)

    async def load(self, count: int, rate: float, mix: dict[str, int] | None = None) -> None:
        """Ask `count` questions, `rate` a second, and return when all have ended or given up."""
        mix = mix or MIX
        conversations: dict[Person, list[str]] = {person: [] for person in self.people}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                person = self.rng.choice(self.people)
                kind = self.rng.choices(list(mix), list(mix.values()))[0]
                tasks.create_task(self._one(person, conversations[person], kind))
                await asyncio.sleep(self.rng.expovariate(rate))

    async def _one(self, person: Person, known: list[str], kind: str) -> None:
        # Now and then in a conversation that may be busy: then it waits its turn there.
        if known and self.rng.random() < 0.2:
            conversation = self.rng.choice(known)
        else:
            conversation = await self.conversation(person)
            known.append(conversation)
        await self.converse(person, self.question(person, conversation, kind), kind)

    async def conversation(self, person: Person) -> str:
        """A new conversation, asked for until an edge gives one."""
        team = person.tenant.team
        for _ in range(300):
            for edge in self.arena.system.edges:
                try:
                    answer = await team.ada.post(
                        f"{edge.url}/api/projects/{team.project_id}/conversations",
                        json={"title": self.label},
                    )
                except Exception:  # noqa: BLE001 -- whatever is broken now, it is asked again
                    continue
                if answer.is_success:
                    return str(answer.json()["id"])
            await asyncio.sleep(0.2)
        raise AssertionError("no edge made a conversation within a minute")

    # --- figures --------------------------------------------------------------------------------

    @property
    def delays(self) -> list[float]:
        """Seconds from ack to end, of the disturbed questions that ended."""
        calm = len(self.baseline)
        return [a.ended_at - a.acked_at for a in self.asked[calm:] if a.ended_at and a.acked_at]

    def judge_neighbours(
        self, what: str, quiet: Sequence[float], beside: Sequence[float], size: int
    ) -> None:
        """I14: hold seconds beside a tenant in trouble against those without; reports both.

        A handful of answers, as in the smoke size, has no tail worth judging: there the medians
        are compared. A second is what two cores of a busy machine may cost anybody.
        """
        share = 0.5 if size == 0 else 0.95
        base, now = quantile(quiet, share), quantile(beside, share)
        self.figures[f"{what}, p50 / p95"] = f"{_p50_p95(quiet)} → {_p50_p95(beside)}"
        harmed = now > max(2 * base, base + 1.0)
        self.checks["I14"] = [f"{what}: {base:.2f} → {now:.2f} s"] if harmed else []

    def summarise(self) -> None:
        """Count what happened."""
        ended = [a for a in self.asked if a.status]
        right = [a for a in ended if a.status in a.expected]
        self.figures["asked"] = str(len(self.asked))
        self.figures["as expected"] = f"{len(right)}/{len(self.asked)}"
        self.figures["resends"] = str(sum(max(0, a.sends - 1) for a in self.asked))
        self.figures["refetches"] = str(sum(p.room.refetched for p in self.people))
        if self.baseline:
            self.figures["quiet p50/p95"] = _p50_p95(self.baseline)
        if self.delays:
            self.figures["p50/p95"] = _p50_p95(self.delays)
        returns = [seconds for person in self.people for seconds in person.returns]
        if returns:
            self.figures["reconnects"] = f"{len(returns)}, p95 {quantile(returns, 0.95):.2f} s"


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _p50_p95(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} / {quantile(values, 0.95):.2f} s"
