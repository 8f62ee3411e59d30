"""Many questions, few statements; and what becomes of those that cannot be answered."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy.exc import OperationalError

from api import lookups
from api.lookups import MAX_BATCH, Batched
from store.errors import Unavailable


class Asked:
    """Squares numbers, slowly, and remembers who asked together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.at_once = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.batches.append(list(keys))
        self.at_once += 1
        assert self.at_once == 1, "one statement at a time"
        await self.gate.wait()
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return {key: key * key for key in keys if key >= 0}


async def test_a_crowd_shares_statements() -> None:
    asked = Asked()
    batched = Batched(asked)
    numbers = list(range(1_200))
    answers = await asyncio.gather(*(batched.get(number) for number in numbers))
    assert answers == [number * number for number in numbers]
    assert len(asked.batches) <= 4
    assert max(map(len, asked.batches)) <= MAX_BATCH
    assert await batched.get(-1) is None


async def test_an_answer_is_never_older_than_its_question() -> None:
    asked = Asked()
    batched = Batched(asked)
    asked.gate.clear()
    first = asyncio.ensure_future(batched.get(7))
    await asyncio.sleep(0.01)
    # The first statement is on its way: what is asked now is asked anew, although it is the same.
    second = asyncio.ensure_future(batched.get(7))
    await asyncio.sleep(0.01)
    asked.gate.set()
    assert await asyncio.gather(first, second) == [49, 49]
    assert asked.batches == [[7], [7]]


async def test_who_gives_up_takes_nobody_along() -> None:
    asked = Asked()
    batched = Batched(asked)
    asked.gate.clear()
    impatient, patient = (asyncio.ensure_future(batched.get(3)) for _ in range(2))
    await asyncio.sleep(0.01)
    impatient.cancel()
    asked.gate.set()
    assert await patient == 9


async def test_a_database_that_is_away_is_a_refusal_with_a_moment_to_come_back() -> None:
    asked = Asked()
    batched = Batched(asked)
    asked.failure = OperationalError("", {}, ConnectionRefusedError())
    refused = await asyncio.gather(
        *(batched.get(number) for number in range(50)), return_exceptions=True
    )
    waits = {each.retry_after for each in refused if isinstance(each, Unavailable)}
    # Not all at the same moment.
    assert len(waits) > 40
    asked.failure = None
    assert await batched.get(5) == 25
    asked.failure = ZeroDivisionError()
    with pytest.raises(RuntimeError):
        await batched.get(6)


async def test_waiting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_WAITING", 10)
    monkeypatch.setattr(lookups, "PATIENCE_SECONDS", 0.2)
    asked = Asked()
    batched = Batched(asked)
    asked.gate.clear()
    answers = await asyncio.gather(
        *(batched.get(number) for number in range(30)), return_exceptions=True
    )
    assert all(isinstance(answer, Unavailable) for answer in answers)
    asked.gate.set()
    assert await batched.get(100) == 10_000
    # Of those who had to go, no more than the line holds was asked for in vain.
    assert sum(map(len, asked.batches)) <= 21
