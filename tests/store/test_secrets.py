"""Secrets at rest and signatures on the bus."""

import base64
import os
import uuid

import pytest

from store.bus import Signer
from store.secrets import KeyRing, SecretError


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def test_a_secret_opens_for_its_tenant_alone() -> None:
    ring, tenant = KeyRing([key()]), uuid.uuid4()
    sealed = ring.encrypt("sk-hush", tenant)
    assert b"hush" not in sealed
    assert ring.decrypt(sealed, tenant) == "sk-hush"
    assert sealed != ring.encrypt("sk-hush", tenant)
    with pytest.raises(SecretError):
        ring.decrypt(sealed, uuid.uuid4())
    with pytest.raises(SecretError):
        ring.decrypt(sealed[:-1] + bytes([sealed[-1] ^ 1]), tenant)


def test_keys_are_rotated_by_putting_a_new_one_first() -> None:
    old, new, tenant = key(), key(), uuid.uuid4()
    sealed = KeyRing([old]).encrypt("word", tenant)
    assert KeyRing([new, old]).decrypt(sealed, tenant) == "word"
    with pytest.raises(SecretError, match="EVERTURN_SECRET_KEYS"):
        KeyRing([new]).decrypt(sealed, tenant)


@pytest.mark.parametrize("keys", [[], ["short"], ["!!!"], [base64.b64encode(b"x" * 31).decode()]])
def test_a_bad_key_is_named(keys: list[str]) -> None:
    with pytest.raises(SecretError, match="EVERTURN_SECRET_KEYS"):
        KeyRing(keys)


def test_only_our_processes_speak_in_a_room() -> None:
    ours, theirs = Signer(KeyRing([key()])), Signer(KeyRing([key()]))
    payload = ours.seal("room_a", '{"text":"‹né›"}'.encode())
    assert ours.open("room_a", payload) == '{"text":"‹né›"}'.encode()
    assert ours.open("room_b", payload) is None
    assert theirs.open("room_a", payload) is None
    assert ours.open("room_a", payload[:-2] + "x}") is None
    for forged in ("D", "Dx", "D" + "A" * 22 + "{}", "D" + "é" * 30):
        assert ours.open("room_a", forged) is None
