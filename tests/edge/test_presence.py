"""Who is here is told seldom, only when it has changed, and never without end."""

import asyncio
import uuid
from typing import Any

import pytest

from api import presence
from api.presence import MAX_SHOWN, Presence
from store.principal import Principal


def person(name: str) -> Principal:
    return Principal(uuid.uuid4(), uuid.uuid4(), "", name, "member", False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(presence, "SECONDS_PER_SOCKET", 0.0)


async def test_a_crowd_is_told_of_once() -> None:
    told: list[dict[str, Any]] = []
    room = Presence(told.append)
    people = [person(str(number)) for number in range(MAX_SHOWN + 50)]
    for each in people:
        room.enter(each)
        room.enter(each)
    await asyncio.sleep(0.1)
    (only,) = told
    assert only["total"] == len(people)
    assert [user["name"] for user in only["users"]] == [str(n) for n in range(MAX_SHOWN)]
    for each in people[1:]:
        room.leave(each)
    await asyncio.sleep(0.1)
    # The second socket of each is still here.
    assert len(told) == 1
    for each in people[1:]:
        room.leave(each)
    await asyncio.sleep(0.1)
    assert told[1:] == [{"users": [{"id": str(people[0].user_id), "name": "0"}], "total": 1}]


async def test_a_reload_is_not_told() -> None:
    told: list[dict[str, Any]] = []
    room = Presence(told.append)
    ada = person("Ada")
    room.enter(ada)
    await asyncio.sleep(0.1)
    room.leave(ada)
    room.enter(ada)
    await asyncio.sleep(0.1)
    assert len(told) == 1
    room.leave(ada)
    room.close()
    await asyncio.sleep(0.1)
    assert len(told) == 1
