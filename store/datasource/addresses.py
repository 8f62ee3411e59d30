"""Where a datasource's host may be connected to."""

from collections.abc import Sequence

from store.datasource.errors import AddressNotAllowed, Unreachable
from store.net import AddressRefused, HostNotFound, check_host


async def addresses_of(host: str, port: int, private_hosts: Sequence[str]) -> tuple[str, ...]:
    """The addresses to connect to, each of them judged.

    Args:
        host: Of the datasource.
        port: Of the datasource.
        private_hosts: `Settings.private_hosts`.

    Raises:
        AddressNotAllowed: The host may not be reached from here.
        Unreachable: It has no address.
    """
    try:
        return await check_host(host, port, private_hosts)
    except AddressRefused as error:
        raise AddressNotAllowed(str(error)) from error
    except HostNotFound as error:
        raise Unreachable("The datasource's host name has no address.") from error
