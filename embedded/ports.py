"""TCP ports of this machine."""

import asyncio
import errno
import secrets
import socket
import time
from collections.abc import Mapping
from datetime import timedelta

from embedded.errors import CannotStart

LOOPBACK = "127.0.0.1"
# Linux hands out 32768-60999 by itself (ip_local_port_range), others higher ones.
BELOW_EPHEMERAL = range(12_000, 32_000)
LET_GO_WITHIN = timedelta(seconds=2)  # by the children of a run that was killed just now


def free_port() -> int:
    """A loopback port that nothing listens on at the moment, nor is likely to until it is used.

    The kernel, and Temporal for its inner services, hand out ports of the ephemeral range at any
    time, so one from there may be gone before its server has started.
    """
    while True:
        port = secrets.choice(BELOW_EPHEMERAL)
        if obstacle(port) is None:
            return port


def obstacle(port: int, host: str = LOOPBACK) -> OSError | None:
    """What keeps a server from listening there now; None when nothing does."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of an earlier run that linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            # Two sockets may be bound with SO_REUSEADDR as long as neither listens.
            probe.listen(1)
    except OSError as error:
        return error
    return None


async def _lasting_obstacle(port: int, host: str) -> OSError | None:
    deadline = time.monotonic() + LET_GO_WITHIN.total_seconds()
    while True:
        found = obstacle(port, host)
        in_use = found is not None and found.errno == errno.EADDRINUSE
        if not in_use or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.05)


async def require_free(ports: Mapping[str, tuple[str, int]]) -> None:
    """Check the address of each setting.

    Raises:
        CannotStart: one is taken, named twice or impossible.
    """
    seen: dict[int, str] = {}
    for setting, (host, port) in ports.items():
        if port in seen:
            raise CannotStart(f"{setting}: {port} is also {seen[port]}; they need a port each")
        seen[port] = setting
        found = await _lasting_obstacle(port, host)
        if found is None:
            continue
        if found.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"{setting}: port {port} on {host} is taken by another program;"
                f" stop it or start with another, such as {setting}={free_port()}"
            )
        if found.errno == errno.EACCES:
            raise CannotStart(f"{setting}: port {port} is only for root; take one above 1023")
        raise CannotStart(f"EVERTURN_HOST: {host} is no address of this machine")
