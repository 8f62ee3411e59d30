"""Frames that are not kept: deltas of a streaming answer, and what people do right now."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from store.wire import encode

# A delta frame must fit one notice (store.bus.MAX_BODY_BYTES). 1,200 code points take at most
# 7,200 bytes as JSON (a control character takes six), beside about 400 bytes of envelope.
MAX_DELTA_CHARS = 1_200


def frame(kind: str, data: dict[str, Any]) -> bytes:
    """An envelope as sockets get it; UUIDs become text."""
    return encode({"type": kind, "data": data, "timestamp": int(time.time() * 1000)})


def delta_frames(
    project_id: UUID,
    conversation_id: UUID,
    turn_id: UUID,
    message_id: UUID,
    epoch: int,
    offset: int,
    content: str,
) -> Iterator[bytes]:
    """Frames that carry `content` from code point `offset` on; one even for an empty text."""
    for start in range(0, max(len(content), 1), MAX_DELTA_CHARS):
        piece = content[start : start + MAX_DELTA_CHARS]
        yield frame(
            "assistant_response",
            {
                "project_id": project_id,
                "conversation_id": conversation_id,
                "turn_id": turn_id,
                "message_id": message_id,
                "epoch": epoch,
                "offset": offset + start,
                "content": piece,
                "done": False,
            },
        )
