"""The bus over NATS by itself: it comes back, waits for no hanging server, and tells no secret."""

import asyncio
import datetime
import ipaddress
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from embedded.ports import LOOPBACK, free_port
from store.bus import Signer
from store.nats_bus import NatsListener, NatsPublisher
from store.secrets import KeyRing
from store.settings import Settings
from store.telemetry import configure_logging
from tests.nats_server import PASSWORD, NatsServer

SIGNER = Signer(KeyRing(["c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0="]))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path)
    child = await server.start()
    yield server
    os.kill(child.pid, signal.SIGCONT) if child.alive else None
    assert server.child is not None
    await server.child.stop()


@asynccontextmanager
async def bus(url: str) -> AsyncIterator[tuple[NatsPublisher, NatsListener]]:
    publisher, listener = NatsPublisher(url, SIGNER), NatsListener(url)
    await publisher.start()
    await listener.start()
    try:
        yield publisher, listener
    finally:
        started = time.monotonic()
        await publisher.close()
        await listener.close()
        assert time.monotonic() - started < 5, "nobody waits for a server to leave"


async def until(condition: Callable[[], bool], timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 -- of other processes
            await asyncio.sleep(0.01)


async def send_until(send: Callable[[], Awaitable[None]], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await send()
            await asyncio.sleep(0.02)


async def test_what_is_sent_is_heard_in_order_and_only_there(server: NatsServer) -> None:
    async with bus(server.url) as (publisher, listener):
        heard: list[str | None] = []
        other: list[str | None] = []
        await listener.subscribe("room_a", heard.append)
        await listener.subscribe("room_b", other.append)
        await until(lambda: None in heard and None in other)
        bodies = [f"body {number}".encode() for number in range(300)]
        await send_until(
            lambda: publisher.publish("room_a", b"first"), lambda: heard[-1] is not None
        )
        del heard[:]
        # Some wait for their turn, as a text does, and some come all at once.
        for body in bodies[:100]:
            await publisher.publish("room_a", body)
        await asyncio.gather(*(publisher.publish("room_a", body) for body in bodies[100:]))
        await until(lambda: len([p for p in heard if p and "first" not in p]) == len(bodies))
        opened = [SIGNER.open("room_a", payload) for payload in heard if payload]
        assert [body for body in opened if body != b"first"] == bodies
        assert other == [None]
        await listener.unsubscribe("room_a")
        await publisher.publish("room_a", b"too late")
        await publisher.publish("room_b", b"the last")
        await until(lambda: len(other) == 2)
        assert not any("late" in str(payload) for payload in heard)


async def test_a_subscription_holds_when_it_returns(server: NatsServer) -> None:
    async with bus(server.url) as (publisher, listener):
        await until(lambda: listener.connected)
        await publisher_ready(publisher, listener)
        for number in range(50):
            heard: list[str | None] = []
            await listener.subscribe(f"room_{number}", heard.append)
            await publisher.publish(f"room_{number}", b"at once")
            await until(lambda heard=heard: len(heard) == 1, timeout=2)


async def publisher_ready(publisher: NatsPublisher, listener: NatsListener) -> None:
    heard: list[str | None] = []
    await listener.subscribe("ready", heard.append)
    await send_until(lambda: publisher.publish("ready", b"?"), lambda: any(heard))


async def test_growth_outlives_a_cut(server: NatsServer) -> None:
    async with bus(server.url) as (publisher, listener):
        heard: list[str | None] = []
        await listener.subscribe("room_a", heard.append)
        await publisher_ready(publisher, listener)
        announce = publisher.announce
        assert announce is not None
        for head in range(1, 20):
            assert await server.cut("everturn-bus") <= 1
            # It may have noticed, or be about to, or be back: the news must arrive.
            announce("room_a", f"S{head}")
            await until(lambda head=head: f"S{head}" in heard)


async def test_everybody_is_told_of_an_outage(server: NatsServer) -> None:
    async with bus(server.url) as (publisher, listener):
        heard: list[str | None] = []
        await listener.subscribe("room_a", heard.append)
        await publisher_ready(publisher, listener)
        assert server.child is not None
        os.kill(server.child.pid, signal.SIGKILL)
        await server.child.wait()
        await until(lambda: not listener.connected)
        announce = publisher.announce
        assert announce is not None
        for head in range(1, 1000):
            announce("room_a", f"S{head}")
        async with asyncio.timeout(0.5):
            await publisher.publish("room_a", b"a delta nobody needs any more")
        del heard[:]
        await server.start()
        await until(lambda: None in heard)
        announce("room_a", "S1000")
        await until(lambda: "S1000" in heard)
        assert len(heard) < 20, "the newest says it all"
        assert not any("delta" in str(payload) for payload in heard)


async def test_a_server_that_hangs_is_noticed_and_not_waited_for(server: NatsServer) -> None:
    async with bus(server.url) as (publisher, listener):
        heard: list[str | None] = []
        await listener.subscribe("room_a", heard.append)
        await publisher_ready(publisher, listener)
        assert server.child is not None
        os.kill(server.child.pid, signal.SIGSTOP)
        started = time.monotonic()
        # More than its socket takes in.
        senders = [
            asyncio.create_task(publisher.publish("room_a", b"x" * 7_000)) for _ in range(2_000)
        ]
        await asyncio.wait(senders, timeout=5)
        assert all(sender.done() for sender in senders), "publishing waits for ever"
        await until(lambda: not listener.connected, timeout=6)
        assert time.monotonic() - started < 6
        async with asyncio.timeout(4):
            await listener.subscribe("room_b", heard.append)
        del heard[:]
        os.kill(server.child.pid, signal.SIGCONT)
        await until(lambda: heard.count(None) == 2)
        await send_until(lambda: publisher.publish("room_b", b"again"), lambda: any(heard))
        # What was given up has been hung up, too.
        for name in ("everturn-bus", "everturn-listen"):
            assert len(await server.connections(name)) == 1
        os.kill(server.child.pid, signal.SIGSTOP)
    os.kill(server.child.pid, signal.SIGCONT)


async def test_it_starts_before_its_server(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    async with bus(server.url) as (publisher, listener):
        heard: list[str | None] = []
        await listener.subscribe("room_a", heard.append)
        await publisher.publish("room_a", b"nobody hears this")
        assert not listener.connected
        child = await server.start()
        await until(lambda: heard == [None])
        await send_until(lambda: publisher.publish("room_a", b"now"), lambda: any(heard))
        await child.stop()


async def test_strangers_can_only_wake(server: NatsServer) -> None:
    async with bus(server.url) as (publisher, listener):
        heard: list[str | None] = []
        await listener.subscribe("room_a", heard.append)
        await publisher_ready(publisher, listener)
        del heard[:]
        for payload in (b"", b"\xff\xfe", b"D\xff", b"D" + b"A" * 22 + b"{}", b"x" * 9_000):
            await server.publish("everturn.room_a", payload)
        await server.publish("everturn.room_a", b"S7")
        await until(lambda: "S7" in heard)
        assert len(heard) == 5, "what is too long is not even looked at"
        assert not any(SIGNER.open("room_a", payload or "") for payload in heard)


async def test_a_wrong_password_keeps_trying_and_says_why_without_saying_it(
    server: NatsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("DEBUG")
    secret = "wrong/pass:word"
    url = f"nats://ever%40turn:{quote(secret, safe='')}@{LOOPBACK}:{server.port}"
    async with bus(url) as (_, listener):
        await asyncio.sleep(1)
        assert not listener.connected
    logging.getLogger().handlers.clear()
    said = capfd.readouterr().err
    assert "Authorization Violation" in said
    assert said.count("bus_connection_lost") == 2, "one line for each connection"
    assert secret not in said
    assert quote(secret, safe="") not in said
    assert PASSWORD not in said


async def test_a_user_without_rights_is_no_connection(
    server: NatsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO")
    async with bus(f"nats://mute:mute@{LOOPBACK}:{server.port}") as (publisher, listener):
        await listener.subscribe("room_a", lambda _: None)
        await until(lambda: not listener.connected)
        await asyncio.sleep(0.5)
        assert not listener.connected
        for _ in range(20):
            await publisher.publish("room_a", b"nobody may say this")
    logging.getLogger().handlers.clear()
    said = capfd.readouterr().err
    assert "permissions violation for subscription to" in said
    assert "permissions violation for publish to" in said
    # A listener without anything to listen to had been content.
    assert said.count("bus_connection_lost") <= 3
    assert "bus_publish_failed" not in said


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bus.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


async def test_tls_is_spoken_and_the_certificate_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    more = f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}'
    server = NatsServer(tmp_path, more=more, scheme="tls")
    child = await server.start()
    async with bus(server.url) as (_, listener):
        await asyncio.sleep(0.5)
        assert not listener.connected, "nobody vouches for that certificate"
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    async with bus(server.url) as (publisher, listener):
        await publisher_ready(publisher, listener)
    await child.stop()


async def test_a_password_for_tls_is_never_sent_in_the_clear() -> None:
    said = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        writer.write(b'INFO {"version":"2.15.1","max_payload":1048576,"auth_required":true}\r\n')
        said += await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, port := free_port()):
        async with bus(f"tls://me:CANARY@{LOOPBACK}:{port}") as (_, listener):
            await asyncio.sleep(0.3)
            assert not listener.connected
        assert said == b""
        async with bus(f"nats://me:CANARY@{LOOPBACK}:{port}"):
            await until(lambda: b"CANARY" in said)


@pytest.mark.parametrize(
    "url", ["nats://host", "nats://u:p%40@host:4222", "tls://token@host", "nats://[::1]:4222"]
)
def test_addresses_of_a_bus(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EVERTURN_BUS_URL", url)
    assert Settings(_env_file=None).bus_url.get_secret_value() == url  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "url",
    ["nats:", "nats://", "nats://u:CANARY/x@host", "nats://host:0", "redis://u:CANARY@h", "CANARY"],
)
def test_what_is_no_bus_is_refused_without_being_repeated(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("EVERTURN_BUS_URL", url)
    with pytest.raises(ValidationError, match=r"nats://host:4222") as caught:
        Settings(_env_file=None)  # type: ignore[call-arg]
    assert "CANARY" not in str(caught.value)
