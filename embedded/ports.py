"""TCP ports of this machine."""

import asyncio
import socket
from collections.abc import Mapping
from datetime import timedelta

from embedded.errors import CannotStart

LOOPBACK = "127.0.0.1"
LET_GO_WITHIN = timedelta(seconds=2)  # by the children of a run that was killed just now


def free_port() -> int:
    """A loopback port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: connections of an earlier run that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            # Two sockets may be bound with SO_REUSEADDR as long as neither listens.
            probe.listen(1)
        except OSError:
            return False
    return True


async def _let_go(host: str, port: int) -> None:
    while True:
        if is_free(port, host):
            return
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
        try:
            async with asyncio.timeout(LET_GO_WITHIN.total_seconds()):
                await _let_go(host, port)
        except TimeoutError as error:
            raise CannotStart(
                f"{setting}: port {port} on {host} is taken by another program;"
                f" stop it or start with another, such as {setting}={free_port()}"
            ) from error
        except socket.gaierror as error:
            raise CannotStart(f"EVERTURN_HOST: {host} is no address of this machine") from error
