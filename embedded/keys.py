"""The installation's own secrets: made once, kept in ``DATA_DIR/secrets.json`` (mode 0600)."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from embedded.errors import CannotStart

FILE_NAME = "secrets.json"


def _password() -> str:
    return secrets.token_urlsafe(24)  # letters, digits, - and _: safe in a URL and in SQL


def _memorable_password() -> str:
    return "-".join(secrets.token_hex(2) for _ in range(3))  # typed by hand, on loopback only


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """One password per database role, the key ring's key and the demo's password."""

    superuser_password: str = field(default_factory=_password, repr=False)
    owner_password: str = field(default_factory=_password, repr=False)
    app_password: str = field(default_factory=_password, repr=False)
    demo_owner_password: str = field(default_factory=_password, repr=False)
    demo_reader_password: str = field(default_factory=_password, repr=False)
    demo_password: str = field(default_factory=_memorable_password, repr=False)
    secret_keys: str = field(default_factory=_key, repr=False)

    @classmethod
    def kept_in(cls, data_dir: Path) -> Self:
        """Read the keys of this data folder; make and store those that are missing.

        Raises:
            CannotStart: the file is damaged. New keys would lock us out of our own data.
        """
        path = data_dir / FILE_NAME
        known = {each.name for each in fields(cls)}
        stored: dict[str, str] = {}
        if path.exists():
            try:
                stored = {k: v for k, v in json.loads(path.read_text()).items() if k in known}
            except ValueError as error:
                raise CannotStart(f"{path} is damaged; restore it from a backup") from error
        keys = cls(**stored)
        if set(stored) != known:
            keys._store(path)
        return keys

    def _store(self, path: Path) -> None:
        # Written aside and renamed: a crash in between must not lose the only copy.
        aside = path.with_suffix(".new")
        with os.fdopen(os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
