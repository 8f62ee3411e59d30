"""Secrets taken out of what a target says, should it repeat them."""

import base64
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "[secret]"
MIN_SECRET_CHARS = 4  # a shorter one is not kept secret by hiding it, and hides half of the text
MIN_HEADER_CHARS = 8
# Headers of a datasource whose values nobody needs to hide.
_PLAIN_NAMES = "accept accept-language cache-control content-type from origin referer user-agent"
_PLAIN_HEADERS = frozenset(_PLAIN_NAMES.split())


class Redaction:
    """Knows a request's secrets in the forms in which servers repeat them.

    Args:
        secrets: As they were stored, and as they were sent.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET_CHARS:
                forms |= _forms(secret)
        # The longest first: one may hold another.
        self._forms = sorted(forms, key=len, reverse=True)

    @classmethod
    def of(cls, secret: str, headers: Iterable[tuple[str, str]]) -> "Redaction":
        """For a datasource's secret and the headers it is sent with."""
        found = [secret]
        if ":" in secret:
            found.append(secret.partition(":")[2])  # the password of basic
        for name, value in headers:
            if name.lower() not in _PLAIN_HEADERS and len(value) >= MIN_HEADER_CHARS:
                found += [value, value.partition(" ")[2]]
        return cls(found)

    @property
    def longest(self) -> int:
        """Characters of the longest form."""
        return len(self._forms[0]) if self._forms else 0

    def text(self, text: str) -> str:
        """`text` without any of them."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value without any of them, keys included."""
        if not self._forms:
            return value
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self.value(item) for key, item in value.items()}
            case list():
                return [self.value(item) for item in value]
            case _:
                return value


def _forms(secret: str) -> set[str]:
    data = secret.encode()
    sealed = base64.b64encode(data).decode()
    return {
        secret,
        sealed,
        sealed.rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        data.hex(),
        data.hex().upper(),
        json.dumps(secret)[1:-1],
    }
