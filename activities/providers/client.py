"""The model SDK's client: its connections, whose key goes where, and what its errors mean.

This package is the only importer of ``openai``. Retries are Temporal's (``max_retries=0``). Raw
responses are read instead of the client's typed streams, which cost about twice as much per token.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from activities import errors
from activities.endpoint import Endpoint
from activities.errors import Trouble
from store.net import AddressRefused, HostNotFound, check_host
from store.outbound.transport import guarded_client
from store.settings import Settings

# What the transport under the client raises while the raw response is read.
_TRANSPORT_ERRORS = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError)


class Client:
    """The SDK's client over two sets of connections, whose own key is never used.

    What a tenant names is dialled through the guard; the operator's own address is not, and a
    connection made for it must not serve a tenant who names the same.

    Args:
        settings: Says which private hosts tenants may reach.
    """

    def __init__(self, settings: Settings) -> None:
        async def guard(host: str, port: int) -> Sequence[str]:
            return await check_host(host, port, settings.private_hosts)

        timeout = httpx2.Timeout(connect=10, read=None, write=30, pool=10)
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
        self._tenants = guarded_client(guard, timeout=timeout, limits=limits)
        self._client = openai.AsyncOpenAI(
            api_key="none",
            max_retries=0,
            http_client=httpx2.AsyncClient(
                # Proxies and netrc of the environment are not for models.
                trust_env=False, follow_redirects=False, timeout=timeout, limits=limits,
            ),
        )  # fmt: skip

    def of(self, endpoint: Endpoint) -> openai.AsyncOpenAI:
        """The client with an endpoint's address, key and connections."""
        return self._client.with_options(
            api_key=endpoint.key,
            base_url=endpoint.url,
            max_retries=0,
            http_client=self._tenants if endpoint.guarded else None,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._tenants.aclose()
        await self._client.close()


def extra_headers(endpoint: Endpoint) -> dict[str, str | openai.Omit]:
    """The tenant's own key, and none of the headers the SDK takes from our environment."""
    if not endpoint.own:
        return {}
    custom = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = ["OpenAI-Organization", "OpenAI-Project"]
    names += [line.partition(":")[0].strip() for line in custom]
    ours = {name: openai.Omit() for name in names if name and name.lower() != "authorization"}
    return {**ours, "Authorization": f"Bearer {endpoint.key}"}


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Make trouble of whatever the SDK or its transport raises in the block.

    Raises:
        Trouble: In its place.
    """
    try:
        yield
    except openai.APIStatusError as exc:
        raise _of_status(exc) from None
    except openai.APITimeoutError:
        raise errors.unavailable("The model's server did not answer in time.") from None
    except (openai.APIConnectionError, AddressRefused, HostNotFound) as exc:
        raise errors.of_connection(exc) from None
    except openai.OpenAIError as exc:
        raise errors.unavailable(f"The model's client gave up ({type(exc).__name__}).") from None
    except _TRANSPORT_ERRORS:
        raise errors.unavailable("The connection to the model broke.") from None


def _of_status(exc: openai.APIStatusError) -> Trouble:
    headers = exc.response.headers
    should_retry = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    body = exc.body if isinstance(exc.body, dict) else {}
    words: list[Any] = [body.get(name) for name in ("code", "type", "message")]
    return errors.of_status(
        exc.status_code,
        " ".join(str(word) for word in words if word),
        retry_after=errors.retry_after(headers),
        should_retry=should_retry,
    )
