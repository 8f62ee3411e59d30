"""Where an MCP server is, as its row or the operator's configuration says it."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from typing_extensions import override

STDIO = "stdio:"
MAX_URL_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server.

    Attributes:
        url: ``http(s)://…`` or ``stdio:<name>``.
        secret: Sent as a Bearer token; never in a repr.
        legacy: Whether it is known to begin with ``initialize``.
    """

    url: str
    secret: str = field(default="", repr=False)
    legacy: bool = False

    @property
    def command(self) -> str | None:
        """The operator's name of a server that is a process; None for one that is elsewhere."""
        return self.url.removeprefix(STDIO) if self.url.startswith(STDIO) else None

    @override
    def __repr__(self) -> str:
        """Without what may be a key: the query and the secret."""
        return f"Endpoint({shown(self.url)})"


def problem_of(url: str) -> str | None:
    """What is wrong with a URL that somebody has typed; None if nothing is."""
    if len(url) > MAX_URL_CHARS:
        return f"has more than {MAX_URL_CHARS} characters"
    if not url.isascii() or any(character <= " " for character in url):
        return "holds a character that belongs into no URL"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if not host or port == 0:
        return "names no host"
    if "@" in parts.netloc:
        return "carries a sign-in; a password belongs into `secret`"
    if parts.fragment:
        return "has a fragment"
    return None


def destination(url: str) -> tuple[str, str | None, int | None]:
    """Where a secret is sent; a stored one does not follow to another."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def shown(url: str) -> str:
    """A URL as people see it who are no owners: some servers take a key in the query."""
    head, mark, _ = url.partition("?")
    return f"{head}?…" if mark else head
