"""http_request against real servers: the attack cases N01 to N36, and what must pass."""

import asyncio
import base64
import gzip
import json
import ssl
import zlib
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from activities.tools.tool import (
    Datasource,
    NoWeb,
    ToolError,
    ToolFailed,
    ToolNotFound,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolTimeout,
    ToolUnavailable,
)
from tests.tools.web import (
    OTHER,
    PUBLIC,
    PUBLIC6,
    Allowed,
    Internet,
    Site,
    answer,
    caller,
    redirect,
)

SECRET = "CANARY/s3cr3t+key=="


class World:
    """Two public sites, a private one, and a project that may ask nearly anything."""

    def __init__(self, internet: Internet, sites: list[Site]) -> None:
        self.internet = internet
        self.public, self.other, self.private = sites
        self.web = Allowed(["public.test", "other.test", "bücher.test", PUBLIC, PUBLIC6])

    async def __call__(self, url: str, method: str = "GET", **more):
        return await caller(self.internet, self.web)("http_request", method=method, url=url, **more)

    def allow_everything(self, *hosts: str) -> None:
        """So that it is the address that is refused, not the name."""
        self.web.hosts += ["*.test", "localhost", *hosts]
        self.web.ports += [*range(1, 65536)]

    async def refuses(self, rule: str, url: str, method: str = "GET", **more) -> str:
        dialled = len(self.internet.dialled)
        with pytest.raises(ToolRefused) as refusal:
            await self(url, method, **more)
        assert f"Refused by the rule {rule!r}" in str(refusal.value)
        assert len(self.internet.dialled) == dialled, "something was connected to"
        assert not self.private.connections
        return str(refusal.value)


@pytest.fixture
async def world(monkeypatch):
    async with AsyncExitStack() as stack:
        sites = [
            await stack.enter_async_context(Site(name).running())
            for name in ("public", "other", "private")
        ]
        internet = Internet()
        internet.names = {
            "public.test": [PUBLIC], "other.test": [OTHER], "xn--bcher-kva.test": [PUBLIC],
            "private.test": ["127.0.0.1"], "mixed.test": [PUBLIC, "127.0.0.1"],
            "six.test": ["fd00::1"],
        }  # fmt: skip
        internet.routes = {
            (PUBLIC, 80): sites[0].port, (OTHER, 80): sites[1].port, (PUBLIC6, 80): sites[0].port,
            ("127.0.0.1", sites[2].port): sites[2].port, ("127.0.0.1", 80): sites[2].port,
        }  # fmt: skip
        internet.resolve_with(monkeypatch)
        yield World(internet, sites)


# --- what must pass -----------------------------------------------------------------------------


async def test_a_get(world):
    world.public.pages["/a"] = answer("hello", x_one="1")
    result = await world("http://public.test/a?q=%20x#fragment", headers={"X-Mine": "yes"})
    assert result["status_code"] == 200
    assert result["body"] == "hello"
    assert result["truncated"] is False
    assert result["headers"]["x-one"] == "1"
    (seen,) = world.public.seen
    assert (seen.method, seen.path) == ("GET", "/a?q=%20x")
    assert (seen.headers["host"], seen.headers["x-mine"]) == ("public.test", "yes")
    assert not {"cookie", "authorization", "idempotency-key"} & set(seen.headers)
    assert world.internet.dialled == [(PUBLIC, 80)]
    assert world.internet.lookups == ["public.test"], "looked up once"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
async def test_bodies(world, method):
    world.public.pages["/a"] = answer({"done": True}, 201)
    for body, kind, sent in [
        ({"a": [1, "é"]}, "application/json", b'{"a":[1,"\xc3\xa9"]}'),
        ([], "application/json", b"[]"),
        (False, "application/json", b"false"),
        ("texté", "text/plain; charset=utf-8", "texté".encode()),
    ]:
        result = await world("http://public.test/a", method, body=body)
        assert (result["status_code"], result["body"]) == (201, {"done": True})
        seen = world.public.seen[-1]
        assert (seen.method, seen.body) == (method.upper(), sent)
        assert seen.headers["content-type"] == kind
    xml = {"Content-Type": "application/xml"}
    await world("http://public.test/a", method, body="<a/>", headers=xml)
    assert world.public.seen[-1].headers["content-type"] == "application/xml"


