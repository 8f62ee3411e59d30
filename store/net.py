"""Which addresses may be connected to on behalf of a tenant.

A name is resolved once, every address it has is judged, and the caller connects to one of the
addresses returned here, never to the name again: a second lookup could answer differently.
Public addresses pass; private ones only where the operator lists them (``PRIVATE_HOSTS``); the
addresses under which clouds hand out credentials never do.
"""

import asyncio
import re
import socket
from collections.abc import Iterable, Sequence
from datetime import timedelta
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address

RESOLVE_WITHIN = timedelta(seconds=5)
MAX_ADDRESSES = 8  # a name with more is not a server somebody runs for us
MAX_HOST_CHARS = 253

# Letters, digits and the punctuation of names and addresses. Leaves out what other parsers give a
# meaning: "/" (socket folder), "," (list of hosts), "@" (user), "%" (zone or escape), spaces.
_HOST = re.compile(r"[0-9A-Za-z._:\-\u00a1-\U0010ffff]+")

_METADATA: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("169.254.0.0/16"),  # AWS, Azure, GCP, OpenStack and all of link-local
    IPv4Network("100.100.100.200/32"),  # Alibaba
    IPv4Network("168.63.129.16/32"),  # Azure's host, a public address by its number
    IPv4Network("192.0.0.192/32"),  # Oracle
    IPv6Network("fd00:ec2::/32"),  # AWS
    IPv6Network("fd20:ce::/32"),  # GCP
    IPv6Network("fe80::/10"),
)
# `is_global` is true for these although nothing public answers there.
_NOT_PUBLIC: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("224.0.0.0/3"),  # multicast and reserved
    IPv6Network("fec0::/10"),  # site-local, before unique local addresses
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
)
_PUBLIC_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


class HostNotFound(Exception):
    """The name has no address, or none in time."""


class AddressRefused(Exception):
    """The host is not one that may be connected to; the text names no address."""


def embedded_v4(address: IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that packets to `address` may end at: translated, tunnelled or mapped."""
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    found: list[IPv4Address] = []
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if address in _NAT64:
        found.append(low)
    if (number >> 32) & 0xFFFF_FFFF in (0x0000_5EFE, 0x0200_5EFE):  # ISATAP
        found.append(low)
    return found


def _normal(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_metadata(address: Address) -> bool:
    """Whether a cloud may hand out credentials there."""
    return any(address in network for network in _METADATA)


def is_public(address: Address) -> bool:
    """Whether `address` belongs to the public internet, also after every known translation."""
    address = _normal(address)
    if is_metadata(address) or not address.is_global or address.is_multicast:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, IPv4Address):
        return True
    inner = embedded_v4(address)
    if inner:
        return all(is_public(v4) for v4 in inner)
    return address in _PUBLIC_V6


def _is_listed(host: str, port: int, address: Address, private_hosts: Iterable[str]) -> bool:
    for entry in private_hosts:
        name, colon, listed_port = entry.rpartition(":")
        if colon and listed_port.isdigit() and (":" not in name or name.startswith("[")):
            if int(listed_port) != port:
                continue
        else:
            name = entry
        name = name.strip("[]").rstrip(".").lower()
        try:
            if address in ip_network(name, strict=False):
                return True
        except ValueError:
            if name == host:
                return True
    return False


def judge(host: str, port: int, address: Address, private_hosts: Iterable[str]) -> None:
    """Judge one address of a host.

    Raises:
        AddressRefused: It may not be connected to.
    """
    address = _normal(address)
    if is_public(address):
        return
    if is_metadata(address) or (isinstance(address, IPv6Address) and embedded_v4(address)):
        raise AddressRefused(f"{host!r} is an address that may never be reached from here.")
    if not _is_listed(host, port, address, private_hosts):
        raise AddressRefused(
            f"{host!r} is not a public address. Whoever runs this installation can allow it "
            "in EVERTURN_PRIVATE_HOSTS."
        )


def normal_host(host: str) -> str:
    """`host` as it is looked up: lower case, without brackets or a closing dot.

    Raises:
        AddressRefused: Not the name or address of one host.
    """
    if not 0 < len(host) <= MAX_HOST_CHARS:
        raise AddressRefused(f"A host has 1 to {MAX_HOST_CHARS} characters.")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(bare):
        raise AddressRefused("A host is one name or one address, nothing else.")
    return bare.rstrip(".").lower()


async def check_host(host: str, port: int, private_hosts: Sequence[str]) -> tuple[str, ...]:
    """Resolve `host` once and judge every address it has.

    Args:
        host: A name or an address.
        port: Part of an entry of `private_hosts` that names one.
        private_hosts: Addresses, networks and names, each with an optional ``:port``.

    Returns:
        The addresses to connect to, in the resolver's order.

    Raises:
        AddressRefused: One of them may not be connected to.
        HostNotFound: There is none.
    """
    host = normal_host(host)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_WITHIN.total_seconds()):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise HostNotFound(f"No address was found for {host!r}.") from error
    addresses = tuple(dict.fromkeys(str(info[4][0]) for info in found))[:MAX_ADDRESSES]
    if not addresses:
        raise HostNotFound(f"No address was found for {host!r}.")
    for text in addresses:
        if "%" in text:  # a zone: link-local by definition
            raise AddressRefused(f"{host!r} is an address that may never be reached from here.")
        judge(host, port, ip_address(text), private_hosts)
    return addresses
