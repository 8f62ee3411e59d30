"""HTTP services as datasources: what is sent to them, and the check that they answer."""

import asyncio
import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpcore2
import httpx2

from store.datasource.config import HttpConfig
from store.datasource.errors import AddressNotAllowed, InvalidConfig, Unreachable
from store.datasource.openapi import MAX_DOCUMENT_BYTES, operations_of
from store.net import AddressRefused, HostNotFound
from store.outbound.exchange import Answer, Broken, NotReached, exchange
from store.outbound.transport import GuardedTransport, unless_listed
from store.outbound.urls import UrlRefused, is_beneath, parse_url

PROBE_WITHIN = timedelta(seconds=12)
USER_AGENT = "Everturn"


def credentials(config: HttpConfig, secret: str) -> list[tuple[str, str]]:
    """Headers that belong to requests beneath the base, and to no others.

    Raises:
        InvalidConfig: The secret is needed and missing, or cannot be sent.
    """
    headers = [*config.headers.items()]
    if config.auth == "none":
        return headers
    if not secret:
        raise InvalidConfig(f"auth {config.auth!r} needs a `secret`.")
    if not (secret.isascii() and secret.isprintable()):
        raise InvalidConfig("The secret holds characters that a header cannot carry.")
    match config.auth:
        case "bearer":
            return [*headers, ("Authorization", f"Bearer {secret}")]
        case "basic":
            if ":" not in secret:
                raise InvalidConfig("auth 'basic' needs a secret of the form user:password.")
            sealed = base64.b64encode(secret.encode()).decode()
            return [*headers, ("Authorization", f"Basic {sealed}")]
        case "header":
            return [*headers, (config.auth_header or "Authorization", secret)]


async def inspect_service(
    config: HttpConfig,
    secret: str,
    private_hosts: Sequence[str],
    network: httpcore2.AsyncNetworkBackend | None = None,
) -> list[dict[str, Any]]:
    """Ask the service once, and read what its OpenAPI document describes.

    Raises:
        store.errors.Refusal: It may not be reached, does not answer, or refuses the secret.
    """
    try:
        base = parse_url(config.base_url)
        document = parse_url(config.openapi_url) if config.openapi_url else None
    except UrlRefused as error:
        raise InvalidConfig(str(error)) from None
    secrets = credentials(config, secret)
    try:
        async with asyncio.timeout(PROBE_WITHIN.total_seconds()):
            transport = GuardedTransport(unless_listed(private_hosts), network=network)
            async with transport:
                answer = await _get(transport, base, secrets, 0)
                _require_welcome(answer)
                if document is None:
                    return []
                mine = secrets if is_beneath(base, document) else []
                found = await _get(transport, document, mine, MAX_DOCUMENT_BYTES)
    except AddressRefused as error:
        raise AddressNotAllowed(str(error)) from None
    except HostNotFound as error:
        raise Unreachable(str(error)) from None
    except NotReached:
        raise Unreachable("No connection to the service could be made.") from None
    except Broken:
        raise Unreachable("The service did not answer as an HTTP server does.") from None
    except TimeoutError:
        seconds = PROBE_WITHIN.total_seconds()
        raise Unreachable(f"The service did not answer within {seconds:g} s.") from None
    if found.status != 200:
        raise InvalidConfig(
            f"config.openapi_url was answered with {found.status}; redirects are not followed."
        )
    if found.truncated or found.coding:
        raise InvalidConfig(
            f"The OpenAPI document has more than {MAX_DOCUMENT_BYTES // 1024} KiB, "
            "or a compression other than gzip."
        )
    return await asyncio.to_thread(operations_of, found.body, base)


async def _get(
    transport: GuardedTransport, url: httpx2.URL, headers: Sequence[tuple[str, str]], limit: int
) -> Answer:
    given = {name.lower() for name, _ in headers}
    ours = {"User-Agent": USER_AGENT, "Accept": "*/*"}
    added = [(name, value) for name, value in ours.items() if name.lower() not in given]
    return await exchange(transport, "GET", url, [*headers, *added], None, limit=limit)


def _require_welcome(answer: Answer) -> None:
    if answer.status in (401, 403, 407):
        raise Unreachable(f"The service refuses the secret (it answered {answer.status}).")
    if answer.status >= 500:
        raise Unreachable(f"The service answered {answer.status}.")
