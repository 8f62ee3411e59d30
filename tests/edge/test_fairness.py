"""P35: a tenant that asks two hundred things at once keeps nobody else waiting.

Small by default; ``EVERTURN_TEST_BURST=200 EVERTURN_TEST_PLACES=20`` shows the figures (``-s``),
``EVERTURN_TEST_PACE=1000`` those without a pace.
"""

import asyncio
import os
import time
from statistics import median

import pytest

from store.limits import TenantLimits
from tests.client import RoomClient
from tests.system import System, Team, checked

PLACES = int(os.environ.get("EVERTURN_TEST_PLACES", "5"))
BURST = int(os.environ.get("EVERTURN_TEST_BURST", "60"))
PACE = int(os.environ.get("EVERTURN_TEST_PACE", str(TenantLimits().shared_turns_per_second)))
SAMPLES = int(os.environ.get("EVERTURN_TEST_SAMPLES", "5"))
# Answers of a burst come as fast as a quick model's.
ANSWER = "#text:20:50"


async def first_word(room: RoomClient, conversation: str, text: str) -> float:
    """Seconds from asking to the first word of the answer."""
    started = time.monotonic()
    ack = await room.ask(conversation, text)
    assert ack["type"] == "ack"
    turn_id = ack["data"]["turn_id"]
    await room.until(
        lambda: any(
            held.text and room.state.messages[key]["turn_id"] == turn_id
            for key, held in room.state.texts.items()
        ),
        timeout=30,
    )
    elapsed = time.monotonic() - started
    await room.turn(turn_id)
    return elapsed


def shown(seconds: list[float]) -> str:
    return f"{median(seconds):.3f} ({' '.join(f'{value:.2f}' for value in seconds)})"


@pytest.mark.timeout(180)
async def test_a_burst_runs_within_its_places_and_others_hardly_notice(
    system: System, team: Team
) -> None:
    noisy = await system.team(concurrent_turns=PLACES, shared_turns_per_second=PACE)
    talks = [await noisy.conversation() for _ in range(BURST)]
    conversation = await team.conversation()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            rows = await system.sql(
                "SELECT count(*) FROM turns WHERE tenant_id = $1::uuid AND status = 'running'",
                noisy.tenant_id,
            )
            most = max(most, rows[0][0])
            await asyncio.sleep(0.25)

    async def all_over() -> bool:
        rows = await system.sql(
            "SELECT count(*) FROM turns WHERE tenant_id = $1::uuid AND status = 'completed'",
            noisy.tenant_id,
        )
        return rows[0][0] == BURST

    async with team.room("ada", 0) as quiet:
        base = [await first_word(quiet, conversation, f"base {n} #text:3") for n in range(SAMPLES)]
        watching = asyncio.create_task(watch())
        started = time.monotonic()
        answers = asyncio.gather(
            *(
                (noisy.ada if n % 2 else noisy.grace).post(
                    f"/api/conversations/{talk}/messages",
                    json={"content": f"burst {n} {ANSWER}", "client_message_id": f"b{n}"},
                )
                for n, talk in enumerate(talks)
            )
        )
        during = [
            await first_word(quiet, conversation, f"during {n} #text:3") for n in range(SAMPLES)
        ]
        acks = [checked(answer) for answer in await answers]
        accepted = time.monotonic() - started
        assert sum(ack["status"] == "running" for ack in acks) >= PLACES
        await system.until(all_over, timeout=90)
        watching.cancel()
    print(
        f"{BURST} accepted within {accepted:.1f} s, over within {time.monotonic() - started:.1f} s"
    )
    print(f"first word: quiet {shown(base)} s, beside the burst {shown(during)} s")
    assert 1 < most <= PLACES
    # Those who waited began in the order in which they were accepted, whatever their conversations.
    rows = await system.sql(
        "SELECT admitted_at FROM turns WHERE tenant_id = $1::uuid AND admitted_at >"
        " (SELECT max(created_at) FROM turns WHERE tenant_id = $1::uuid) ORDER BY created_at, id",
        noisy.tenant_id,
    )
    admitted = [row[0] for row in rows]
    assert len(admitted) > BURST / 3
    assert admitted == sorted(admitted)
    # The bound that is promised is the benchmark's to show; here only that nobody queued up.
    assert median(during) < 2 * median(base) + 1


async def test_a_stop_while_waiting_for_a_place(system: System) -> None:
    team = await system.team(concurrent_turns=1)
    first, second = await team.conversation(), await team.conversation()
    async with team.room("ada", 0) as ada:
        running = await ada.ask(first, "runs #text:2000:20")
        waiting = await ada.ask(second, "waits #say:never")
        assert waiting["data"]["status"] == "queued"
        turn_id = waiting["data"]["turn_id"]
        checked(await team.grace.post(f"/api/turns/{turn_id}/stop"))
        assert await ada.turn(turn_id, timeout=3) == "cancelled"
        after = await ada.ask(second, "after #say:after")
        # What is deleted gives its place back.
        checked(await team.ada.delete(f"/api/conversations/{first}"))
        assert await ada.turn(after["data"]["turn_id"], timeout=8) == "completed"
        assert running["data"]["status"] == "running"
        assert system.model.calls_for("waits #say:never") == []


async def test_housekeeping_fills_places_that_a_raised_limit_made(system: System) -> None:
    team = await system.team(concurrent_turns=1)
    talks = [await team.conversation() for _ in range(3)]
    async with team.room("ada", 0) as ada:
        running, *waiting = [await ada.ask(talk, "raise #text:2000:20") for talk in talks]
        limits = {"concurrent_turns": 3}
        checked(await team.admin.patch("/api/admin/tenant", json={"limits": limits}))
        for ack in waiting:
            assert ack["data"]["status"] == "queued"
            await ada.turn(ack["data"]["turn_id"], "running", timeout=20)
        for ack in (running, *waiting):
            checked(await team.ada.post(f"/api/turns/{ack['data']['turn_id']}/stop"))
