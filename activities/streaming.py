"""A text on its way to the room: published with natural batching, checkpointed as it grows.

Natural batching: while one publish is in flight, collect; then publish what has come. When idle
that is the lowest latency, when busy the fewest messages, and there is nothing to tune.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store.database import Database
from store.fault_points import reach
from store.live import delta_frames
from store.messages import save_draft
from store.tables import Message

log = structlog.get_logger(__name__)

CHECKPOINT_SECONDS = 0.25
# Readers compare the final text's hash, so a publish that never ends only costs them a fetch.
DRAIN_SECONDS = 5.0

Publish = Callable[[bytes], Awaitable[None]]
Mark = Callable[[], tuple[str, int | None]]


class StreamingText:
    """The growing text of one attempt.

    Args:
        message: The row that will hold the text; its `epoch` is this attempt's.
        publish: Sends one frame to the project's room.

    Attributes:
        mark: Tells, for a checkpoint, which generation the text is of and the last of its events
            that is in the text, where the model's server can go on from there.
    """

    def __init__(
        self,
        message: Message,
        turn_id: UUID,
        project_id: UUID,
        publish: Publish,
        database: Database,
    ) -> None:
        self._message = message
        self._turn_id = turn_id
        self._project_id = project_id
        self._publish = publish
        self._database = database
        self.mark: Mark = _unmarked
        self._parts: list[str] = []
        self._sent_parts = 0
        self._sent_chars = 0
        self._saved_parts = 0
        self._grown = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """Append; never waits."""
        if text:
            self._parts.append(text)
            self._idle.clear()
            self._grown.set()

    async def drain(self) -> None:
        """Wait until everything added has been published, or the bus is plainly away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._idle.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StreamingText"]:
        """Publish and checkpoint in the background while the block runs."""
        tasks = [
            asyncio.create_task(self._publish_all(), name="publish"),
            asyncio.create_task(self._checkpoint_all(), name="checkpoint"),
        ]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _publish_all(self) -> None:
        # The new epoch is announced before its first delta: a retry clears what was shown.
        await self._send("")
        while True:
            if self._sent_parts == len(self._parts):
                self._idle.set()
                self._grown.clear()
                await self._grown.wait()
            fresh = "".join(self._parts[self._sent_parts :])
            self._sent_parts = len(self._parts)
            await self._send(fresh)
            self._sent_chars += len(fresh)
            reach("K4")

    async def _send(self, content: str) -> None:
        for frame in delta_frames(
            self._project_id,
            self._message.conversation_id,
            self._turn_id,
            self._message.id,
            self._message.epoch,
            self._sent_chars,
            content,
        ):
            await self._publish(frame)

    async def _checkpoint_all(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            if self._saved_parts == len(self._parts):
                continue
            try:
                await self._checkpoint()
            except (OSError, TimeoutError, SQLAlchemyError) as exc:
                # The next one heals it; a lost checkpoint costs a joiner a moment, no text.
                log.warning("checkpoint_failed", error=type(exc).__name__)

    async def _checkpoint(self) -> None:
        parts, content = len(self._parts), self.text
        generation, cursor = self.mark()
        async with self._database.tenant_session(self._message.tenant_id) as session:
            await save_draft(
                session, self._message, content, generation=generation or None, cursor=cursor
            )
        self._saved_parts = parts


def _unmarked() -> tuple[str, int | None]:
    return "", None