async def test_head_and_empty_answers(world):
    world.public.pages["/"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert (await world("http://public.test"))["body"] == ""
    world.public.pages["/"] = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"
    assert (await world("http://public.test", "HEAD"))["headers"]["content-length"] == "99"


@pytest.mark.parametrize("status", [400, 401, 404, 418, 500, 503])
async def test_errors_of_the_service_are_results(world, status):
    world.public.pages["/"] = answer({"error": "no"}, status)
    result = await world("http://public.test/")
    assert (result["status_code"], result["body"]) == (status, {"error": "no"})


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate", "two members"])
async def test_compressed_bodies(world, coding):
    text = "".join(str(number) for number in range(12_000))
    raw = zlib.compressobj(wbits=-15)
    data = {
        "gzip": gzip.compress(text.encode()),
        "deflate": zlib.compress(text.encode()),
        "raw deflate": raw.compress(text.encode()) + raw.flush(),
        "two members": gzip.compress(text[:999].encode()) + gzip.compress(text[999:].encode()),
    }[coding]
    header = "deflate" if "deflate" in coding else "gzip"
    world.public.pages["/"] = answer(data, content_encoding=header)
    result = await world("http://public.test/")
    assert (result["body"], result["truncated"]) == (text, False)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://bücher.test/", "xn--bcher-kva.test"),
        ("http://xn--bcher-kva.test/", "xn--bcher-kva.test"),
        ("HTTP://PUBLIC.test.:80/", "public.test."),
        (f"http://{PUBLIC}/", PUBLIC),
        (f"http://[{PUBLIC6}]/", f"[{PUBLIC6}]"),
        ("http://93.184.216.34:80", PUBLIC),
    ],
)
async def test_ways_to_name_a_public_host(world, url, host):
    world.public.pages["/"] = answer("ok")
    assert (await world(url))["body"] == "ok"
    assert world.public.seen[-1].headers["host"] == host


async def test_globs_name_what_is_below(world):
    world.web.hosts = ["*.example.test"]
    world.internet.names |= {"a.example.test": [PUBLIC], "a.b.example.test": [PUBLIC]}
    world.public.pages["/"] = answer("ok")
    for host in ("a.example.test", "a.b.example.test"):
        assert (await world(f"http://{host}/"))["status_code"] == 200
    for host in ("example.test", "badexample.test", "example.test.evil.test"):
        await world.refuses("hosts", f"http://{host}/")


async def test_redirects_on_the_same_host_and_to_another(world):
    world.public.pages |= {
        "/a": redirect("/b?c=d", 301), "/b": redirect("http://other.test/c"),
        "/again": answer("same"), "/same": redirect("/again", 307),
    }  # fmt: skip
    world.other.pages["/c"] = answer("there")
    headers = {"Authorization": "Bearer mine", "X-Api-Key": "k", "Cookie": "a=b", "Accept": "x/y"}
    result = await world("http://public.test/a", headers=headers)
    assert result["body"] == "there"
    assert [seen.path for seen in world.public.seen] == ["/a", "/b?c=d"]
    assert all(seen.headers["authorization"] == "Bearer mine" for seen in world.public.seen)
    (seen,) = world.other.seen
    assert not {"authorization", "x-api-key", "cookie"} & set(seen.headers)
    assert seen.headers["accept"] == "x/y"
    assert "CANARY" not in str(result)
    posted = await world("http://public.test/same", "POST", body="twice")
    assert posted["body"] == "same"
    assert [seen.body for seen in world.public.seen[-2:]] == [b"twice", b"twice"]


async def test_what_changes_something_is_not_handed_to_another_server(world):
    for status in (301, 302, 303, 307, 308):
        world.public.pages["/a"] = redirect("http://other.test/c", status)
        world.other.pages["/c"] = answer("got")
        seen = len(world.other.seen)
        result = await world("http://public.test/a", "POST", body="secret words")
        if status in (307, 308):
            assert (result["status_code"], len(world.other.seen)) == (status, seen)
            assert result["headers"]["location"] == "http://other.test/c"
        else:
            assert result["body"] == "got"
            assert (world.other.seen[-1].method, world.other.seen[-1].body) == ("GET", b"")
    for method in ("PUT", "DELETE", "PATCH"):
        world.public.pages["/a"] = redirect("http://other.test/c", 302)
        assert (await world("http://public.test/a", method))["status_code"] == 302


