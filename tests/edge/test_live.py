"""What a room shows of an open turn does not depend on what was heard first."""

from typing import Any

from api.live import LiveRoom

DELTA: dict[str, Any] = {
    "conversation_id": "c", "turn_id": "t", "message_id": "m", "epoch": 1, "offset": 0,
    "content": "Hello",
}  # fmt: skip
QUEUED: dict[str, Any] = {"conversation_id": "c", "turn_id": "t", "status": "queued"}


def test_a_delta_that_overtakes_the_news_of_its_turn_is_shown_with_it() -> None:
    room = LiveRoom()
    room.text_for(DELTA).apply(DELTA)
    room.fold("turn_status", QUEUED)
    room.fold("turn_status", QUEUED | {"status": "running"})
    (entry,) = room.snapshot()
    assert (entry["message_id"], entry["content"], entry["status"]) == ("m", "Hello", "running")
    room.fold("turn_status", QUEUED | {"status": "completed"})
    assert room.snapshot() == []
