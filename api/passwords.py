"""Passwords: argon2id, checked off the event loop."""

import asyncio

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 1024


class Passwords:
    """Hashes and checks passwords.

    At most two at a time: argon2 takes 64 MiB and a core for some 50 ms each, and a burst of
    sign-ins must not starve the sockets.
    """

    def __init__(self) -> None:
        self._hash = PasswordHash((Argon2Hasher(),))
        self._slots = asyncio.Semaphore(2)
        self._nobody = self._hash.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Hash for storage."""
        async with self._slots:
            return await asyncio.to_thread(self._hash.hash, password)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether `password` is the stored one; takes as long when there is none stored."""
        async with self._slots:
            fits = await asyncio.to_thread(self._hash.verify, password, stored or self._nobody)
        return fits and stored is not None
