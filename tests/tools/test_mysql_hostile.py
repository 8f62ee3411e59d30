"""TLS by name to MariaDB, and servers that ask for more than a query."""

import asyncio
import ssl
import struct
from contextlib import asynccontextmanager

import pytest

from store.datasource import mysql
from store.datasource.config import MysqlConfig
from store.datasource.errors import Unreachable
from tests.tools import mariadb

PASSWORD = "CANARY-PASSWORD"


def config_of(port, **changes):
    values = {"host": "db.test", "port": port, "database": "mysql", "user": "root", **changes}
    return MysqlConfig(**{**values, "database": "shop"})


@pytest.fixture
async def with_tls(tmp_path, certificate):
    async with mariadb.running(
        tmp_path, f"--ssl-cert={certificate}", f"--ssl-key={certificate}"
    ) as server:
        admin = await mariadb.administrator(server.port)
        try:
            await admin.query("CREATE DATABASE shop")
            yield server.port
        finally:
            admin.close()


async def cipher(config):
    connection = await mysql.connect(config, "", ["127.0.0.1"])
    try:
        ((_, value),) = await connection.fetch("SHOW STATUS LIKE 'Ssl_cipher'")
        return value
    finally:
        connection.close()


async def test_the_certificate_is_checked_against_the_name(
    with_tls,
    named,
    certificate,
    monkeypatch,
):
    assert await cipher(config_of(with_tls, ssl="prefer"))
    assert await cipher(config_of(with_tls, ssl="require"))
    assert not await cipher(config_of(with_tls, ssl="disable"))
    with pytest.raises(Unreachable, match="TLS"):
        await cipher(config_of(with_tls, ssl="verify-full"))
    monkeypatch.setattr(
        ssl.SSLContext,
        "load_default_certs",
        lambda context, *_: context.load_verify_locations(certificate),
    )
    assert await cipher(config_of(with_tls, ssl="verify-full"))
    with pytest.raises(Unreachable, match="TLS"):
        await cipher(config_of(with_tls, ssl="verify-full", host="other.test"))


def packet(number, data):
    return struct.pack("<I", len(data))[:3] + bytes([number]) + data


def greeting(capabilities=0xFFFF_F7FF & ~(1 << 24)):
    low, high = capabilities & 0xFFFF, capabilities >> 16
    return packet(
        0,
        b"\x0a5.7.44-MySQL\0" + struct.pack("<I", 7) + b"12345678\0" + struct.pack("<H", low)
        + b"\x2d" + struct.pack("<HHB", 2, high, 21) + b"\0" * 10 + b"123456789012\0"
        + b"mysql_native_password\0",
    )  # fmt: skip


@asynccontextmanager
async def hostile(answer, said):
    """Greets, then answers each packet with what `answer` makes of it."""

    async def serve(reader, writer):
        try:
            writer.write(greeting())
            while header := await reader.readexactly(4):
                data = await reader.readexactly(int.from_bytes(header[:3], "little"))
                said.append(data)
                writer.write(answer(header[3], data))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "plugin", [b"mysql_clear_password\0", b"dialog\0\x02Password: ", b"mysql_old_password\0"]
)
async def test_the_password_is_shown_to_nobody(plugin):
    said = []
    async with hostile(lambda number, _: packet(number + 1, b"\xfe" + plugin), said) as port:
        config = config_of(port, host="127.0.0.1")
        with pytest.raises(Unreachable) as caught:
            await mysql.connect(config, PASSWORD, ["127.0.0.1"])
    assert said
    assert not any(PASSWORD.encode() in data for data in said)
    assert "CANARY" not in str(caught.value)


async def test_no_file_of_ours_is_sent_and_one_statement_is_all_that_is_asked_for(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("CANARY-FILE")
    said = []

    def answer(number, data):
        if number == 1:
            return packet(2, b"\0\0\0\x02\0\0\0")
        return packet(number + 1, b"\xfb" + str(secret).encode())

    async with hostile(answer, said) as port:
        with pytest.raises(Unreachable):
            await mysql.connect(config_of(port, host="127.0.0.1"), PASSWORD, ["127.0.0.1"])
    assert not any(b"CANARY-FILE" in data for data in said)
    (flags,) = struct.unpack("<I", said[0][:4])
    assert not flags & (1 << 16), "multi-statements"
    assert not flags & (1 << 7), "local files"


async def test_an_endless_row_is_cut_off():
    def answer(number, data):
        if number == 1:
            return packet(2, b"\0\0\0\x02\0\0\0")
        column = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\xff\xff\xff\xff\xfd\0\0\0\0\0"
        head = packet(1, b"\x01") + packet(2, column) + packet(3, b"\xfe\0\0\x02\0")
        piece = b"\xff\xff\xff"
        rows = b"".join(piece + bytes([4 + n]) + b"\0" * 0xFFFFFF for n in range(3))
        return head + rows

    async with hostile(answer, []) as port:
        with pytest.raises(Unreachable):
            await mysql.connect(config_of(port, host="127.0.0.1"), PASSWORD, ["127.0.0.1"])
