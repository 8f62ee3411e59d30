"""Boot, baseline, load under faults, heal, wait for quiet, judge, report; narrow down a failure."""

import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import invariants, report
from tests.chaos.arena import Arena, arena
from tests.chaos.faults import Fault
from tests.chaos.load import Trial
from tests.chaos.scenarios.index import chosen
from tests.chaos.scenarios.scenario import SIZES, Run, Scenario
from tests.system import Bus

QUIET_SECONDS = 120.0
TENANTS = (2, 4, 20)
# Narrowing a failure down reruns it, each time on a fresh system: this often, at most.
MOST_RERUNS = 6


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    size: str = "smoke"
    seed: int = 1
    sets: Sequence[str] = ()
    bus: Bus = "postgres"
    shrink: bool = True
    keep: str | None = None


@dataclass
class Verdict:
    """One scenario's outcome; `wrong` has the violations by invariant, empty lists for passes."""

    scenario: Scenario
    seed: int
    seconds: float
    wrong: dict[str, list[str]]
    figures: dict[str, str]
    schedule: Sequence[Fault] = ()
    shrunk: Sequence[Fault] | None = None
    tail: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return not any(self.wrong.values())


async def run(options: Options) -> int:
    """Run scenarios on one system; returns the exit code."""
    scenarios = chosen(options.sets, SIZES.index(options.size))
    print(
        f"chaos: size {options.size}, seed {options.seed}, bus {options.bus},"
        f" sets {' '.join(s.letter for s in scenarios)}", flush=True,
    )  # fmt: skip
    began = time.monotonic()
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        rng = random.Random(options.seed)
        tenants = TENANTS[SIZES.index(options.size)]
        async with arena(Path(folder), rng, tenants=tenants, bus=options.bus) as place:
            for scenario in scenarios:
                verdict = await _scenario(place, scenario, options, None)
                verdicts.append(verdict)
                report.show(verdict)
    for verdict in verdicts:
        if not verdict.passed and verdict.schedule and options.shrink:
            verdict.shrunk = await _shrink(verdict, options)
    report.table(verdicts)
    if options.keep:
        _keep(Path(options.keep), options, verdicts)
    failed = sum(not verdict.passed for verdict in verdicts)
    print(f"chaos took {time.monotonic() - began:.0f} s")
    print(f"{len(verdicts) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


async def _scenario(
    place: Arena, scenario: Scenario, options: Options, schedule: Sequence[Fault] | None
) -> Verdict:
    # Its own stream of chances: a scenario that is run alone draws the same faults.
    rng = random.Random(f"{options.seed}/{scenario.letter}")
    trial = Trial(place, rng, f"{scenario.letter.lower()}{options.seed}")
    began = time.monotonic()
    first_line = len(place.log)
    try:
        await scenario.play(trial, Run(SIZES.index(options.size), options.bus, schedule))
        await place.heal()
        if not await place.quiet(QUIET_SECONDS):
            trial.extra.append(f"turns are open {QUIET_SECONDS:.0f} s after healing")
        if scenario.judged:
            await invariants.judge(trial)
    except Exception as broken:  # noqa: BLE001 -- whatever it is, it is the verdict
        trial.extra.append(_innermost(broken))
        await _heal_anyway(place, trial)
    finally:
        await trial.disperse()
    trial.summarise()
    wrong = dict(trial.checks)
    if trial.extra:
        wrong["scenario"] = trial.extra
    verdict = Verdict(
        scenario, options.seed, time.monotonic() - began, wrong, trial.figures, trial.schedule
    )
    if not verdict.passed:
        verdict.tail = list(place.log[first_line:])
    return verdict


async def _heal_anyway(place: Arena, trial: Trial) -> None:
    try:
        await place.heal()
    except Exception as broken:  # noqa: BLE001 -- the next scenario will tell
        trial.extra.append(f"could not be healed: {_innermost(broken)}")


def _innermost(broken: BaseException) -> str:
    while isinstance(broken, BaseExceptionGroup):
        broken = broken.exceptions[0]
    return f"{type(broken).__name__}: {broken}"


async def _shrink(verdict: Verdict, options: Options) -> Sequence[Fault] | None:
    """Fewer faults that still break it: first the same again twice, then halves.

    Returns:
        The smallest schedule that failed again; None when it did not fail again.
    """
    reruns = 0

    async def fails(schedule: Sequence[Fault]) -> bool:
        nonlocal reruns
        reruns += 1
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            rng = random.Random(options.seed)
            async with arena(Path(folder), rng, tenants=TENANTS[0], bus=options.bus) as place:
                again = await _scenario(place, verdict.scenario, options, schedule)
        print(f"  rerun with {len(schedule)} faults: {'held' if again.passed else 'failed'}")
        return not again.passed

    smallest = list(verdict.schedule)
    if not await fails(smallest) and not await fails(smallest):
        return None
    while len(smallest) > 1 and reruns < MOST_RERUNS:
        half = len(smallest) // 2
        for part in (smallest[:half], smallest[half:]):
            if reruns < MOST_RERUNS and await fails(part):
                smallest = part
                break
        else:
            break
    return smallest


def _keep(folder: Path, options: Options, verdicts: Sequence[Verdict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{options.size}-{options.seed}-{options.bus}"
    rows = [
        {
            "set": v.scenario.letter, "title": v.scenario.title, "seconds": round(v.seconds, 1),
            "passed": v.passed, "wrong": {k: w for k, w in v.wrong.items() if w},
            "figures": v.figures, "schedule": [str(f) for f in v.schedule],
            "shrunk": [str(f) for f in v.shrunk] if v.shrunk is not None else None,
        }
        for v in verdicts
    ]  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    for v in verdicts:
        if v.tail:
            (folder / f"{name}-{v.scenario.letter}.log").write_text("\n".join(v.tail))
