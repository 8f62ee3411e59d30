"""A real PostgreSQL with a shop in it, and callers of the tools."""

import asyncio
import datetime
import socket

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from activities.tools.registry import Registry, default_tools
from activities.tools.sql import postgresql
from embedded.postgres import running
from store.database import Database
from store.datasource.pools import Pools
from store.files.project_files import ProjectFiles
from tests.system import sqlalchemy_url
from tests.tools import mariadb
from tests.tools.world import SHOP, Caller, Shop, sink

LOOPBACK = ("127.0.0.1", "::1")


@pytest.fixture(scope="session")
async def server(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("tools-postgres")) as postgres:
        yield postgres


@pytest.fixture(scope="session")
async def shop(server):
    first = await asyncpg.connect(server.superuser_dsn)
    try:
        for role in ("reader", "writer"):
            await first.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}-password'")
        await first.execute("CREATE DATABASE shop")
    finally:
        await first.close()
    admin = await asyncpg.connect(server.dsn(database="shop"))
    try:
        await admin.execute(SHOP)
        async with sink() as counting:
            yield Shop(server.port, admin, counting)
    finally:
        await admin.close()


@pytest.fixture(scope="session")
async def maria(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mariadb")
    async with (
        mariadb.running(folder) as started,
        sink() as counting,
        mariadb.shop_in(started, counting) as shop,
    ):
        yield shop


@pytest.fixture(scope="session")
def maria_reader(registry, maria):
    return Caller(registry, [maria.source("reader")])


@pytest.fixture(scope="session")
def maria_writer(registry, maria):
    return Caller(registry, [maria.source("writer")])


@pytest.fixture(scope="session")
async def pools(tmp_path_factory):
    made = Pools(LOOPBACK, tmp_path_factory.mktemp("data"))
    yield made
    await made.close()


@pytest.fixture(scope="session")
def registry(pools, project_files):
    return Registry(default_tools(pools, project_files))


@pytest.fixture(scope="session")
async def project_files(server, tmp_path_factory):
    """For reading; what is written needs projects (tests/files)."""
    database = Database(sqlalchemy_url(server.app_dsn), application_name="tests")
    files = ProjectFiles(database, tmp_path_factory.mktemp("project-files"))
    yield files
    files.close()
    await database.close()


@pytest.fixture(scope="session")
def reader(registry, shop):
    return Caller(registry, [shop.source("reader")])


@pytest.fixture(scope="session")
def writer(registry, shop):
    return Caller(registry, [shop.source("writer")])


@pytest.fixture
def writable_transaction(monkeypatch):
    """Takes the last layer away, so that the parser's is seen to hold alone."""
    monkeypatch.setattr(postgresql, "_BEGIN", postgresql._BEGIN.replace("READ ONLY", "READ WRITE"))


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("db.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
async def named(monkeypatch):
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def resolve(host, port, **options):
        if host.endswith(".test"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        return await real(host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
