"""Where a datasource's host may be connected to."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from store.datasource.errors import AddressNotAllowed, Unreachable
from store.net import AddressRefused, HostNotFound, check_host

C = TypeVar("C")


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


async def first_that_answers(
    addresses: Sequence[str],
    within: timedelta,
    connect: Callable[[str, timedelta], Awaitable[C]],
    foreseen: tuple[type[BaseException], ...],
    unreachable: Callable[[BaseException], Unreachable],
) -> C:
    """Connect to the first address that answers.

    Args:
        within: For all addresses together.
        connect: Connects to one of them within its share of the time.
        foreseen: What it raises where there is no connection.
        unreachable: Puts that into words, none of which names the address.

    Raises:
        Unreachable: None has answered.
    """
    failure: BaseException = OSError()
    for address in addresses:
        try:
            return await connect(address, within / len(addresses))
        except foreseen as error:
            failure = error
    # Without the cause: its text names the address.
    raise unreachable(failure) from None
