"""Which addresses may be reached."""

import asyncio
import socket
from ipaddress import ip_address

import pytest

from store.net import AddressRefused, HostNotFound, check_host, is_public, judge

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "192.88.99.1", "169.254.1.1", "169.254.169.254", "100.100.100.200",
    "168.63.129.16", "192.0.0.192",
    "::", "::1", "fe80::1", "fc00::1", "fd00::1", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a9fe:a9fe::",
    "2002:c0a8:101::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:a00:1::1",
    "fe80::5efe:10.0.0.1", "2606:4700::5efe:10.0.0.1", "fd00:ec2::254", "fd20:ce::254", "100::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8",
    "64:ff9b::808:808", "2002:808:808::1",
]  # fmt: skip
NEVER = [
    "169.254.169.254",
    "fd00:ec2::254",
    "100.100.100.200",
    "64:ff9b::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "2002:7f00:1::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address):
    assert not is_public(ip_address(address))
    with pytest.raises(AddressRefused):
        judge("h", 80, ip_address(address), [])


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NEVER)
def test_never_even_if_listed(address):
    with pytest.raises(AddressRefused, match="never"):
        judge("h", 80, ip_address(address), ["0.0.0.0/0", "::/0", address, "h"])


@pytest.mark.parametrize(
    "listed",
    [
        ["127.0.0.1"],
        ["127.0.0.0/8"],
        ["db.test"],
        ["DB.test."],
        ["127.0.0.1:5432"],
        ["db.test:5432"],
        ["10.0.0.1", "127.0.0.1"],
    ],
)
def test_listed(listed):
    judge("db.test", 5432, ip_address("127.0.0.1"), listed)
    judge("db.test", 5432, ip_address("::ffff:127.0.0.1"), listed)


@pytest.mark.parametrize(
    "listed", [[], ["127.0.0.2"], ["db.test:80"], ["127.0.0.1:80"], ["test"], ["*.test"], [""]]
)
def test_not_listed(listed):
    with pytest.raises(AddressRefused):
        judge("db.test", 5432, ip_address("127.0.0.1"), listed)


def test_addresses_with_ports_of_version_six():
    judge("h", 80, ip_address("::1"), ["[::1]:80"])
    judge("h", 80, ip_address("::1"), ["::1"])
    with pytest.raises(AddressRefused):
        judge("h", 81, ip_address("::1"), ["[::1]:80"])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "::1",
        "0",
        "LOCALHOST",
        "localhost.",
    ],
)
async def test_ways_to_write_loopback(host):
    with pytest.raises(AddressRefused):
        await check_host(host, 80, [])
    assert set(await check_host(host, 80, ["127.0.0.0/8", "::1", "0.0.0.0"])) <= {
        "127.0.0.1",
        "::1",
        "0.0.0.0",
    }


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "/tmp",
        "a,b",
        "a@b",
        "a/b",
        "a\n",
        "a%b",
        "fe80::1%eth0",
        "a\0",
        "x" * 300,
        "http://a",
        "a?b",
        "a#b",
    ],
)
async def test_what_is_no_host(host):
    with pytest.raises(AddressRefused):
        await check_host(host, 80, [])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".test"])
async def test_no_address(host):
    with pytest.raises(HostNotFound):
        await check_host(host, 80, [])


async def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    async def answers(*_, **__):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
            for address in ("8.8.8.8", "10.0.0.1")
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    with pytest.raises(AddressRefused, match=r"'evil\.test' is not a public address"):
        await check_host("evil.test", 80, [])
    assert await check_host("evil.test", 80, ["10.0.0.1"]) == ("8.8.8.8", "10.0.0.1")


async def test_a_name_is_looked_up_once(shop, monkeypatch):
    """Rebinding: the address that was judged is the one connected to."""
    from store.datasource.config import PostgresqlConfig
    from store.datasource.postgresql import connect

    lookups = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def rebinding(host, *args, **options):
        if host != "db.test":
            return await real(host, *args, **options)
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, shop.port))]

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    config = PostgresqlConfig(host="db.test", port=shop.port, database="shop", user="reader")
    connection = await connect(config, "reader-password", ["127.0.0.1"])
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    assert lookups == ["db.test"]