async def test_no_state_between_calls(world):
    world.public.pages["/"] = answer("in", set_cookie="session=CANARY")
    for _ in range(2):
        result = await world("http://public.test/")
        assert "CANARY" not in str(result)
    assert all("cookie" not in seen.headers for seen in world.public.seen)
    assert world.public.connections == 2


# --- N01 to N20: where it must not go -----------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",  # N01
        "127.0.0.1", "localhost", "LOCALHOST.",  # N02
        "2130706433",  # N03
        "0x7f000001", "0x7f.1", "127.1", "0",
        "0177.1", "017700000001",  # N05
        "[::1]", "[::ffff:127.0.0.1]", "[::]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]",  # N07
        "10.0.0.1", "172.16.0.1", "192.168.0.1", "[fd00::1]", "[fe80::1]", "100.64.0.1",  # N10
        "[2002:7f00:1::]", "[fd00:ec2::254]", "168.63.129.16",
        "private.test", "six.test",  # N12
        "mixed.test",  # N35
    ],
)  # fmt: skip
async def test_private_addresses(world, host):
    world.allow_everything(host.strip("[]").lower().rstrip("."))
    world.internet.routes[("127.0.0.1", 8080)] = world.private.port
    for port in ("", ":8080", f":{world.private.port}"):
        text = await world.refuses("address", f"http://{host}{port}/latest/meta-data/")
        assert "PRIVATE_HOSTS" not in text
    # And by a project that has not even named it.
    world.web.hosts = ["public.test"]
    await world.refuses("hosts", f"http://{host}/")


@pytest.mark.parametrize(
    "host", ["0177.0.0.1", "127。0。0。1", "⑫7.0.0.1", "１２７.0.0.1", "127.0.0.1.", "256.1.1.1"]
)
async def test_odd_spellings_of_addresses(world, host):
    """N05: what one parser may read as an address and another as a name goes nowhere."""
    world.allow_everything("127.0.0.1", host)
    with pytest.raises((ToolRefused, ToolUnavailable)):
        await world(f"http://{host}/")
    assert world.internet.dialled == []


async def test_a_redirect_to_a_private_address(world):
    """N14."""
    world.allow_everything("127.0.0.1", "2130706433", "169.254.169.254")
    for place in (
        f"http://127.0.0.1:{world.private.port}/", "//127.0.0.1/", "http://private.test/",
        "http://mixed.test/", "http://2130706433/", "http://169.254.169.254/",
    ):  # fmt: skip
        world.public.pages["/"] = redirect(place)
        with pytest.raises(ToolRefused, match="rule 'address'"):
            await world("http://public.test/")
    for place in (
        "file:///etc/passwd",
        "http://a@127.0.0.1/",
        "gopher://x/",
        "http://[/",
    ):
        world.public.pages["/"] = redirect(place)
        with pytest.raises(ToolRefused, match="rule 'url'"):
            await world("http://public.test/")
    world.web.hosts, world.web.ports = ["public.test"], [80]
    world.public.pages["/"] = redirect("http://other.test/")
    with pytest.raises(ToolRefused, match="rule 'hosts'"):
        await world("http://public.test/")
    world.public.pages["/"] = redirect("http://public.test:22/")
    with pytest.raises(ToolRefused, match="rule 'ports'"):
        await world("http://public.test/")
    assert world.private.connections == 0
    assert {address for address, _ in world.internet.dialled} == {PUBLIC}


async def test_redirects_end(world):
    world.public.pages["/"] = redirect("/")
    with pytest.raises(ToolFailed, match="more than 5"):
        await world("http://public.test/")
    assert len(world.public.seen) == 6


