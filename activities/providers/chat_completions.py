"""Chat completions: every server speaks them, and an answer that was cut off is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import override

from activities.completion import Completion
from activities.endpoint import Endpoint
from activities.providers.client import Client, extra_headers, translated
from activities.providers.provider import Opened, Provider, Question


class ChatCompletions(Provider):
    """Asks with ``POST /chat/completions``."""

    def __init__(self, client: Client, endpoint: Endpoint) -> None:
        self._client = client.of(endpoint)
        self._endpoint = endpoint

    @override
    @asynccontextmanager
    async def opened(self, question: Question) -> AsyncIterator[Opened]:
        request: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": question.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_headers": extra_headers(self._endpoint),
        }
        if question.tools:
            request["tools"] = question.tools
        asking = self._client.chat.completions.with_streaming_response.create(**request)
        async with translated(), asking as response:
            yield Opened(Completion(), response)

    @override
    async def abandon(self, generation: str) -> None:
        # Hanging up is all there is, and has been done.
        return
