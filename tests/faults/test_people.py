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
    rule,
    run_state_machine_as_test,
)

from tests.faults.people import KINDS, NAMES, People
from tests.faults.scene import Scene

EXAMPLES = int(os.environ.get("EVERTURN_TEST_EXAMPLES", "0"))
STEPS = int(os.environ.get("EVERTURN_TEST_STEPS", "15"))
PROFILE = settings(
    max_examples=EXAMPLES or 8,
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

# One rule with weights instead of many: most examples are to be full of messages.
ACTS = ("send",) * 6 + ("hesitate", "rejoin", "kill") * 2 + ("stop", "stop", "drop", "resend")


def machine(
    scene: Scene, linus: Any, loop: asyncio.AbstractEventLoop, failures: list[Exception]
) -> type:
    """The machine's class, bound to a system and to the loop on which its clients live.

    Args:
        failures: Filled with what went wrong first: in a real system the same steps may go well
            when Hypothesis repeats them, and it would then speak of that instead.
    """

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
            except Exception as exc:
                self.broken = True
                failures.append(exc)
                raise

        @initialize()
        def gather(self) -> None:
            self.people = wait(People.gathered(scene, linus))

        @rule(
            act=st.sampled_from(ACTS),
            who=st.sampled_from(NAMES),
            talk=st.sampled_from([0, 0, 0, 1]),
            kind=st.sampled_from(list(KINDS)),
            on_busy=st.sampled_from(["enqueue", "steer", "steer", "interrupt", "reject"]),
            number=st.integers(0, 9),
        )
        def act(self, act: str, who: str, talk: int, kind: str, on_busy: str, number: int) -> None:
            people = self.people
            assert people is not None
            match act:
                case "send":
                    self.do(people.send(who, talk, kind, on_busy))
                case "hesitate":
                    self.do(asyncio.sleep(number / 40))
                case "resend":
                    self.do(people.resend(number))
                case "stop":
                    self.do(people.stop(who, number))
                case "drop":
                    self.do(people.drop(who))
                case "rejoin":
                    self.do(people.rejoin(who, number % 2))
                case "kill" if people.sent and self.deaths < DEATHS:
                    self.deaths += 1
                    self.do(people.replace_worker())

        def teardown(self) -> None:
            if self.people is None:
                return
            print(f"{len(self.people.sent)} messages, {self.deaths} deaths")
            try:
                if not self.broken:
                    self.do(self.people.quiet())
            finally:
                wait(self.people.leave())

    return Machine


@pytest.mark.timeout(4 * 3600 if EXAMPLES else 240)
async def test_three_people_do_what_they_please(scene: Scene) -> None:
    linus = await People.hired(scene)
    failures: list[Exception] = []
    kind = machine(scene, linus, asyncio.get_running_loop(), failures)
    try:
        await asyncio.to_thread(run_state_machine_as_test, kind, settings=PROFILE)
    except Exception as exc:
        raise failures[0] if failures else exc from exc