async def test_a_name_that_changes_its_mind(world):
    """Rebinding: public when it is judged, private a moment later."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    world.internet.names["public.test"] = lambda: next(answers)
    world.public.pages["/"] = answer("ok")
    assert (await world("http://public.test/"))["body"] == "ok"
    assert world.internet.lookups == ["public.test"]
    assert world.internet.dialled == [(PUBLIC, 80)]
    await world.refuses("address", "http://public.test/")
    # Within one call: the first hop is public, the second is not.
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    world.public.pages["/"] = redirect("/again")
    with pytest.raises(ToolRefused, match="rule 'address'"):
        await world("http://public.test/")
    assert world.private.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://public.test/", "ftp://public.test/", "data:text/plain,x",
        "//public.test/", "/etc/passwd", "", "http:", "http://", "http:///x", "public.test",
        "ws://public.test/", "http://public.test:0/", "http://public.test:99999/",
        "http://public.test:x/", "http://[::1", "unix:///tmp/x",  # N16
        "http://example.test@127.0.0.1/", "http://public.test:80@127.0.0.1/",
        "http://a:b@public.test/", "http://@public.test/",  # N18
        "http://public.test\\@127.0.0.1/", "http://127.0.0.1\\@public.test/",
        "http://public.test /",
        "http://public.test/\r\nX: y", "http://public.test/a b", " http://public.test/",
        "http://public.test/\t", "http://pub\u0000lic.test/", "ht\ntp://public.test/",
        "http://public.test/" + "a" * 9000,
    ],
)  # fmt: skip
async def test_what_is_no_url(world, url):
    with pytest.raises(ToolError) as refusal:
        await world(url)
    assert refusal.value.code in {"refused", "invalid_arguments"}
    assert world.internet.dialled == world.internet.lookups == []


@pytest.mark.parametrize(
    "host", ["fe80::1%25eth0", "fe80::1%eth0", "[public.test]", "a%2eb", "a,b", "a b", "*"]
)
async def test_what_is_no_host(world, host):
    world.allow_everything(host)
    for url in (f"http://{host}/", f"http://[{host}]/"):
        with pytest.raises(ToolRefused):
            await world(url)
    assert world.internet.dialled == []


@pytest.mark.parametrize("port", [22, 25, 5432, 6379, 7233, 8080, 443])
async def test_ports(world, port):
    """N20; https is 443."""
    world.internet.routes[(PUBLIC, port)] = world.public.port
    world.public.pages["/"] = answer("ok")
    url = f"http://public.test:{port}/"
    if port == 443:
        assert (await world(url))["body"] == "ok"
        return
    await world.refuses("ports", url)
    world.web.ports = [port]
    assert (await world(url))["body"] == "ok"
    await world.refuses("ports", "http://public.test/")


async def test_a_context_without_a_project_reaches_nothing(world):
    world.web = NoWeb()
    with pytest.raises(ToolRefused, match="rule 'hosts'"):
        await world("http://public.test/")


async def test_private_hosts_do_not_count(world):
    """What the operator allows for datasources is not allowed for URLs."""
    world.allow_everything("127.0.0.1")
    call = caller(world.internet, world.web, private=("127.0.0.1", "private.test", "0.0.0.0/0"))
    for url in ("http://127.0.0.1/", "http://private.test/"):
        with pytest.raises(ToolRefused, match="rule 'address'"):
            await call("http_request", method="GET", url=url)
    assert world.private.connections == 0


# --- N21, N23, N32: what comes back -------------------------------------------------------------


async def test_a_body_that_does_not_end(world):
    """N21."""
    sent = 0

    async def endless(_):
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
        for _ in range(1600):
            sent += 1
            yield b"x" * 65536

    world.public.pages["/"] = endless
    result = await world("http://public.test/")
    assert result["truncated"] is True
    assert len(result["body"]) == 5 * 1024 * 1024
    assert sent < 800, "the connection was closed"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip in gzip"])
async def test_a_bomb(world, coding):
    """N23: counted in decoded bytes, and never held in memory as a whole."""
    import tracemalloc

    bomb = zlib.compressobj(9, wbits=31 if "gzip" in coding else 15)
    data = b"".join(bomb.compress(b"\0" * 1024 * 1024) for _ in range(200)) + bomb.flush()
    if coding == "gzip in gzip":
        data = gzip.compress(data)
    world.public.pages["/"] = answer(data, content_encoding=coding.replace(" in ", ", "))
    tracemalloc.start()
    result = await world("http://public.test/")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 * 1024 * 1024
    if "in" in coding.split():
        assert result["body"].startswith("[binary, not shown")
    else:
        assert result["truncated"] is True
        assert len(result["body"]) == 5 * 1024 * 1024
        assert result["body"][:3] == "\ufffd" * 3


async def test_damaged_compression(world):
    world.public.pages["/"] = answer(b"this was never compressed", content_encoding="gzip")
    with pytest.raises(ToolFailed, match="compression"):
        await world("http://public.test/")
    world.public.pages["/"] = answer(gzip.compress(b"a" * 999)[:-9], content_encoding="gzip")
    assert (await world("http://public.test/"))["truncated"] is True
    world.public.pages["/"] = answer(b"\x0b\x02", content_encoding="br", kind="text/html")
    assert "compressed with br" in (await world("http://public.test/"))["body"]


@pytest.mark.parametrize(
    ("data", "kind", "shown"),
    [
        (b"a\xff\xfeb", "text/plain", "a\ufffd\ufffdb"),
        (b"a\0b", "text/plain", "a\ufffdb"),
        (b"\xef\xbb\xbfhi", "text/plain", "hi"),
        (b'\xef\xbb\xbf{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        ("hé".encode("utf-16"), "text/plain", "hé"),
        ("hé".encode("latin-1"), "text/plain; charset=ISO-8859-1", "hé"),
        (b"x", "text/plain; charset=../../etc", "x"),
        (b"x", "text/plain; charset=zip", "x"),
        (b'{"a": "\\u0000\\ud800", "n": NaN, "i": 12345678901234567890}', "application/json",
         {"a": "\ufffd\ufffd", "n": "NaN", "i": "12345678901234567890"}),
        (b'{"a": 1', "application/json", '{"a": 1'),
        (b"[" * 5000 + b"]" * 5000, "application/json", "[" * 5000 + "]" * 5000),
        (b'{"a":1}', "application/problem+json", {"a": 1}),
        (b"<p>", "text/html", "<p>"),
        (b"plain", "", "plain"),
        (b"x" * 1_000_000, "text/plain", "x" * 1_000_000),
    ],
)  # fmt: skip
async def test_bodies_that_are_hard_to_store(world, data, kind, shown):
    """N32; the executor cleans what is left once more before it stores it."""
    world.public.pages["/"] = answer(data, kind=kind)
    result = await world("http://public.test/")
    assert result["body"] == shown


async def test_binary_is_described(world):
    world.public.pages["/"] = answer(b"\x89PNG\r\n\0\0", kind="image/png")
    body = (await world("http://public.test/"))["body"]
    assert body.startswith("[binary, not shown: image/png, 8 bytes, sha256 ")
    world.public.pages["/"] = answer(b"\0\1\2", kind="application/octet-stream")
    assert "3 bytes" in (await world("http://public.test/"))["body"]


async def test_headers_of_the_answer_are_bounded(world):
    many = "".join(f"x-{n}: {'v' * 1000}\r\n" for n in range(60))
    world.public.pages["/"] = f"HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n".encode()
    result = await world("http://public.test/")
    assert len(json.dumps(result["headers"])) < 20_000
    huge = f"HTTP/1.1 200 OK\r\nx: {'v' * 1_000_000}\r\n\r\n".encode()
    world.public.pages["/"] = huge
    with pytest.raises(ToolFailed):
        await world("http://public.test/")


@pytest.mark.parametrize(
    "said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort"]
)
async def test_servers_that_speak_no_http(world, said):
    world.public.pages["/"] = said
    with pytest.raises(ToolFailed):
        await world("http://public.test/")
    with pytest.raises(ToolOutcomeUnknown, match="may have been carried out"):
        await world("http://public.test/", "POST", body="x")


async def test_nobody_there(world):
    world.web.hosts += ["nobody.test", "*.invalid"]
    world.internet.names["nobody.test"] = ["93.184.216.99"]
    for method in ("GET", "POST"):
        with pytest.raises(ToolUnavailable):
            await world("http://nobody.test/", method)
    with pytest.raises(ToolUnavailable):
        await world("http://a.invalid/")


async def test_a_second_address_is_tried(world):
    world.internet.names["public.test"] = ["93.184.216.99", PUBLIC]
    world.public.pages["/"] = answer("ok")
    assert (await world("http://public.test/"))["body"] == "ok"


async def test_a_server_that_drips(world):
    async def drip(_):
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        for _ in range(100):
            await asyncio.sleep(0.1)
            yield b"x"

    world.public.pages["/"] = drip
    call = caller(world.internet, world.web)
    call.deadline = timedelta(seconds=1)
    with pytest.raises(ToolTimeout):
        await call("http_request", method="GET", url="http://public.test/")
    with pytest.raises(ToolOutcomeUnknown):
        await call("http_request", method="POST", url="http://public.test/")


# --- N25, N28: what is never sent ---------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "a\r\nX-B: c"}, {"X\r\nY": "a"}, {"X-A": "a\nb"}, {"X-A": "a\rb"}, {"": "a"},
        {"X A": "a"}, {"X:A": "a"}, {"X-A": "é"}, {"X-É": "a"}, {"X-A": "a\x7f"}, {"X-A": "\x01"},
        {"Host": "private.test"}, {"hOST": "x"}, {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"}, {"Connection": "upgrade"}, {"Upgrade": "h2c"},
        {"TE": "trailers"}, {"Proxy-Authorization": "x"}, {"Expect": "100-continue"},
        {"Accept-Encoding": "br"}, {"X-HTTP-Method-Override": "DELETE"},
        {"X-Method-Override": "DELETE"}, {"X-A": "1", "x-a": "2"}, {"X-A": "v" * 9000},
        {f"X-{n}": "v" for n in range(50)},
    ],
)  # fmt: skip
async def test_headers_that_are_not_sent(world, headers):
    """N25."""
    await world.refuses("headers", "http://public.test/", headers=headers)


@pytest.mark.parametrize(
    "method",
    [
        "CONNECT",
        "TRACE",
        "TRACK",
        "OPTIONS",
        "GET /x HTTP/1.1\r\nX:",
        "GET ",
        "",
        "ＧＥＴ",
        "PROPFIND",
    ],
)
async def test_methods_that_are_not_sent(world, method):
    """N28."""
    await world.refuses("method", "http://public.test/", method)


async def test_reading_carries_no_body(world):
    await world.refuses("body", "http://public.test/", "GET", body={"delete": "all"})


async def test_nul_and_unknown_arguments(world):
    for more in (
        {"body": "a\0"},
        {"headers": {"X-A": "\0"}},
        {"proxy": "http://x"},
        {"body": {"\0": 1}},
    ):
        with pytest.raises(ToolError) as refusal:
            await world("http://public.test/", "POST", **more)
        assert refusal.value.code == "invalid_arguments"
    assert world.internet.dialled == []


async def test_the_environment_has_no_say(world, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{world.private.port}")
    world.public.pages["/"] = answer("ok")
    assert (await world("http://public.test/"))["body"] == "ok"
    assert world.private.connections == 0


async def test_a_rate(world):
    """N36, as the tool sees it; the count over all workers is the database's."""
    world.web.per_minute = 3
    world.public.pages |= {"/": answer("ok"), "/r": redirect("/")}
    for _ in range(3):
        await world("http://public.test/")
    await world.refuses("rate", "http://public.test/")
    world.other.pages["/"] = answer("ok")
    await world("http://other.test/")
    world.web.asked = ["public.test"] * 2
    with pytest.raises(ToolRefused, match="rule 'rate'"):
        await world("http://public.test/r")


