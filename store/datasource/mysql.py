"""Opening a connection to a tenant's MySQL or MariaDB, from the address that was checked.

The driver is told what it would not do by itself: one statement per packet, no file of ours when
the server asks for one, no password in clear without TLS, no value beyond a size.
"""

import asyncio
import ssl
import struct
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import LOCAL_FILES, MULTI_STATEMENTS, SSL
from asyncmy.errors import MySQLError, OperationalError

from store.datasource.addresses import addresses_of, first_that_answers
from store.datasource.config import MysqlConfig, check_secret
from store.datasource.errors import Unreachable
from store.datasource.tls import client_context

CONNECT_WITHIN = timedelta(seconds=8)
MAX_ROW_BYTES = 32 * 1024 * 1024  # of one row as it travels; above most servers' own limit
PROGRAM_NAME = "everturn datasource"

_RESET_CONNECTION = 0x1F

_NO_CONNECTION = "No connection to the database: it does not answer at its host and port."
_SIGN_IN = "The database refused the sign-in. Check user and password of this datasource."
_NO_DATABASE = (
    "The server has no database of that name, or the user may not use it. Check this datasource."
)
_FULL = "The database server accepts no more connections at the moment. Try again later."
_TLS = "The database does not speak TLS as this datasource's `ssl` setting asks."
_CLEAR = "The server asks for a way to sign in that is not available here."

# What the driver raises, also for a server that breaks the protocol.
DRIVER_ERRORS = (
    OSError, MySQLError, RuntimeError, AssertionError, ValueError, LookupError, ArithmeticError,
    TypeError, AttributeError, EOFError, struct.error,
)  # fmt: skip


class RowTooLarge(Exception):
    """One row is larger than `MAX_ROW_BYTES`."""


class WithoutTls(Exception):
    """The server offers no TLS and the datasource asks for it."""


class _Refused:
    """A way to sign in that shows the password to whoever asks."""

    def __init__(self, _: Connection) -> None:
        pass

    def authenticate(self, _: Any) -> None:
        raise OperationalError(2059, _CLEAR)


_REFUSED_PLUGINS = dict.fromkeys(
    (b"mysql_clear_password", b"dialog", b"mysql_old_password"), _Refused
)


class MysqlConnection(Connection):
    """A connection for one query at a time.

    Attributes:
        id: The session's number at the server, for KILL.
        address: Connected to.
    """

    id: int
    address: str
    _ssl_context: Any

    def __init__(self, *, tls_optional: bool, **options: Any) -> None:
        super().__init__(**options)
        self._everturn_tls_optional = tls_optional
        self._everturn_row_bytes = 0
        self.id = 0
        self.address = ""
        # The driver asks for this one whatever it is told.
        self._client_flag: int = self._client_flag & ~(MULTI_STATEMENTS | LOCAL_FILES)

    @property
    def is_mariadb(self) -> bool:
        """Which of the two families the server is of."""
        return "mariadb" in str(self.get_server_info()).lower()

    @property
    def is_broken(self) -> bool:
        """It was closed, by either side."""
        return not self.connected or bool(self._stream_broken)

    @property
    def is_reading(self) -> bool:
        """A result was not read to its end."""
        result: Any = self._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    def begin_row(self) -> None:
        """Count the bytes of the next row from 0."""
        self._everturn_row_bytes = 0

    async def fetch(self, query: str) -> list[tuple[bytes | None, ...]]:
        """All rows of a query of ours."""
        await self.query(query)
        result: Any = self._result
        return list(result.rows or ())

    async def reset(self) -> None:
        """Forget what the session holds: settings, variables, locks, temporary tables, the rest."""
        await self._execute_command(_RESET_CONNECTION, b"")
        await self._read_ok_packet()

    async def _request_authentication(self) -> None:
        if self._ssl_context is not None and not self.server_capabilities & SSL:
            if not self._everturn_tls_optional:
                raise WithoutTls
            self._ssl_context = None
            self._client_flag &= ~SSL
        await super()._request_authentication()

    async def _fill_buffer(self, need: int) -> None:
        self._everturn_row_bytes += need
        if self._everturn_row_bytes > MAX_ROW_BYTES:
            self.close()
            raise RowTooLarge
        await super()._fill_buffer(need)


def unreachable(error: BaseException) -> Unreachable:
    """What a failure to connect means, in words that hold no address and no credential."""
    number = error.args[0] if isinstance(error, MySQLError) and error.args else None
    cause = error.__cause__ if isinstance(error, MySQLError) else error
    if isinstance(error, WithoutTls) or isinstance(cause, (ssl.SSLError, ssl.CertificateError)):
        return Unreachable(_TLS)
    match number:
        case 1045 | 1698 | 1820 | 1862 | 4151:
            return Unreachable(_SIGN_IN)
        case 1044 | 1049:
            return Unreachable(_NO_DATABASE)
        case 1040 | 1203 | 1226:
            return Unreachable(_FULL)
        case 2059:
            return Unreachable(_CLEAR)
        case int() if 1000 <= number < 2000 or number >= 3000:
            return Unreachable(
                f"The database answered with the error {number} before any query ran."
            )
        case _:
            return Unreachable(_NO_CONNECTION)


async def connect(
    config: MysqlConfig,
    secret: str,
    private_hosts: Sequence[str],
    *,
    within: timedelta = CONNECT_WITHIN,
) -> MysqlConnection:
    """Connect to the first address of the host that answers.

    Args:
        config: Of the datasource.
        secret: Its password.
        private_hosts: `Settings.private_hosts`.
        within: For all addresses together.

    Raises:
        AddressNotAllowed: The host may not be reached from here.
        Unreachable: No connection.
    """
    return await first_that_answers(
        await addresses_of(config.host, config.port, private_hosts),
        within,
        lambda address, share: connect_to(address, config, secret, share),
        (*DRIVER_ERRORS, TimeoutError, WithoutTls, RowTooLarge),
        unreachable,
    )


async def connect_to(
    address: str, config: MysqlConfig, secret: str, within: timedelta
) -> MysqlConnection:
    """Connect to exactly this address."""
    connection = MysqlConnection(
        host=address,
        port=config.port,
        user=config.user,
        password=check_secret(secret).encode(),
        database=config.database,
        charset="utf8mb4",
        use_unicode=False,  # bytes as they are: decoding could fail
        conv={},
        autocommit=None,
        ssl=None if config.ssl == "disable" else client_context(config.host, config.ssl),
        tls_optional=config.ssl == "prefer",
        connect_timeout=max(within.total_seconds(), 0.1),
        local_infile=False,
        program_name=PROGRAM_NAME,
        auth_plugin_map=_REFUSED_PLUGINS,
    )
    connection.address = address
    try:
        async with asyncio.timeout(within.total_seconds()):
            await connection.connect()
            ((number,),) = await connection.fetch("SELECT CONNECTION_ID()")
    except BaseException:
        connection.close()
        raise
    connection.id = int(number or 0)
    return connection


async def end_at_server(
    address: str, config: MysqlConfig, secret: str, connection_id: int, within: timedelta
) -> None:
    """End a connection and what runs in it, from another one; quiet if it cannot be reached."""
    try:
        other = await connect_to(address, config, secret, within)
    except (*DRIVER_ERRORS, TimeoutError, WithoutTls, RowTooLarge):
        return
    try:
        async with asyncio.timeout(within.total_seconds()):
            await other.query(f"KILL CONNECTION {connection_id:d}")
            await other.ensure_closed()
    except (*DRIVER_ERRORS, TimeoutError):  # it had ended already
        other.close()
