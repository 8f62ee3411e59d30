"""Headers that people and models choose: which of them are sent."""

import re

MAX_HEADERS = 40
MAX_NAME_CHARS = 128
MAX_VALUE_CHARS = 8 * 1024
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
# The connection's own, and those that make a server read another request than the one we judged.
_OUR_NAMES = """
    accept-encoding connection content-length expect host http2-settings keep-alive te trailer
    transfer-encoding upgrade via x-http-method x-http-method-override x-method-override
"""
_OURS = frozenset(_OUR_NAMES.split())


def header_name(name: str) -> str:
    """A header's name as it may be sent.

    Raises:
        ValueError: It is none, or one that only the connection itself sets.
    """
    if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
        raise ValueError("is not the name of a header")
    if name.lower() in _OURS or name.lower().startswith("proxy-"):
        raise ValueError(f"{name.lower()} is not a header that can be chosen")
    return name


def header_value(value: str) -> str:
    """A header's value as it may be sent.

    Raises:
        ValueError: It is too long, or holds a line break or anything but ASCII.
    """
    if len(value) > MAX_VALUE_CHARS or not _VALUE.fullmatch(value):
        raise ValueError("is no header value: one line of ASCII text, not too long")
    return value.strip()