# --- datasources --------------------------------------------------------------------------------


def service(base_url: str, secret: str = SECRET, **config) -> Datasource:
    config = {"base_url": base_url, "auth": "bearer"} | config
    return Datasource(uuid4(), uuid4(), "api", "http", 1, config, secret)


class Service:
    """Calls one datasource at the private site, as an operator allows it."""

    def __init__(self, world: World, private: tuple[str, ...] = ("127.0.0.1",), **config) -> None:
        config = {"base_url": f"http://127.0.0.1:{world.private.port}/v1"} | config
        secret = config.pop("secret", SECRET)
        self.source = service(secret=secret, **config)
        self.call = caller(world.internet, world.web, self.source, private=private)

    async def __call__(self, url: str, method: str = "GET", **more):
        return await self.call(
            "http_request", method=method, url=url, datasource_id=str(self.source.id), **more
        )


@pytest.mark.parametrize(
    ("config", "header", "sent"),
    [
        ({}, "authorization", f"Bearer {SECRET}"),
        ({"auth": "basic", "secret": "ada:pass word"}, "authorization",
         "Basic " + base64.b64encode(b"ada:pass word").decode()),
        ({"auth": "header", "auth_header": "X-Api-Key"}, "x-api-key", SECRET),
        ({"auth": "none", "secret": "", "headers": {"X-Team": "blue"}}, "x-team", "blue"),
    ],
)  # fmt: skip
async def test_a_datasource_adds_its_secret(world, config, header, sent):
    world.private.pages |= {"/v1/users": answer([1]), "/v1": answer("root")}
    call = Service(world, **config)
    for path in ("/users?page=2", "users?page=2"):
        result = await call(path)
        assert result["body"] == [1]
        assert world.private.seen[-1].headers[header] == sent
        assert world.private.seen[-1].path == "/v1/users?page=2"
        assert "CANARY" not in json.dumps(result)
    for path in ("", "/", "?a=b"):
        await call(path)
        assert world.private.seen[-1].path.partition("?")[0] in {"/v1", "/v1/"}


