"""URLs that come from people, models and other servers: read once, by the parser that connects.

What is checked and what is connected are the same `httpx2.URL`; nothing here is ever read again by
another parser, which could understand it differently.
"""

import re
from urllib.parse import unquote

import httpx2

from store.net import AddressRefused, normal_host

MAX_URL_CHARS = 8 * 1024
PORTS = {"http": 80, "https": 443}
# Browsers drop some of these silently, or read them as another character.
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_ENCODED_SEPARATOR = re.compile(r"%(2f|5c|00)", re.IGNORECASE)
_AUTHORITY = re.compile("://")
_DECODINGS = 5  # servers behind proxies decode more than once


class UrlRefused(Exception):
    """A URL that is not requested; the text names no secret."""


def parse_url(text: str) -> httpx2.URL:
    """An absolute http or https URL of one host, without fragment.

    Raises:
        UrlRefused: Anything else.
    """
    if not text or len(text) > MAX_URL_CHARS:
        raise UrlRefused(f"A URL has 1 to {MAX_URL_CHARS} characters.")
    if _UNSAFE.search(text):
        raise UrlRefused(
            "A URL holds no spaces, backslashes or control characters; encode them with %."
        )
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise UrlRefused("That is not a URL.") from None
    if url.scheme not in PORTS:
        raise UrlRefused("Only absolute URLs that begin with http:// or https:// are requested.")
    if url.userinfo or "@" in _AUTHORITY.split(text, maxsplit=1)[-1].partition("/")[0]:
        raise UrlRefused("A URL carries no sign-in (user@host).")
    try:
        normal_host(url.raw_host.decode("ascii"))
    except AddressRefused as error:
        raise UrlRefused(str(error)) from None
    if not 0 < port_of(url) <= 65535:
        raise UrlRefused("The URL names a port that does not exist.")
    return url.copy_with(fragment=None)


def port_of(url: httpx2.URL) -> int:
    """The port that is connected to."""
    return PORTS[url.scheme] if url.port is None else url.port


def host_of(url: httpx2.URL) -> str:
    """The host that is looked up: ASCII, lower case, without brackets or a closing dot."""
    return url.raw_host.decode("ascii").rstrip(".").lower()


def origin_of(url: httpx2.URL) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials belong to."""
    return url.scheme, host_of(url), port_of(url)


def beneath(base: httpx2.URL, path: str) -> httpx2.URL:
    """The URL of a path (with its query) under a base.

    Raises:
        UrlRefused: It is no path, or leads out of the base, also after a server's decoding.
    """
    if len(path) > MAX_URL_CHARS or _UNSAFE.search(path):
        raise UrlRefused("A path holds no spaces, backslashes or control characters.")
    if path.startswith("//") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise UrlRefused(
            "With a datasource, `url` is a path under its base, without scheme or host."
        )
    bare, question, query = path.partition("#")[0].partition("?")
    _stay_beneath(bare)
    root = base.raw_path.partition(b"?")[0].decode("ascii").rstrip("/")
    rest = bare.lstrip("/")
    joined = f"{root}/{rest}" if rest or not root else root
    url = base.copy_with(raw_path=_ascii(joined + question + query))
    if origin_of(url) != origin_of(base) or not is_beneath(base, url):
        raise UrlRefused("The path leads out of the datasource's base.")
    return url


def is_beneath(base: httpx2.URL, url: httpx2.URL) -> bool:
    """Whether a URL is of the base's origin and its path is the base's or below."""
    root = base.raw_path.partition(b"?")[0].rstrip(b"/")
    path = url.raw_path.partition(b"?")[0]
    if origin_of(url) != origin_of(base) or not (path == root or path.startswith(root + b"/")):
        return False
    try:
        _stay_beneath(path[len(root) :].decode("ascii"))
    except UrlRefused:
        return False
    return True


def is_unsteady(url: httpx2.URL) -> bool:
    """Whether a path may mean another one to the server that decodes it."""
    try:
        _stay_beneath(url.raw_path.partition(b"?")[0].decode("ascii"))
    except UrlRefused:
        return True
    return False


def _stay_beneath(path: str) -> None:
    for _ in range(_DECODINGS):
        if _ENCODED_SEPARATOR.search(path):
            raise UrlRefused("A path holds no encoded slash, backslash or NUL.")
        # `..;x` is `..` to servers that know parameters of segments.
        if any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", path)):
            raise UrlRefused("A path holds no `.` or `..`.")
        plain = unquote(path)
        if plain == path:
            return
        path = plain
    raise UrlRefused("A path is not encoded over and over.")


def _ascii(path: str) -> bytes:
    return httpx2.URL("http://x" + path).raw_path


def ascii_host(host: str) -> str:
    """A host name as it is looked up, whichever way it is written; as it is where it is none."""
    try:
        return httpx2.URL(scheme="http", host=host).raw_host.decode("ascii").rstrip(".").lower()
    except (httpx2.InvalidURL, ValueError):
        return host.rstrip(".").lower()


def host_matches(pattern: str, host: str) -> bool:
    """Whether a host (see `host_of`) is the pattern's, or below it where it is ``*.name``."""
    if pattern.startswith("*."):
        return host.endswith("." + ascii_host(pattern[2:]))
    return host == ascii_host(pattern)
