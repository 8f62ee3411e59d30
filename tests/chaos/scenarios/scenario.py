"""What a scenario is: a letter of the fault plan, a size, and something that happens to a trial."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.chaos.faults import Fault
from tests.chaos.load import Trial
from tests.system import Bus

SIZES = ("smoke", "nightly", "release")


@dataclass(frozen=True)
class Run:
    """How big this run is, and which part of its schedule is played.

    Attributes:
        size: Index into `SIZES`.
        schedule: Faults to play instead of drawing them, while a failure is being narrowed down.
    """

    size: int
    bus: Bus
    schedule: Sequence[Fault] | None = None

    def of(self, smoke: int, nightly: int, release: int) -> int:
        """The count that belongs to this size."""
        return (smoke, nightly, release)[self.size]


@dataclass(frozen=True)
class Scenario:
    """One set of the fault plan.

    Attributes:
        letter: As in docs/reliability.md.
        promises: What it is evidence for.
        since: Smallest size (index into `SIZES`) at which it is run unless it is asked for.
        judged: Whether the invariants are held against its trial afterwards.
    """

    letter: str
    title: str
    promises: str
    play: Callable[[Trial, Run], Awaitable[None]]
    since: int = 0
    judged: bool = True
