"""The Responses API: answers are generated in the background, so one that was cut off goes on.

``POST /responses`` with ``background`` makes the server keep the answer; ``GET
/responses/{id}?stream=true&starting_after=n`` continues to read it. A server that knows no
background is asked for a plain stream.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from typing_extensions import override

from activities.endpoint import Endpoint
from activities.errors import Trouble
from activities.providers.client import Client, extra_headers, translated
from activities.providers.provider import Opened, Provider, Question
from activities.response import Response
from store.generations import Generation

log = structlog.get_logger(__name__)

CANCEL_TIMEOUT = timedelta(seconds=1)
# Words of a refusal that is about the way we ask, not about what.
_BACKGROUND_WORDS = ("background", "store", "zero data retention")


class Responses(Provider):
    """Asks with ``POST /responses``, or continues a generation.

    Args:
        without_background: Addresses known to refuse it; grows.
        generation: What an earlier attempt has left.
    """

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        without_background: set[str],
        generation: Generation | None,
    ) -> None:
        self._client = client.of(endpoint)
        self._endpoint = endpoint
        self._headers = extra_headers(endpoint)
        self._without_background = without_background
        self._generation = generation

    @override
    @asynccontextmanager
    async def opened(self, question: Question) -> AsyncIterator[Opened]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(translated())
            yield await self._continued(stack) or await self._begun(stack, question)

    async def _continued(self, stack: contextlib.AsyncExitStack) -> Opened | None:
        """The rest of an earlier generation; None when the server does not know it any more."""
        kept, self._generation = self._generation, None
        if kept is None:
            return None
        request: dict[str, Any] = {"stream": True, "extra_headers": self._headers}
        if kept.cursor is not None:
            request["starting_after"] = kept.cursor
        reading = self._client.responses.with_streaming_response.retrieve(kept.name, **request)
        try:
            async with translated():
                response = await stack.enter_async_context(reading)
        except Trouble as trouble:
            if trouble.retry or trouble.status in (0, 401, 403):
                self._generation = kept
                raise
            log.info("generation_gone", status=trouble.status)
            return None
        text = kept.text if kept.cursor is not None else ""
        answer = Response(generation=kept.name, text=text, cursor=kept.cursor)
        return Opened(answer, response, known=text)

    async def _begun(self, stack: contextlib.AsyncExitStack, question: Question) -> Opened:
        """A new generation."""
        address = f"{self._endpoint.url} {self._endpoint.model}"
        if address not in self._without_background:
            try:
                return await self._asked(stack, question, background=True)
            except Trouble as trouble:
                words = trouble.message.lower()
                if trouble.status not in (400, 422) or not any(
                    word in words for word in _BACKGROUND_WORDS
                ):
                    raise
                log.info("no_background", status=trouble.status)
                self._without_background.add(address)
        return await self._asked(stack, question, background=False)

    async def _asked(
        self, stack: contextlib.AsyncExitStack, question: Question, *, background: bool
    ) -> Opened:
        instructions, items = to_input(question.messages)
        request: dict[str, Any] = {
            "model": self._endpoint.model,
            "instructions": instructions,
            "input": items,
            "stream": True,
            "store": background,
            "extra_headers": self._headers,
        }
        if background:
            request["background"] = True
        if question.tools:
            request["tools"] = [_tool(spec) for spec in question.tools]
        asking = self._client.responses.with_streaming_response.create(**request)
        async with translated():
            response = await stack.enter_async_context(asking)
        return Opened(Response(background=background), response)

    @override
    async def abandon(self, generation: str) -> None:
        try:
            async with translated(), asyncio.timeout(CANCEL_TIMEOUT.total_seconds()):
                await self._client.responses.cancel(generation, extra_headers=self._headers)
        except (Trouble, TimeoutError):
            # It ends by itself, only later.
            log.info("generation_not_cancelled")


def to_input(messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Messages of chat completions as the instructions and input items of a response."""
    instructions: list[str] = []
    items: list[dict[str, Any]] = []
    for message in messages:
        match message["role"]:
            case "system":
                instructions.append(message["content"])
            case "tool":
                items.append(
                    {
                        "type": "function_call_output",
                        "call_id": message["tool_call_id"],
                        "output": message["content"],
                    }
                )
            case role:
                if message.get("content"):
                    # There is no field for who speaks.
                    speaker = f"[{message['name']}] " if message.get("name") else ""
                    items.append({"role": role, "content": speaker + message["content"]})
                items += [
                    {
                        "type": "function_call",
                        "call_id": call["id"],
                        "name": call["function"]["name"],
                        "arguments": call["function"]["arguments"],
                    }
                    for call in message.get("tool_calls", ())
                ]
    return "\n\n".join(instructions), items


def _tool(spec: dict[str, Any]) -> dict[str, Any]:
    # Strict schemas are this API's default and allow no optional fields.
    return {"type": "function", "strict": False, **spec["function"]}
