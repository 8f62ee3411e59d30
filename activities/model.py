"""The model step: one streamed chat completion, shown live, stored once.

The only importer of ``openai``. Retries are Temporal's (``max_retries=0``): every attempt opens a
new epoch, and text of two attempts never meets. The raw response is read instead of the client's
typed stream, which costs about twice as much per token.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2
import openai
import orjson
import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError
from typing_extensions import override

from activities import errors, prompt
from activities.completion import Completion
from activities.endpoint import Endpoint, Endpoints
from activities.errors import Trouble, textless
from activities.heartbeat import beating
from activities.sse import MAX_LINE_BYTES, EventDecoder
from activities.streaming import StreamingText
from activities.tools.registry import Registry
from store import steps
from store.bus import Publisher, room_channel
from store.database import Database
from store.fault_points import reach
from store.limits import MAX_JSON_DEPTH
from store.secrets import KeyRing
from store.settings import Settings
from store.shapes import TemporalLinks
from store.steps import BegunStep, NewCall
from store.tables import ToolExecution
from store.texts import clean, clean_json, cut
from store.tool_executions import of_messages
from workflows import policies
from workflows.interfaces import ModelActivities
from workflows.types import (
    Effect,
    Queue,
    StepInput,
    StepResult,
    ToolCallRef,
    ToolStatus,
    TurnCode,
)

log = structlog.get_logger(__name__)

FIRST_BYTE_SECONDS = 60.0
IDLE_SECONDS = 30.0
TOTAL_SECONDS = 600.0
# After a finish_reason only the usage and [DONE] may follow; a server that keeps the line open
# does not hold up the answer.
AFTERMATH_SECONDS = 2.0
MAX_TOOL_NAME_CHARS = 255

# What the transport under the client raises while the raw response is read.
_TRANSPORT_ERRORS = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError)


def new_client() -> openai.AsyncOpenAI:
    """A client whose connections all tenants' calls share; its own key is never used."""
    return openai.AsyncOpenAI(
        api_key="none",
        max_retries=0,
        http_client=httpx2.AsyncClient(
            # Proxies and netrc of the environment are not for tenants' addresses.
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(connect=10, read=None, write=30, pool=10),
            limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        ),
    )


