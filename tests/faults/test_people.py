"""Three people send, steer, interrupt, stop, drop off and come back, while the worker dies.

A state machine of Hypothesis over the real system. In CI a few short examples, always the same;
``EVERTURN_TEST_EXAMPLES=200 EVERTURN_TEST_STEPS=30`` looks further, differently every time, and
shrinks what it finds.
"""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.faults.people import KINDS, NAMES, People
from tests.faults.scene import Scene

EXAMPLES = int(os.environ.get("EVERTURN_TEST_EXAMPLES", "0"))
STEPS = int(os.environ.get("EVERTURN_TEST_STEPS", "12"))
PROFILE = settings(
    max_examples=EXAMPLES or 4,
    stateful_step_count=STEPS,
    derandomize=not EXAMPLES,
    phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
# A worker that dies is missed by its heartbeats, ten seconds later: one death in an example.
DEATHS = 1

who = st.sampled_from(NAMES)
talk = st.sampled_from([0, 0, 0, 1])
busy = st.sampled_from(["enqueue", "steer", "steer", "interrupt", "reject"])


def machine(scene: Scene, linus: Any, loop: asyncio.AbstractEventLoop) -> type:
    """The machine's class, bound to a system and to the loop on which its clients live."""

    def wait(act: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(act, loop).result(timeout=110)

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.people: People | None = None
            self.deaths = 0
            self.broken = False

        def do(self, act: Coroutine[Any, Any, Any]) -> None:
            try:
                wait(act)
            except BaseException:
                self.broken = True
                raise

        @initialize()
        def gather(self) -> None:
            self.people = wait(People.gathered(scene, linus))

        @rule(who=who, talk=talk, kind=st.sampled_from(list(KINDS)), on_busy=busy)
        def send(self, who: str, talk: int, kind: str, on_busy: str) -> None:
            assert self.people
            self.do(self.people.send(who, talk, kind, on_busy))

        @rule(who=who, kind=st.sampled_from(list(KINDS)), on_busy=busy, ms=st.integers(0, 150))
        def send_soon_after(self, who: str, kind: str, on_busy: str, ms: int) -> None:
            assert self.people
            self.do(asyncio.sleep(ms / 1000))
            self.do(self.people.send(who, 0, kind, on_busy))

        @rule(which=st.integers(0, 9))
        def resend(self, which: int) -> None:
            assert self.people
            self.do(self.people.resend(which))

        @rule(who=who, which=st.integers(0, 3))
        def stop(self, who: str, which: int) -> None:
            assert self.people
            self.do(self.people.stop(who, which))

        @rule(who=who)
        def drop(self, who: str) -> None:
            assert self.people
            self.do(self.people.drop(who))

        @rule(who=who, edge=st.integers(0, 1))
        def rejoin(self, who: str, edge: int) -> None:
            assert self.people
            self.do(self.people.rejoin(who, edge))

        @precondition(lambda self: self.deaths < DEATHS and self.people and self.people.sent)
        @rule()
        def kill_worker(self) -> None:
            assert self.people
            self.deaths += 1
            self.do(self.people.replace_worker())

        def teardown(self) -> None:
            if self.people is None:
                return
            try:
                if not self.broken:
                    wait(self.people.quiet())
            finally:
                wait(self.people.leave())

    return Machine


@pytest.mark.timeout(4 * 3600 if EXAMPLES else 240)
async def test_three_people_do_what_they_please(scene: Scene) -> None:
    linus = await People.hired(scene)
    kind = machine(scene, linus, asyncio.get_running_loop())
    await asyncio.to_thread(run_state_machine_as_test, kind, settings=PROFILE)
