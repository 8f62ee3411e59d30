"""TLS to a datasource: the certificate is checked against its host, not its address."""

import asyncio
import ssl
import struct
from contextlib import asynccontextmanager

import pytest

from store.datasource import postgresql
from store.datasource.config import PostgresqlConfig
from store.datasource.errors import Unreachable

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@asynccontextmanager
async def server(certificate, said):
    """Speaks TLS after PostgreSQL's request for it, then hears what the client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: said.append(name)

    async def serve(reader, writer):
        try:
            assert await reader.readexactly(8) == SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(context)
            said.append(await reader.read(200))
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def attempt(port, host, mode):
    config = PostgresqlConfig(host=host, port=port, database="d", user="u", ssl=mode)
    with pytest.raises(Unreachable) as caught:
        await postgresql.connect(config, "CANARY", ["127.0.0.1"])
    return caught.value.detail


async def test_an_unknown_certificate_is_taken_only_where_it_is_not_checked(certificate, named):
    said = []
    async with server(certificate, said) as port:
        assert "TLS" in await attempt(port, "db.test", "verify-full")
        assert [item for item in said if isinstance(item, bytes) and item] == []
        assert "TLS" not in await attempt(port, "db.test", "require")
    assert said[0] == "db.test"
    assert any(isinstance(item, bytes) and b"user\0u" in item for item in said)


@pytest.mark.parametrize(("host", "trusted"), [("db.test", True), ("other.test", False)])
async def test_the_name_must_be_the_certificates(certificate, named, monkeypatch, host, trusted):
    monkeypatch.setattr(
        ssl.SSLContext,
        "load_default_certs",
        lambda context, *_: context.load_verify_locations(certificate),
    )
    said = []
    async with server(certificate, said) as port:
        told = await attempt(port, host, "verify-full")
    assert ("TLS" in told) is not trusted
    assert any(isinstance(item, bytes) and b"user\0u" in item for item in said) is trusted
