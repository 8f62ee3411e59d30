"""Handles: what we give out to be brought back, signed so that nobody can make one up.

A handle names nothing by itself. It proves that we said it about this very subject, in this
project, not too long ago; whoever brings it repeats the subject, and is authorised like anybody.
"""

import base64
import re
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import orjson

from store.secrets import KeyRing

# Longer than any cached result that holds one (`store.tool_cache.MAX_CACHE_SECONDS`).
LIFETIME = timedelta(hours=48)

_FORM = re.compile(r"([0-9a-f]{8,10})\.([A-Za-z0-9_-]{22})")


class BadHandle(Exception):
    """Not one of ours, or one about something else."""


class ExpiredHandle(BadHandle):
    """One of ours, from too long ago."""


class Handles:
    """Handles of one project.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        keys: KeyRing,
        tenant_id: UUID,
        project_id: UUID,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._project = [str(tenant_id), str(project_id)]
        self._clock = clock

    def seal(self, purpose: str, subject: list[str]) -> str:
        """A handle about `subject`."""
        expires = f"{int(self._clock() + LIFETIME.total_seconds()):x}"
        signature = self._keys.sign(self._channel(purpose), self._body(expires, subject))
        return f"{expires}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def check(self, handle: str, purpose: str, subject: list[str]) -> None:
        """See that `handle` was given out about `subject`.

        Raises:
            BadHandle: It was not.
            ExpiredHandle: It was, but is too old.
        """
        parts = _FORM.fullmatch(handle)
        if parts is None:
            raise BadHandle("malformed")
        expires, encoded = parts.groups()
        signature = base64.urlsafe_b64decode(encoded + "==")
        body = self._body(expires, subject)
        if not self._keys.verify(self._channel(purpose), body, signature):
            raise BadHandle("not about this")
        if int(expires, 16) < self._clock():
            raise ExpiredHandle("too old")

    def _body(self, expires: str, subject: list[str]) -> bytes:
        return orjson.dumps([*self._project, expires, *subject])

    @staticmethod
    def _channel(purpose: str) -> str:
        # No name of a room or of the control channel has a space.
        return f"handle {purpose}"
