"""HTTP connections that are made to the very address that was judged.

Every connection is judged as it is dialled, whatever led to it: the URL itself, a redirect, a
connection made anew. The name goes into the ``Host`` header and the certificate check alone.
"""

import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2
import httpx2
from httpcore2 import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream
from typing_extensions import override

from store.net import HostNotFound, check_host


class CheckedBackend(AsyncNetworkBackend):
    """Resolves and judges a host once per connection, and connects to what was judged.

    Args:
        private_hosts: `Settings.private_hosts`.
    """

    def __init__(self, private_hosts: Sequence[str]) -> None:
        self._private_hosts = private_hosts
        self._inner = AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers.

        Raises:
            store.net.AddressRefused: One of them may not be connected to.
            httpcore2.ConnectError: There is none, or none answers.
        """
        try:
            addresses = await check_host(host, port, self._private_hosts)
        except HostNotFound as error:
            raise httpcore2.ConnectError(str(error)) from None
        for place, address in enumerate(addresses, 1):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if place == len(addresses):
                    raise
        raise AssertionError("a host has at least one address")

    @override
    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        """No URL leads to a socket file."""
        raise httpcore2.ConnectError("there are no socket files here")

    @override
    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class CheckedTransport(httpx2.AsyncHTTPTransport):
    """The transport of an `httpx2.AsyncClient` over `CheckedBackend`.

    Args:
        private_hosts: `Settings.private_hosts`.
        tls: Shared by all: to load the world's certificates takes longer than a request.
        connections: Most at a time.
    """

    def __init__(self, private_hosts: Sequence[str], tls: ssl.SSLContext, connections: int) -> None:
        super().__init__(verify=tls, trust_env=False)
        # The transport has no argument for it; the pool it has made has opened nothing yet.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=connections,
            network_backend=CheckedBackend(private_hosts),
        )
