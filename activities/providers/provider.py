"""What a provider of model answers does, whatever its API is called."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from activities.answer import Answer


class RawResponse(Protocol):
    """As much of an HTTP response as an answer is read from."""

    @property
    def headers(self) -> Any:
        """Its headers; `get` takes any case."""

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Its body, decompressed, as it comes."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked.

    Attributes:
        messages: In the form of chat completions (`activities.prompt`).
        tools: The ``tools`` array of chat completions.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that has begun to come.

    Attributes:
        answer: Takes in the payloads of `response`.
        known: What is known of its text already.
    """

    answer: Answer
    response: RawResponse
    known: str = ""


class Provider(Protocol):
    """One kind of API, for one attempt at one answer."""

    def opened(self, question: Question) -> AbstractAsyncContextManager[Opened]:
        """Ask, or go on where an earlier attempt was cut off.

        Raises:
            Trouble: It cannot be asked, or refuses.
        """

    async def abandon(self, generation: str) -> None:
        """Tell the server that nobody waits for an answer any more; best effort."""
