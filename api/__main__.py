"""``python -m api``: one edge."""

import contextlib
import logging
import os
import resource
import socket
import sys

import uvicorn

from api.app import create_app, with_sockets
from api.server import PatientlessHttp, PatientlessSocket
from store.limits import MAX_FRAME_BYTES
from store.mcp.operator import Commands, ConfigurationError
from store.secrets import KeyRing, SecretError
from store.settings import Settings
from store.telemetry import configure_logging

PING_SECONDS = 20.0


def _not_a_clients_fault(record: logging.LogRecord) -> bool:
    # A client that sends no UTF-8 is closed with 1007; its traceback would let it fill the log.
    return not str(record.msg).startswith("Invalid UTF-8 sequence")


def allow_all_descriptors() -> None:
    """Take as many descriptors as the system grants: each socket needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    allow_all_descriptors()
    settings = Settings()
    configure_logging(settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(_not_a_clients_fault)
    try:
        KeyRing([key.get_secret_value() for key in settings.secret_keys])
        Commands.read(settings.mcp_stdio)
    except (SecretError, ConfigurationError) as exc:
        print(f"edge: {exc}", file=sys.stderr)  # noqa: T201 -- for the person at the terminal
        return 2
    if not settings.database_url.get_secret_value():
        print("edge: EVERTURN_DATABASE_URL is not set", file=sys.stderr)  # noqa: T201
        return 2
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as exc:
            print(  # noqa: T201
                f"edge: cannot listen on {settings.host}:{settings.port}"
                f" (EVERTURN_HOST, EVERTURN_PORT): {exc.strerror}",
                file=sys.stderr,
            )
            return 2
    uvicorn.run(
        with_sockets(create_app(settings)),
        host=settings.host,
        port=settings.port,
        http=PatientlessHttp,
        ws=PatientlessSocket,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        # Compression costs each socket memory and each frame time; our frames are small.
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        # INFO of the server's own log has query strings, and a ticket is in one.
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
        backlog=2048,
    )
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The Temporal SDK's core can crash the interpreter while it is torn down.
    os._exit(code)
