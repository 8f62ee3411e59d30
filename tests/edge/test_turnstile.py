"""A tenant's burst waits at its own turnstile."""

import asyncio
from uuid import uuid4

import pytest

from api.turnstile import Turnstile
from store.errors import Unavailable


async def test_so_many_at_once_in_order_and_others_pass() -> None:
    turnstile, tenant, other = Turnstile(2, 5), uuid4(), uuid4()
    going_on, order, inside, most = asyncio.Event(), [], 0, 0

    async def pass_through(number: int) -> None:
        nonlocal inside, most
        async with turnstile.passed(tenant):
            inside += 1
            most = max(most, inside)
            order.append(number)
            await going_on.wait()
            inside -= 1

    burst = [asyncio.create_task(pass_through(number)) for number in range(6)]
    await asyncio.sleep(0.01)
    assert order == [0, 1]
    async with turnstile.passed(other):
        going_on.set()
    await asyncio.gather(*burst)
    assert (order, most) == (list(range(6)), 2)


async def test_who_waits_too_long_is_told_so_and_leaves_nothing_behind() -> None:
    turnstile, tenant = Turnstile(1, 0.05), uuid4()
    async with turnstile.passed(tenant):
        with pytest.raises(Unavailable) as refused:
            async with turnstile.passed(tenant):
                raise AssertionError("it was let through")
    assert refused.value.retry_after == 1
    async with turnstile.passed(tenant):
        pass


async def test_an_error_inside_or_a_cancel_outside_frees_the_place() -> None:
    turnstile, tenant = Turnstile(1, 5), uuid4()
    with pytest.raises(ZeroDivisionError):
        async with turnstile.passed(tenant):
            raise ZeroDivisionError
    async with turnstile.passed(tenant):
        waiting = asyncio.create_task(turnstile.passed(tenant).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with turnstile.passed(tenant):
        pass
