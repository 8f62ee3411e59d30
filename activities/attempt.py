"""One attempt at a step's answer: asked, read within the limits on silence, shown as it comes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.exceptions import ApplicationError

from activities import errors, prompt
from activities.answer import Answer
from activities.completion import Completion
from activities.errors import Trouble
from activities.providers.provider import Opened, Provider, Question, RawResponse
from activities.sse import MAX_LINE_BYTES, EventDecoder
from activities.streaming import StreamingText
from store import generations, steps
from store.database import Database
from store.history import HistoryMessage
from store.settings import Settings
from store.steps import BegunStep
from workflows.types import TurnCode

# After a finish_reason only the usage and [DONE] may follow; a server that keeps the line open
# does not hold up the answer.
AFTERMATH_SECONDS = 2.0
# However long a model has been away, it is given this long to come back in.
LEAST_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds a model may keep us waiting.

    Attributes:
        first: For its first word.
        idle: For the next one. A comment or an empty chunk is no word.
        total: For the whole of an answer.
        away: Without any word, over all attempts.
    """

    first: float
    idle: float
    total: float
    away: float

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        """As the operator has set it."""
        return cls(
            settings.model_first_byte_seconds,
            settings.model_idle_seconds,
            settings.model_total_seconds,
            settings.model_away_seconds,
        )


class Attempt:
    """Asks once, and once more with a shorter history where the model says it is too long.

    Args:
        text: Receives the answer's text.
        tools: The ``tools`` array the model is offered.

    Attributes:
        answer: As far as it has come.
    """

    def __init__(
        self,
        begun: BegunStep,
        provider: Provider,
        text: StreamingText,
        *,
        tools: list[dict[str, Any]],
        patience: Patience,
        database: Database,
    ) -> None:
        self._begun = begun
        self._provider = provider
        self._text = text
        self._tools = tools
        self._patience = patience
        self._database = database
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + patience.total
        self._silent_since = self._now() - begun.away_seconds
        self._troubled = begun.turn.last_error is not None
        self._opened = False
        # Which generation the message's row names.
        self._remembered = begun.generation.name if begun.generation else ""
        self.answer: Answer = Completion()

    @property
    def away_seconds(self) -> float:
        """Since the model last spoke, or was first asked."""
        return self._now() - self._silent_since

    @property
    def lost(self) -> bool:
        """Whether the server cannot go on with what it had begun."""
        return self._opened and bool(self._remembered) and not self.answer.generation

    async def run(self) -> Answer:
        """The answer, whole.

        Raises:
            Trouble: There is none in this attempt.
        """
        history: Sequence[HistoryMessage] = self._begun.history
        shortened = self._begun.omits
        if shortened:
            history = prompt.shortened(self._begun.instructions, history) or history
        try:
            await self._ask(history)
        except Trouble as trouble:
            if trouble.code is not TurnCode.CONTEXT_TOO_LONG or shortened or self._text.text:
                raise
            shorter = prompt.shortened(self._begun.instructions, history)
            if shorter is None:
                raise
            await self._leave_out(len(history) - len(shorter))
            await self._ask(shorter)
        self.answer.end()
        return self.answer

    async def abandon(self) -> None:
        """Tell the server, where it would go on by itself, that nobody waits any more."""
        generation = self.answer.generation or self._remembered
        if generation:
            await self._provider.abandon(generation)

    async def _ask(self, history: Sequence[HistoryMessage]) -> None:
        question = Question(prompt.build(self._begun.instructions, history), self._tools)
        left = max(self._patience.away - self.away_seconds, LEAST_PATIENCE_SECONDS)
        first = self._now() + min(self._patience.first, left)
        try:
            async with (
                asyncio.timeout_at(min(first, self._end)) as timeout,
                self._provider.opened(question) as opened,
            ):
                await self._take(opened, timeout)
        except TimeoutError:
            if not self.answer.finish_reason:
                raise self._silence() from None
        except ValueError:
            raise errors.unavailable("The model's server sent something unreadable.") from None

    async def _take(self, opened: Opened, timeout: asyncio.Timeout) -> None:
        """Feed what comes into the answer and the text."""
        answer = self.answer = opened.answer
        self._opened = True
        self._text.mark = lambda: (answer.generation, answer.cursor)
        self._text.add(opened.known)
        response, decoder = opened.response, EventDecoder()
        if _is_plain_json(response.headers.get("content-type", "")):
            await self._feed([await _whole(response)])
            return
        async for chunk in response.iter_bytes():
            before = answer.progress
            await self._feed(decoder.feed(chunk))
            if answer.over:
                return
            if answer.progress > before:
                idle = AFTERMATH_SECONDS if answer.finish_reason else self._patience.idle
                timeout.reschedule(min(self._now() + idle, self._end))
        await self._feed(decoder.finish())

    async def _feed(self, payloads: list[bytes]) -> None:
        answer, before = self.answer, self.answer.progress
        for payload in payloads:
            self._text.add(answer.take(payload))
            if answer.generation != self._remembered:
                await self._remember(answer.generation)
        if answer.progress > before:
            self._silent_since = self._now()
            if self._troubled:
                self._troubled = False
                async with self._stored() as session:
                    await steps.clear_trouble(session, self._begun)

    async def _remember(self, generation: str) -> None:
        # Before its first word: whoever continues must find the name, also after a crash.
        async with self._stored() as session:
            owned = await generations.remember(session, self._begun.message, generation)
        if not owned:
            raise superseded()
        self._remembered = generation

    async def _leave_out(self, messages: int) -> None:
        async with self._stored() as session:
            owned = await steps.leave_out(session, self._begun, messages)
        if not owned:
            raise superseded()

    @asynccontextmanager
    async def _stored(self) -> AsyncIterator[AsyncSession]:
        # A database that is away is not the model's trouble, though it shows while one reads.
        tenant_id = self._begun.turn.tenant_id
        async with errors.textless(), self._database.tenant_session(tenant_id) as session:
            yield session

    def _silence(self) -> Trouble:
        if self._now() >= self._end:
            # Another attempt would take as long.
            return Trouble(
                TurnCode.MODEL_UNAVAILABLE,
                f"The model took longer than {self._patience.total:.0f} s for one answer."
                " Ask for less at once.",
                retry=False,
            )
        return errors.unavailable(
            "The model fell silent." if self.answer.progress else "The model stays silent."
        )


def superseded() -> ApplicationError:
    """Another attempt has taken the step over; this one has nothing to say any more."""
    return errors.foreseen("another attempt owns this step", "Superseded", retry=True)


async def _whole(response: RawResponse) -> bytes:
    body = bytearray()
    async for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_LINE_BYTES:
            raise ValueError("the answer is too long")
    return bytes(body)


def _is_plain_json(content_type: str) -> bool:
    """Whether the server answered with one whole object although a stream was asked for."""
    if content_type and not any(kind in content_type for kind in ("event-stream", "json", "plain")):
        raise errors.unavailable("The model's server sent something that is not a stream.")
    return "json" in content_type
