"""Connections to hosts that tenants name: the address that was judged is the one dialled.

One backend below HTTP asks the guard for the addresses of the very host and port the connection
is for, and connects to one of them, never to the name. TLS is still checked against the name. The
tool, the model's client and MCP all use it:

    client = guarded_client(unless_listed(settings.private_hosts), timeout=httpx2.Timeout(30))
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import httpcore2
import httpx2
from typing_extensions import override

from store.net import check_host

# Of a host and a port; raises `store.net.AddressRefused` or `HostNotFound`.
Guard = Callable[[str, int], Awaitable[Sequence[str]]]

CONNECT_SECONDS = 10.0


def unless_listed(private_hosts: Sequence[str]) -> Guard:
    """The guard of what an operator's ``PRIVATE_HOSTS`` speaks for: models, datasources, MCP."""
    return partial(check_host, private_hosts=tuple(private_hosts))


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """Trust in the world's authorities; loading them takes longer than most requests."""
    return httpx2.create_ssl_context(trust_env=False)


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, guard: Guard, network: httpcore2.AsyncNetworkBackend) -> None:
        self._guard = guard
        self._network = network

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._guard(host, port)
        share = max((timeout or CONNECT_SECONDS) / len(addresses), 1.0)
        trouble: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                trouble = error
        raise trouble or httpcore2.ConnectError("no address")

    @override
    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("no sockets of this machine")

    @override
    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """A transport whose every new connection goes through a guard; no proxies, HTTP/1.1 alone.

    Args:
        guard: Which addresses a host has, if it may be reached at all.
        network: What dials; the operating system's by default.
        trust: Whose certificates are believed.
        limits: Of the connections kept.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        network: httpcore2.AsyncNetworkBackend | None = None,
        trust: ssl.SSLContext | None = None,
        limits: httpx2.Limits | None = None,
    ) -> None:
        limits = limits or httpx2.Limits(max_connections=100, max_keepalive_connections=20)
        # The base class has no parameter for the network below it.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trust or tls(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(guard, network or httpcore2.AnyIOBackend()),
        )


def guarded_client(
    guard: Guard,
    *,
    timeout: httpx2.Timeout,
    limits: httpx2.Limits | None = None,
    network: httpcore2.AsyncNetworkBackend | None = None,
    **options: Any,
) -> httpx2.AsyncClient:
    """An HTTP client for hosts that tenants name, which follows no redirect by itself.

    Args:
        options: More of `httpx2.AsyncClient`, such as ``headers``.
    """
    return httpx2.AsyncClient(
        transport=GuardedTransport(guard, network=network, limits=limits),
        trust_env=False,
        follow_redirects=False,
        timeout=timeout,
        **options,
    )
