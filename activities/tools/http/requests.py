"""One call's request, hop by hop: every hop is judged anew, and secrets stay where they belong."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import httpcore2
import httpx2

from activities.tools.http.redaction import Redaction
from activities.tools.tool import Reach, ToolFailed, ToolRefused, ToolUnavailable, Web
from store.net import AddressRefused, HostNotFound, check_host
from store.outbound.exchange import Answer, Departure, NotReached, exchange
from store.outbound.transport import Guard, GuardedTransport, unless_listed
from store.outbound.urls import (
    UrlRefused,
    host_matches,
    host_of,
    is_beneath,
    origin_of,
    parse_url,
    port_of,
)

MAX_BODY_BYTES = 5 * 1024 * 1024
MAX_REDIRECTS = 5
READS = ("GET", "HEAD")
USER_AGENT = "Everturn"
# What a caller's own headers may keep on the way to another origin.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})
_ABOUT_BODY = frozenset({"content-type", "content-language", "content-encoding"})

Headers = Sequence[tuple[str, str]]


def refused(rule: str, text: str) -> ToolRefused:
    """A refusal as the model reads it: the rule's name, then what to do."""
    return ToolRefused(f"Refused by the rule {rule!r}: {text}")


@dataclass(frozen=True, slots=True)
class Base:
    """A datasource's side of a request.

    Attributes:
        headers: Its secret and its own headers, for URLs beneath `url` alone.
    """

    url: httpx2.URL
    headers: Headers
    redaction: Redaction


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a call.

    Attributes:
        headers: The caller's own.
    """

    method: str
    url: httpx2.URL
    headers: Headers
    content: bytes | None = None


class Network(Protocol):
    """What dials and whom it trusts; for tests that stand in for the internet."""

    @property
    def backend(self) -> httpcore2.AsyncNetworkBackend | None: ...  # noqa: D102
    @property
    def trust(self) -> ssl.SSLContext | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SystemNetwork:
    """The operating system's."""

    backend: httpcore2.AsyncNetworkBackend | None = None
    trust: ssl.SSLContext | None = None


class Journey:
    """Sends a call's requests until there is an answer that is no redirect.

    Args:
        private_hosts: `Settings.private_hosts`; hold for the datasource's own host alone.
        departure: Told when something may have been sent.
    """

    def __init__(
        self,
        web: Web,
        base: Base | None,
        private_hosts: Sequence[str],
        network: Network,
        departure: Departure,
    ) -> None:
        self._web = web
        self._base = base
        self._private_hosts = private_hosts
        self._network = network
        self._departure = departure
        self._reach: Reach | None = None

    async def run(self, hop: Hop) -> Answer:
        """The last answer.

        Raises:
            ToolRefused: A hop may not be made; the text names the rule.
            ToolUnavailable: There is no connection.
            ToolFailed: There are more than `MAX_REDIRECTS`.
            store.outbound.exchange.Broken: The server was asked and gave no answer.
        """
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._ask(hop)
            following = _following(hop, answer)
            if following is None:
                return answer
            hop = following
        raise ToolFailed(f"The service redirects more than {MAX_REDIRECTS} times.")

    async def _ask(self, hop: Hop) -> Answer:
        host, port = host_of(hop.url), port_of(hop.url)
        base = self._base
        if base is not None and is_beneath(base.url, hop.url):
            guard, headers = unless_listed(self._private_hosts), [*base.headers, *hop.headers]
        else:
            # Also where a datasource's answer leads elsewhere: without anything that is its own.
            guard, headers = await self._public(host, port), [*hop.headers]
        most = await self._web.admit(host)
        if most:
            raise refused(
                "rate", f"at most {most} requests a minute go to one host. Wait, or ask for less."
            )
        if not any(name.lower() == "user-agent" for name, _ in headers):
            headers.append(("User-Agent", USER_AGENT))
        transport = GuardedTransport(
            guard, network=self._network.backend, trust=self._network.trust
        )
        async with transport:
            try:
                return await exchange(
                    transport, hop.method, hop.url, headers, hop.content,
                    limit=MAX_BODY_BYTES, departure=self._departure,
                )  # fmt: skip
            except AddressRefused:
                raise refused("address", self._why(host)) from None
            except HostNotFound:
                raise ToolUnavailable(f"No address was found for {host!r}.") from None
            except NotReached:
                raise ToolUnavailable(f"No connection to {host!r} could be made.") from None

    async def _public(self, host: str, port: int) -> Guard:
        if self._reach is None:
            self._reach = await self._web.reach()
        if not any(host_matches(pattern, host) for pattern in self._reach.hosts):
            raise refused(
                "hosts",
                f"{host!r} is not among the project's http_allowed_hosts. An owner can add it.",
            )
        if port not in self._reach.ports:
            allowed = ", ".join(map(str, self._reach.ports))
            raise refused("ports", f"port {port} is not among the project's ports ({allowed}).")
        return _public_addresses

    def _why(self, host: str) -> str:
        if self._base is not None and host == host_of(self._base.url):
            return (
                f"the datasource's host {host!r} is not a public address any more, nor one that "
                "the operator lists in EVERTURN_PRIVATE_HOSTS."
            )
        return f"{host!r} is not a public address, and http_request reaches no other."


async def _public_addresses(host: str, port: int) -> Sequence[str]:
    return await check_host(host, port, ())


def _following(hop: Hop, answer: Answer) -> Hop | None:
    """The request a redirect asks for; None where the answer is to be shown as it is."""
    location = answer.header("location")
    if answer.status not in (301, 302, 303, 307, 308) or not location:
        return None
    try:
        url = parse_url(str(hop.url.join(location)))
    except (UrlRefused, httpx2.InvalidURL, ValueError):
        raise refused(
            "url", f"the answer {answer.status} leads to something that is no URL to request."
        ) from None
    same = origin_of(url) == origin_of(hop.url)
    if hop.method in READS:
        moved = replace(hop, url=url)
    elif answer.status == 303 or (answer.status in (301, 302) and hop.method == "POST"):
        kept = [(name, value) for name, value in hop.headers if name.lower() not in _ABOUT_BODY]
        moved = Hop("GET", url, [pair for pair in kept if pair[0].lower() != "idempotency-key"])
    elif same and answer.status in (307, 308):
        moved = replace(hop, url=url)
    else:
        return None  # what changes something is not handed on to another server
    if same:
        return moved
    kept = [(name, value) for name, value in moved.headers if name.lower() in _HARMLESS]
    return replace(moved, headers=kept)
