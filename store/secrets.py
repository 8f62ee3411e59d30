"""Secrets at rest and signatures: AES-256-GCM under a key ring, bound to a tenant.

The first key encrypts and signs, all decrypt, so that a key is rotated by putting a new one first.
A ciphertext is ``key id (4 bytes) | nonce (12) | ciphertext+tag``; the tenant's id is associated
data, so a value copied into another tenant's row does not open.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 4
SIGNATURE_BYTES = 16


class SecretError(Exception):
    """A key is unusable, or a ciphertext does not open; never says what was inside."""


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


class KeyRing:
    """Keys of the installation.

    Args:
        keys: Base64 of at least 32 random bytes each; first encrypts, all decrypt.

    Raises:
        SecretError: No key, or one that is malformed or too short.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SecretError(
                "EVERTURN_SECRET_KEYS is empty; set it to base64 of 32 random bytes,"
                " e.g. `openssl rand -base64 32`"
            )
        raw = [self._decode(key) for key in keys]
        self._ciphers = {self._key_id(key): AESGCM(_derive(key, b"at-rest")) for key in raw}
        self._first = self._key_id(raw[0])
        self._signing = [_derive(key, b"bus") for key in raw]

    @staticmethod
    def _decode(key: str) -> bytes:
        try:
            raw = base64.b64decode(key, altchars=b"-_" if set("-_") & set(key) else None)
        except ValueError as exc:
            raise SecretError("a key in EVERTURN_SECRET_KEYS is not base64") from exc
        if len(raw) < KEY_BYTES:
            raise SecretError(f"a key in EVERTURN_SECRET_KEYS is shorter than {KEY_BYTES} bytes")
        return raw

    @staticmethod
    def _key_id(key: bytes) -> bytes:
        return hashlib.sha256(b"id" + key).digest()[:KEY_ID_BYTES]

    def encrypt(self, plaintext: str, tenant_id: UUID) -> bytes:
        """Encrypt for storage in a row of `tenant_id`."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, plaintext.encode(), tenant_id.bytes)
        return self._first + nonce + sealed

    def decrypt(self, ciphertext: bytes, tenant_id: UUID) -> str:
        """Open what `encrypt` made for the same tenant.

        Raises:
            SecretError: Unknown key, another tenant's value, or a damaged one.
        """
        cipher = self._ciphers.get(ciphertext[:KEY_ID_BYTES])
        if cipher is None:
            raise SecretError("encrypted under a key that is not in EVERTURN_SECRET_KEYS")
        nonce = ciphertext[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
        try:
            opened = cipher.decrypt(
                nonce, ciphertext[KEY_ID_BYTES + NONCE_BYTES :], tenant_id.bytes
            )
        except InvalidTag as exc:
            raise SecretError("a stored secret does not open for this tenant") from exc
        return opened.decode()

    def sign(self, channel: str, body: bytes) -> bytes:
        """Signature of a bus message, so that only our processes can speak in a room."""
        return self._mac(self._signing[0], channel, body)

    def verify(self, channel: str, body: bytes, signature: bytes) -> bool:
        """Whether one of our keys signed `body` for `channel`."""
        return any(
            hmac.compare_digest(self._mac(key, channel, body), signature) for key in self._signing
        )

    @staticmethod
    def _mac(key: bytes, channel: str, body: bytes) -> bytes:
        return hmac.digest(key, channel.encode() + b"\0" + body, "sha256")[:SIGNATURE_BYTES]


def new_token(prefix: str) -> tuple[str, bytes]:
    """A random bearer token and the hash under which it is stored.

    Returns:
        ``(token, sha256 of it)``; the token has 256 bits, so a fast hash is enough.
    """
    token = f"{prefix}_{base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip('=')}"
    return token, hash_token(token)


def hash_token(token: str) -> bytes:
    """SHA-256 of a token as it is stored."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