class OpenAIModel(ModelActivities):
    """Calls an OpenAI-compatible server for `generate_reply`.

    Args:
        client: Shares its connections; address and key are set per tenant.
        registry: The tools the model is offered.
    """

    def __init__(
        self,
        *,
        client: openai.AsyncOpenAI,
        database: Database,
        publisher: Publisher,
        registry: Registry,
        keys: KeyRing,
        settings: Settings,
    ) -> None:
        self._client = client
        self._database = database
        self._publisher = publisher
        self._registry = registry
        self._endpoints = Endpoints(keys, settings)
        self._links = TemporalLinks(settings.temporal_ui_base, settings.temporal_namespace)

    @override
    @activity.defn(name="generate_reply")
    async def generate_reply(self, step: StepInput) -> StepResult:
        async with textless(), beating():
            async with self._database.tenant_session(step.turn.tenant_id) as session:
                begun = await steps.begin(session, step)
            if begun is None or begun.stop:
                raise ApplicationError("stopped", type=TurnCode.STOPPED, non_retryable=True)
            if begun.settled:
                return await self._stored(begun)
            try:
                return await self._attempt(begun)
            except Trouble as trouble:
                raise await self._report(begun, trouble) from None

    async def _attempt(self, begun: BegunStep) -> StepResult:
        endpoint = await self._endpoints.choose(begun.config, begun.turn.tenant_id)
        completion = Completion()
        channel = room_channel(begun.turn.project_id)

        async def publish(frame: bytes) -> None:
            await self._publisher.publish(channel, frame)

        text = StreamingText(
            begun.message, begun.turn.id, begun.turn.project_id, publish, self._database
        )
        async with text.running():
            try:
                await self._stream(begun, endpoint, completion, text)
                completion.end()
                await text.drain()
                reach("K5")
            except asyncio.CancelledError:
                if _stopped_by_people():
                    # What people have been shown and what is kept are the same text.
                    await text.drain()
                    await self._store(
                        begun, endpoint, completion, text.text, "stopped", "cancelled"
                    )
                raise
        reason = "length" if completion.truncated else completion.finish_reason
        stored = await self._store(begun, endpoint, completion, text.text, "complete", reason)
        if stored is None:
            raise ApplicationError(
                "another attempt owns this step", type="Superseded", non_retryable=False
            )
        reach("K10")
        return self._result(begun.message.id, stored)

    async def _stream(
        self, begun: BegunStep, endpoint: Endpoint, completion: Completion, text: StreamingText
    ) -> None:
        """Feed the answer into `completion` and `text`, within the limits on silence."""
        loop = asyncio.get_running_loop()
        end = loop.time() + TOTAL_SECONDS
        decoder = EventDecoder()
        try:
            async with (
                asyncio.timeout(FIRST_BYTE_SECONDS) as timeout,
                self._opened(begun, endpoint) as response,
            ):
                if _is_plain_json(response.headers.get("content-type", "")):
                    text.add(completion.take(await _whole(response)))
                    return
                async for chunk in response.iter_bytes():
                    for payload in decoder.feed(chunk):
                        text.add(completion.take(payload))
                    if completion.over:
                        return
                    patience = AFTERMATH_SECONDS if completion.finish_reason else IDLE_SECONDS
                    timeout.reschedule(min(loop.time() + patience, end))
        except TimeoutError:
            if not completion.finish_reason:
                raise errors.unavailable("The model fell silent.") from None
        except ValueError:
            raise errors.unavailable("The model's server sent something unreadable.") from None
        for payload in decoder.finish():
            text.add(completion.take(payload))

    @asynccontextmanager
    async def _opened(self, begun: BegunStep, endpoint: Endpoint) -> AsyncIterator[Any]:
        client = self._client.with_options(
            api_key=endpoint.key, base_url=endpoint.url, max_retries=0
        )
        tools = self._registry.specs()
        request: dict[str, Any] = {
            "model": endpoint.model,
            "messages": prompt.build(begun.instructions, begun.history),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if tools:
            request["tools"] = tools
        if endpoint.own:
            request["extra_headers"] = _headers_of_tenant(endpoint)
        try:
            async with client.chat.completions.with_streaming_response.create(
                **request
            ) as response:
                yield response
        except openai.APIStatusError as exc:
            raise _status_trouble(exc) from None
        except openai.APITimeoutError:
            raise errors.unavailable("The model's server did not answer in time.") from None
        except openai.APIConnectionError:
            raise errors.unavailable("The model's server cannot be reached.") from None
        except openai.OpenAIError as exc:
            raise errors.unavailable(
                f"The model's client gave up ({type(exc).__name__})."
            ) from None
        except _TRANSPORT_ERRORS:
            raise errors.unavailable("The connection to the model broke.") from None

    async def _store(
        self,
        begun: BegunStep,
        endpoint: Endpoint,
        completion: Completion,
        content: str,
        status: str,
        finish_reason: str,
    ) -> Sequence[ToolExecution] | None:
        calls = [] if status == "stopped" else self._calls(begun, completion)
        async with self._database.tenant_session(begun.turn.tenant_id) as session:
            return await steps.complete(
                session,
                begun,
                content=content,
                status=status,
                finish_reason=finish_reason,
                truncated=completion.truncated,
                calls=calls,
                model=completion.model or endpoint.model,
                usage=completion.usage,
                links=self._links,
            )

    def _calls(self, begun: BegunStep, completion: Completion) -> list[NewCall]:
        calls = []
        most = begun.limits.tool_calls_per_step
        seen: set[str] = set()
        for place, parts in enumerate(completion.calls):
            arguments = clean("".join(parts.arguments))
            call_id = clean(parts.call_id)[:128] or f"call_{begun.message.id.hex}_{place}"
            if call_id in seen:
                call_id = f"{call_id[:100]}_{place}"
            seen.add(call_id)
            name = clean(parts.name)[:MAX_TOOL_NAME_CHARS]
            tool = self._registry.get(name)
            refused = None
            if tool is None:
                known = ", ".join(
                    sorted(spec["function"]["name"] for spec in self._registry.specs())
                )
                refused = ("unknown_tool", f"There is no tool {cut(name, 80)!r}. Known: {known}.")
            elif place >= most:
                refused = ("refused", f"At most {most} tool calls in one step; ask for fewer.")
            calls.append(
                NewCall(
                    call_id=call_id,
                    name=name,
                    arguments=arguments,
                    parameters=_parameters(arguments),
                    queue=tool.queue if tool else "",
                    effect=tool.effect if tool else Effect.READ,
                    refused=refused,
                )
            )
        return calls

    async def _stored(self, begun: BegunStep) -> StepResult:
        async with self._database.tenant_session(begun.turn.tenant_id) as session:
            executions = await of_messages(session, [begun.message.id])
        if begun.message.status != "complete":
            raise ApplicationError("stopped", type=TurnCode.STOPPED, non_retryable=True)
        return self._result(begun.message.id, executions)

    def _result(self, message_id: UUID, executions: Sequence[ToolExecution]) -> StepResult:
        calls = []
        for row in executions:
            tool = self._registry.get(row.tool_name)
            if tool is not None and row.execution_status == ToolStatus.PENDING:
                calls.append(
                    ToolCallRef(
                        tool_execution_id=str(row.id),
                        tool=tool.name,
                        queue=Queue(tool.queue),
                        deadline_seconds=tool.deadline.total_seconds(),
                        max_attempts=policies.TOOL_MAX_ATTEMPTS,
                    )
                )
        return StepResult(str(message_id), calls, answered=not executions)

    async def _report(self, begun: BegunStep, trouble: Trouble) -> ApplicationError:
        attempt = activity.info().attempt
        most = policies.MODEL_RETRY.maximum_attempts
        again = trouble.retry and attempt < most
        delay = trouble.delay(attempt)
        notice = None
        if again:
            notice = (
                f"{trouble.message} Trying again in {max(delay.total_seconds(), 1):.0f} s"
                f" (attempt {attempt + 1} of {most})."
            )
        async with self._database.tenant_session(begun.turn.tenant_id) as session:
            await steps.report_trouble(
                session, begun.turn.id, trouble.code, trouble.message, notice
            )
        log.warning(
            "model_attempt_failed",
            turn_id=str(begun.turn.id),
            attempt=attempt,
            code=trouble.code,
            again=again,
        )
        # The text stays in the database; histories hold the code.
        return ApplicationError(
            f"{trouble.code}: attempt {attempt} of {most} failed",
            type=trouble.code,
            non_retryable=not trouble.retry,
            next_retry_delay=delay if again else None,
        )


def _stopped_by_people() -> bool:
    # A worker that shuts down cancels its activities too: then the attempt is handed over, and
    # nothing is marked as stopped.
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested


def _parameters(arguments: str) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        parsed = orjson.loads(arguments)
        if not _deeper_than(MAX_JSON_DEPTH, parsed):
            return clean_json(parsed)
    return arguments


def _deeper_than(depth: int, value: Any) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_deeper_than(depth - 1, item) for item in inner)


def _headers_of_tenant(endpoint: Endpoint) -> dict[str, str | openai.Omit]:
    """The tenant's own key, and none of the headers the SDK takes from our environment."""
    custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = ["OpenAI-Organization", "OpenAI-Project"]
    names += [line.partition(":")[0].strip() for line in custom]
    ours = {name: openai.Omit() for name in names if name and name.lower() != "authorization"}
    return {**ours, "Authorization": f"Bearer {endpoint.key}"}


async def _whole(response: Any) -> bytes:
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


def _status_trouble(exc: openai.APIStatusError) -> Trouble:
    headers = exc.response.headers
    should_retry = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    body = exc.body if isinstance(exc.body, dict) else {}
    text = f"{body.get('code') or ''} {body.get('message') or ''}".strip()
    return errors.of_status(
        exc.status_code, text, retry_after=_retry_after(headers), should_retry=should_retry
    )


def _retry_after(headers: Any) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if name in headers:
            # An HTTP date is rare here and not worth a clock we may not share.
            with contextlib.suppress(ValueError):
                return float(headers[name]) * unit
    return None
