"""Bodies: what a model sends as bytes, and what a server sends as something a model can read."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import orjson

from activities.tools.http.redaction import Redaction
from activities.tools.sql.values import from_json
from store.outbound.exchange import Answer
from store.texts import clean, clean_json

MAX_JSON_BYTES = 1024 * 1024  # what is longer is cut anyway when it is stored
MAX_DEPTH = 32
MAX_HEADERS_CHARS = 16 * 1024
MAX_HEADER_CHARS = 2 * 1024
_JSON_TYPE = re.compile(r"(application|text)/([\w.+-]+\+)?json")
_TEXT_TYPE = re.compile(
    r"text/|application/(.+\+)?(xml|yaml|x-yaml|javascript|graphql|sql|toml|x-www-form-urlencoded"
    r"|x-ndjson|jsonl|jwt|problem)|image/svg"
)
# Not shown: they would let a reader of the room act as the one who asked.
_HIDDEN = frozenset({"set-cookie", "set-cookie2", "connection", "keep-alive", "transfer-encoding"})


def encoded(body: Any) -> tuple[bytes | None, str]:
    """A body as it is sent, and the content type it has unless the caller names one."""
    if body is None:
        return None, ""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return orjson.dumps(body), "application/json"


def shown_headers(answer: Answer, redaction: Redaction) -> dict[str, str]:
    """Headers as one object; repeated ones are joined."""
    found: dict[str, str] = {}
    left = MAX_HEADERS_CHARS
    for name, value in answer.headers:
        if name in _HIDDEN:
            continue
        shown = redaction.text(clean(value))[:MAX_HEADER_CHARS]
        left -= len(name) + len(shown)
        if left < 0:
            break
        found[name] = f"{found[name]}, {shown}" if name in found else shown
    return found


def shown_body(answer: Answer, redaction: Redaction) -> Any:
    """JSON as its value, text as text, and of anything else what it is."""
    kind, _, parameters = answer.header("content-type").partition(";")
    kind = kind.strip().lower()
    if answer.coding or not _is_text(kind, answer.body):
        return _described(kind, answer)
    text = clean(_decoded(answer.body, parameters))
    if answer.truncated and redaction.longest:
        # The cut may have gone through a secret.
        text = text[: -redaction.longest]
    text = redaction.text(text)
    if _JSON_TYPE.fullmatch(kind) and not answer.truncated and len(answer.body) <= MAX_JSON_BYTES:
        value = from_json(text) if text.strip() else text
        if not isinstance(value, str) and not _is_deep(value):
            return redaction.value(clean_json(value))
    return text


def _is_text(kind: str, body: bytes) -> bool:
    if _JSON_TYPE.fullmatch(kind) or _TEXT_TYPE.match(kind) or not body:
        return True
    if kind and kind != "application/octet-stream":
        return False
    head = body[:1024]
    return b"\0" not in head and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    text = head.decode(errors="replace")
    return "\ufffd" not in text[:-1]  # the last character may be cut


def _decoded(body: bytes, parameters: str) -> str:
    found = re.search(r"charset\s*=\s*\"?([\w.:-]{1,40})", parameters, re.IGNORECASE)
    for mark, charset in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"),
                          (b"\xfe\xff", "utf-16")):  # fmt: skip
        if body.startswith(mark):
            return body.decode(charset, errors="replace")
    name = found.group(1) if found else "utf-8"
    if name.lower() not in _CHARSETS:
        name = "utf-8"
    return body.decode(name, errors="replace")


# Those whose decoders make one character of a byte at most; others are tried as UTF-8.
_CHARSET_NAMES = """
    utf-8 utf8 ascii us-ascii utf-16 utf-16le utf-16be iso-8859-1 latin1 latin-1 iso-8859-2
    iso-8859-15 windows-1250 windows-1251 windows-1252 cp1252 koi8-r shift_jis euc-jp euc-kr
    gb2312 gbk gb18030 big5
"""
_CHARSETS = frozenset(_CHARSET_NAMES.split())


def _described(kind: str, answer: Answer) -> str:
    if answer.coding:
        kind = f"{kind or 'unknown type'}, compressed with {clean(answer.coding)[:40]}"
    size = f"{'at least ' if answer.truncated else ''}{len(answer.body)} bytes"
    digest = hashlib.sha256(answer.body).hexdigest()
    return f"[binary, not shown: {clean(kind)[:120] or 'unknown type'}, {size}, sha256 {digest}]"


def _is_deep(value: Any) -> bool:
    level: Sequence[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
