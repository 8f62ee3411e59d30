"""P24: processes whose clocks are wrong: order and expiry go by the database's."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.client import essence, fetch
from tests.system import System, Team, checked

OFFSETS = {"slow": "-1h", "fast": "+90s", "far": "+1h"}


@pytest.fixture(scope="session")
def library() -> Path:
    """libfaketime, which shifts what a process believes."""
    found = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if found is None:
        assert not os.environ.get("EVERTURN_REQUIRE_FAKETIME"), "faketime is missing"
        pytest.skip("faketime is not installed")
    return found


def shifted(library: Path, offset: str) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }  # fmt: skip


@pytest.mark.parametrize("offset", sorted(OFFSETS))
async def test_an_edge_with_a_wrong_clock(
    system: System, team: Team, library: Path, offset: str
) -> None:
    edge = await system.start_edge(**shifted(library, OFFSETS[offset]))
    system.edges.append(edge)
    try:
        conversation = await team.conversation()
        async with team.room("ada", -1) as wrong, team.room("grace", 0) as right:
            asked = []
            for number in range(3):
                for room, who in ((wrong, "wrong"), (right, "right")):
                    ack = await room.ask(conversation, f"{who} {number} #say:ok")
                    assert ack["type"] == "ack", ack
                    asked.append(ack["data"]["turn_id"])
                    await right.turn(ack["data"]["turn_id"])
            await wrong.turn(asked[-1])
            page = checked(await team.ada.get(f"/api/conversations/{conversation}/messages"))
            questions = [m for m in page["items"] if m["role"] == "user"]
            assert [m["turn_id"] for m in questions] == asked
            times = [datetime.fromisoformat(m["created_at"]) for m in questions]
            assert times == sorted(times)
            assert abs(datetime.now(UTC) - times[-1]) < timedelta(seconds=60)
            assert essence(wrong.state) == essence(await fetch(team.ada, team.project_id))
            assert wrong.refetched == wrong.rejoined == 0
        await expiry(system, team)
    finally:
        system.edges.remove(edge)
        await edge.child.stop()


async def expiry(system: System, team: Team) -> None:
    """Sessions, tokens, tickets and links live as long at the wrong edge as at the right one."""
    at = f"{system.edges[-1].url}/api"
    now = datetime.now(UTC)
    soon, past = now + timedelta(minutes=10), now - timedelta(minutes=10)
    cookies = dict(team.ada.cookies.items())
    headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
    headers["Origin"] = system.edges[-1].url
    assert checked(await team.ada.get(f"{at}/auth/me", headers=headers))["user"]
    body = {"name": "t", "scopes": ["read"]}
    made = await team.ada.post(
        f"{at}/auth/tokens", json=body | {"expires_at": soon.isoformat()}, headers=headers
    )
    bearer = {"Authorization": f"Bearer {checked(made)['token']}"}
    assert checked(await team.ada.get(f"{at}/auth/me", headers=bearer))
    old = body | {"expires_at": past.isoformat()}
    refused = await team.ada.post(f"{at}/auth/tokens", json=old, headers=headers)
    assert refused.status_code == 422
    # A link that the right edge has made is good at the wrong one.
    link = checked(await team.admin.post(f"/api/admin/users/{team.people['grace']}/link"))
    token = link["url"].rpartition("/")[2]
    path = f"{at}/auth/password-reset/{token}"
    assert (
        await team.ada.post(path, json={"password": "another long password"})
    ).status_code == 204


async def test_a_worker_with_a_wrong_clock(system: System, team: Team, library: Path) -> None:
    """Alone, an hour ahead: turns run, stop and end as ever."""
    right = system.workers.pop()
    await right.stop()
    wrong = await system.start_worker(**shifted(library, "+1h"))
    try:
        async with team.room() as room:
            conversation = await team.conversation()
            for text in ("#text:20:40", "#429:1:1 #text:5", "#tool:list_datasources:{} #say:ok"):
                ack = await room.ask(conversation, f"ahead {text}")
                assert await room.turn(ack["data"]["turn_id"], timeout=60) == "completed"
            ack = await room.ask(conversation, "ahead #text:2000:20")
            turn_id = ack["data"]["turn_id"]
            await room.until(lambda: any(len(t.text) > 200 for t in room.state.texts.values()))
            await room.send("stop_turn", {"turn_id": turn_id})
            assert await room.turn(turn_id, timeout=20) == "cancelled"
            turn = checked(await team.ada.get(f"/api/turns/{turn_id}"))
            assert abs(datetime.now(UTC) - datetime.fromisoformat(turn["finished_at"])) < timedelta(
                seconds=60
            )
    finally:
        await wrong.stop()
        system.workers.append(await system.start_worker())
