"""Opening a connection to a tenant's PostgreSQL, from the address that was checked.

Nothing comes from this process's environment (``PGPASSWORD``, ``~/.pgpass``, client
certificates): those are the operator's, and the host is the tenant's.
"""

import ssl
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from store.datasource.addresses import addresses_of, first_that_answers
from store.datasource.config import PostgresqlConfig, check_secret
from store.datasource.errors import Unreachable
from store.datasource.tls import client_context

CONNECT_WITHIN = timedelta(seconds=8)

_NO_CONNECTION = "No connection to the database: it does not answer at its host and port."
_SIGN_IN = "The database refused the sign-in. Check user and password of this datasource."
_NO_DATABASE = "The server has no database of that name. Check this datasource."
_FULL = "The database server accepts no more connections at the moment. Try again later."
_TLS = "The database does not speak TLS as this datasource's `ssl` setting asks."


def _is_without_tls(error: ConnectionError) -> bool:
    # asyncpg has no class of its own for a server that answers "no TLS here".
    return "rejected SSL upgrade" in str(error)


def unreachable(error: BaseException) -> Unreachable:
    """What a failure to connect means, in words that hold no address and no credential."""
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return Unreachable(_SIGN_IN)
        case asyncpg.InvalidCatalogNameError():
            return Unreachable(_NO_DATABASE)
        case asyncpg.InsufficientResourcesError() | asyncpg.CannotConnectNowError():
            return Unreachable(_FULL)
        case ssl.SSLError() | ssl.CertificateError():
            return Unreachable(_TLS)
        case ConnectionError() if _is_without_tls(error):
            return Unreachable(_TLS)
        case asyncpg.PostgresError():
            return Unreachable(
                f"The database answered with the error {error.sqlstate} before any query ran."
            )
        case _:
            return Unreachable(_NO_CONNECTION)


async def connect(
    config: PostgresqlConfig,
    secret: str,
    private_hosts: Sequence[str],
    *,
    within: timedelta = CONNECT_WITHIN,
    **options: Any,
) -> asyncpg.Connection:
    """Connect to the first address of the host that answers.

    Args:
        config: Of the datasource.
        secret: Its password.
        private_hosts: `Settings.private_hosts`.
        within: For all addresses together.
        options: Passed on by `asyncpg.Pool`.

    Raises:
        AddressNotAllowed: The host may not be reached from here.
        Unreachable: No connection.
    """
    return await first_that_answers(
        await addresses_of(config.host, config.port, private_hosts),
        within,
        lambda address, share: _connect_to(address, config, check_secret(secret), share, options),
        (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError),
        unreachable,
    )


async def _connect_to(
    address: str,
    config: PostgresqlConfig,
    secret: str,
    within: timedelta,
    options: dict[str, Any],
) -> asyncpg.Connection:
    everything: dict[str, Any] = {
        **options,
        "host": address,
        "port": config.port,
        "user": config.user,
        "password": secret,
        "database": config.database,
        "direct_tls": False,
        "timeout": within.total_seconds(),
        "statement_cache_size": 0,  # hardly any text comes twice
        "target_session_attrs": "any",
        "server_settings": {"application_name": "everturn datasource"},
    }

    async def attempt(tls: ssl.SSLContext | bool) -> asyncpg.Connection:
        connection: asyncpg.Connection = await asyncpg.connect(ssl=tls, **everything)
        return connection

    if config.ssl == "disable":
        return await attempt(False)
    try:
        return await attempt(client_context(config.host, config.ssl))
    except ConnectionError as error:
        if config.ssl != "prefer" or not _is_without_tls(error):
            raise
        return await attempt(False)