@pytest.mark.parametrize(
    "path",
    [
        "../admin", "/../admin", "/a/../../admin", "/..", "..", "/%2e%2e/admin", "/%2E%2e/x",
        "/.%2e/x", "/%252e%252e/admin", "/%25252e%25252e/admin", "/a%2f..%2fadmin", "/a%5c..%5cx",
        "/a%252fb", "\\..\\x", "/..\\x", "/..;/admin", "/..;a=b/x", "/%2e%2e%3b/x", "/./x",
        "//other.test/x", "//127.0.0.1/", "http://other.test/", "HTTP://other.test", "https:x",
        "javascript:x", "/a\r\nX: y", "/a b", "/a%00b", "/a\tb", "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_a_path_does_not_leave_its_base(world, path):
    call = Service(world)
    with pytest.raises(ToolRefused, match="rule 'url'"):
        await call(path)
    assert world.internet.dialled == []


@pytest.mark.parametrize(
    "path", ["/a:b", "/a/b.c/..d", "/v%20w?u=http://x/../y", "/@me", "/é", "/a?b=%2f"]
)
async def test_paths_that_only_look_odd(world, path):
    call = Service(world)
    await call(path)
    assert world.private.seen[-1].path.startswith("/v1/")


async def test_a_secret_does_not_follow_a_redirect(world):
    world.private.pages |= {
        "/v1/away": redirect("http://other.test/x"),
        "/v1/up": redirect("/admin"),
        "/v1/on": redirect("/v1/there"),
        "/v1/there": answer("there"),
        "/v1/port": redirect(f"http://127.0.0.1:{world.private.port + 1}/v1/x"),
        "/v1/tls": redirect(f"https://127.0.0.1:{world.private.port}/v1/x"),
        "/v1/dots": redirect("/v1/%2e%2e/admin"),
    }
    world.other.pages["/x"] = answer("other")
    call = Service(world)
    assert (await call("/on"))["body"] == "there"
    assert world.private.seen[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert (await call("/away", headers={"X-Mine": "m"}))["body"] == "other"
    assert not {"authorization", "x-mine"} & set(world.other.seen[-1].headers)
    seen = len(world.private.seen)
    for path in ("/up", "/port", "/tls", "/dots"):
        # Elsewhere the project's rules hold, and no exception for private hosts.
        with pytest.raises(ToolRefused, match="rule 'hosts'"):
            await call(path)
    assert len(world.private.seen) == seen + 4
    assert "/admin" not in {request.path for request in world.private.seen}


async def test_the_callers_headers_do_not_replace_the_secret(world):
    call = Service(world, headers={"X-Team": "blue"})
    for headers in ({"authorization": "Bearer mine"}, {"x-team": "red"}):
        with pytest.raises(ToolRefused, match="rule 'headers'"):
            await call("/", headers=headers)
    assert world.internet.dialled == []


async def test_a_datasource_is_judged_again(world):
    """Its host may have become private since it was saved, or the operator has changed his mind."""
    call = Service(world, private=())
    with pytest.raises(ToolRefused, match="rule 'address'"):
        await call("/")
    call = Service(world, private=("127.0.0.1:1",))
    with pytest.raises(ToolRefused, match="rule 'address'"):
        await call("/")
    metadata = Service(world, private=("0.0.0.0/0",), base_url="http://169.254.169.254/latest")
    with pytest.raises(ToolRefused, match="rule 'address'"):
        await metadata("/meta-data")
    assert world.internet.dialled == []


async def test_a_secret_that_is_repeated_is_hidden(world):
    sealed = base64.b64encode(SECRET.encode()).decode()

    def echo(request):
        return answer(
            {
                "you sent": request.headers, "key": {SECRET: 1}, "sealed": sealed,
                "hex": SECRET.encode().hex(), "url": "CANARY%2Fs3cr3t%2Bkey%3D%3D",
            },
            x_echo=f"<{SECRET}>",
        )  # fmt: skip

    world.private.pages |= {
        "/v1/echo": echo,
        "/v1/text": answer(f"before {SECRET} after", 500),
        "/v1/escaped": answer(
            b'{"a": "\\u0043ANARY\\/s3cr3t+key=="}', kind="application/json"
        ),
        "/v1/location": redirect(f"http://nowhere.test/?{SECRET}"),
        "/v1/long": answer("x" * (5 * 1024 * 1024 - 9) + SECRET),
    }  # fmt: skip
    for config in ({}, {"auth": "header", "auth_header": "X-Key"}):
        call = Service(world, **config, headers={"X-Second": "CANARY-second-key"})
        for path in ("/echo", "/text", "/escaped", "/long"):
            result = json.dumps(await call(path))
            assert "CANARY" not in result, path
            assert sealed not in result
            assert SECRET.encode().hex() not in result
        assert "[secret]" in json.dumps(await call("/echo"))
        with pytest.raises(ToolRefused) as refusal:
            await call("/location")
        assert "CANARY" not in str(refusal.value)
    basic = Service(world, auth="basic", secret="ada:CANARY-password")
    world.private.pages["/v1/p"] = answer("the password is CANARY-password")
    assert "CANARY" not in json.dumps(await basic("/p"))
    assert "CANARY" not in repr(basic.source)


async def test_another_datasource_is_unknown(world):
    theirs = service("http://public.test/")
    call = caller(world.internet, world.web)
    texts = []
    for source_id in (str(theirs.id), str(uuid4()), "x"):
        with pytest.raises(ToolNotFound) as unknown:
            await call("http_request", method="GET", url="/", datasource_id=source_id)
        texts.append(str(unknown.value))
    assert len(set(texts)) == 1
    database = replace(theirs, kind="postgresql")
    call = caller(world.internet, world.web, database)
    with pytest.raises(ToolFailed, match="not http"):
        await call("http_request", method="GET", url="/", datasource_id=str(database.id))
    assert world.internet.dialled == []


async def test_a_key_where_the_service_knows_them(world):
    world.private.pages["/v1/pay"] = answer("paid")
    call = Service(world, idempotency_keys=True)
    await call("/pay", "POST")
    assert len(world.private.seen[-1].headers["idempotency-key"]) == 36
    with pytest.raises(ToolRefused, match="rule 'headers'"):
        await call("/pay", "POST", headers={"Idempotency-Key": "mine"})
    await call("/pay")
    assert "idempotency-key" not in world.private.seen[-1].headers
    plain = Service(world)
    await plain("/pay", "POST", headers={"Idempotency-Key": "mine"})
    assert world.private.seen[-1].headers["idempotency-key"] == "mine"


# --- TLS ----------------------------------------------------------------------------------------


async def test_tls_is_checked_against_the_name(world, certificate):
    named = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: named.append(name)
    internet = world.internet
    async with Site("tls", pages={"/": answer("safe")}).running(context) as site:
        internet.names |= {"db.test": [PUBLIC]}
        internet.routes[(PUBLIC, 443)] = site.port
        world.web.hosts += ["db.test"]
        with pytest.raises(ToolUnavailable):
            await world("https://db.test/")  # nobody has vouched for it
        internet.trust = ssl.create_default_context(cafile=certificate)
        assert (await world("https://db.test/"))["body"] == "safe"
        assert named[-1] == "db.test"
        with pytest.raises(ToolUnavailable):
            await world("https://public.test/")  # the same server under another name
        assert len(site.seen) == 1
