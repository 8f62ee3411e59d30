"""The tool that asks an HTTP service: a datasource of the project, or an allowed public host."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from activities.tools.http.bodies import encoded, shown_body, shown_headers
from activities.tools.http.redaction import Redaction
from activities.tools.http.requests import (
    READS,
    Base,
    Hop,
    Journey,
    Network,
    SystemNetwork,
    refused,
)
from activities.tools.tool import (
    Arguments,
    Datasource,
    Datasources,
    Tool,
    ToolContext,
    ToolError,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolTimeout,
)
from store.datasource.config import HttpConfig, parse_config
from store.datasource.http import credentials
from store.errors import Refusal
from store.outbound.exchange import Broken, Departure
from store.outbound.headers import MAX_HEADERS, header_name, header_value
from store.outbound.urls import UrlRefused, beneath, parse_url
from workflows.types import Effect, Queue

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MARGIN = timedelta(milliseconds=500)
IDEMPOTENCY_KEY = "Idempotency-Key"


class HttpRequestArguments(Arguments):
    """Arguments of http_request."""

    method: Annotated[str, Field(max_length=64, json_schema_extra={"enum": list(METHODS)})]
    url: Annotated[
        str,
        Field(
            max_length=8 * 1024,
            description=(
                "An absolute http or https URL; with datasource_id a path under the datasource's "
                "base, such as /users?page=2."
            ),
        ),
    ]
    headers: Annotated[
        dict[str, str] | None,
        Field(description="Headers to send. Secrets are the datasource's business, never yours."),
    ] = None
    body: Annotated[Any, Field(description="Text is sent as it is, any other value as JSON.")] = (
        None
    )
    datasource_id: Annotated[
        str | None,
        Field(max_length=64, description="Id of a datasource of kind http; its secret is added."),
    ] = None


class HttpRequest(Tool[HttpRequestArguments]):
    """Asks once, within what the project allows; see docs/decisions/0021.

    Args:
        private_hosts: `Settings.private_hosts`; they hold for datasources alone.
        network: What dials.
    """

    name = "http_request"
    description = (
        "Sends one HTTP request to a datasource of kind http (describe_schema shows what it "
        "offers), or to a public host that the project allows. Error answers such as 404 are "
        "results. GET and HEAD only read; other methods change things, are not repeated, and may "
        "need somebody's approval."
    )
    arguments = HttpRequestArguments
    effect = Effect.ONCE
    queue = Queue.TOOLS_HTTP
    deadline = timedelta(seconds=30)

    def __init__(self, private_hosts: tuple[str, ...], network: Network | None = None) -> None:
        self._private_hosts = private_hosts
        self._network = network or SystemNetwork()

    @override
    async def effect_of(self, arguments: HttpRequestArguments, datasources: Datasources) -> Effect:
        """See `Tool.effect_of`."""
        if arguments.method.upper() in READS:
            return Effect.READ
        if arguments.datasource_id is not None:
            source = await datasources.get(arguments.datasource_id)
            if source.kind == "http" and _config(source).idempotency_keys:
                return Effect.IDEMPOTENT
        return Effect.ONCE

    @override
    async def run(self, arguments: HttpRequestArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        method = arguments.method.upper()
        if method not in METHODS:
            raise refused("method", f"the methods are {', '.join(METHODS)}.")
        headers = _checked(arguments.headers or {})
        base = None
        if arguments.datasource_id is not None:
            source = await context.datasources.get(arguments.datasource_id)
            base = _base(source)
            if _config(source).idempotency_keys and method not in READS:
                headers = [*headers, (IDEMPOTENCY_KEY, context.idempotency_key)]
            _require_distinct([*base.headers, *headers])
        content, kind = encoded(arguments.body)
        if content is not None and method in READS:
            raise refused("body", f"{method} carries no body. Use the query, or POST.")
        if kind and not any(name.lower() == "content-type" for name, _ in headers):
            headers = [*headers, ("Content-Type", kind)]
        try:
            url = parse_url(arguments.url) if base is None else beneath(base.url, arguments.url)
        except UrlRefused as error:
            raise refused("url", str(error)) from None
        hop = Hop(method, url, headers, content)
        return await self._asked(hop, base, context)

    async def _asked(self, hop: Hop, base: Base | None, context: ToolContext) -> dict[str, Any]:
        departure = Departure()
        journey = Journey(context.web, base, self._private_hosts, self._network, departure)
        within = max(context.deadline - MARGIN, context.deadline / 2).total_seconds()
        try:
            async with asyncio.timeout(within):
                answer = await journey.run(hop)
        except TimeoutError:
            raise _lost(hop, departure, ToolTimeout(f"No answer within {within:g} s.")) from None
        except Broken as error:
            text = f"The service did not answer properly ({error})."
            raise _lost(hop, departure, ToolFailed(text)) from None
        redaction = base.redaction if base else Redaction()
        return {
            "status_code": answer.status,
            "headers": shown_headers(answer, redaction),
            "body": await asyncio.to_thread(shown_body, answer, redaction),
            "truncated": answer.truncated,
        }


def _lost(hop: Hop, departure: Departure, error: ToolError) -> ToolError:
    """What is said of a request without an answer: that it may have been carried out."""
    if hop.method in READS or not departure.sent:
        return error
    return ToolOutcomeUnknown(
        f"{error.message} It was sent, and may have been carried out. Check before doing it again."
    )


def _checked(headers: dict[str, str]) -> list[tuple[str, str]]:
    if len(headers) > MAX_HEADERS:
        raise refused("headers", f"a request has at most {MAX_HEADERS} headers.")
    found = []
    for name, value in headers.items():
        try:
            found.append((header_name(name), header_value(value)))
        except ValueError as error:
            raise refused("headers", f"header {name[:80]!r} {error}.") from None
    _require_distinct(found)
    return found


def _require_distinct(headers: list[tuple[str, str]]) -> None:
    """No header twice: which one would count is the server's choice."""
    seen: set[str] = set()
    for name, _ in headers:
        if name.lower() in seen:
            raise refused("headers", f"{name} is given twice, or is set by the datasource.")
        seen.add(name.lower())


def _config(source: Datasource) -> HttpConfig:
    if source.kind != "http":
        raise ToolFailed(
            f"The datasource is of kind {source.kind!r}, not http. Use database_query for it."
        )
    config = parse_config(source.kind, source.config)
    assert isinstance(config, HttpConfig)  # noqa: S101 -- the kind's
    return config


def _base(source: Datasource) -> Base:
    try:
        config = _config(source)
        headers = credentials(config, source.secret)
        url = parse_url(config.base_url)
    except (Refusal, UrlRefused):
        raise ToolFailed(
            f"The datasource {source.name!r} is not usable as it is saved. An owner has to edit it."
        ) from None
    return Base(url, headers, Redaction.of(source.secret, headers))
