"""What the children are told: everything from outside, plus where the embedded servers are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from embedded.keys import Keys
from embedded.ports import LOOPBACK, free_port
from embedded.roles import Postgres, for_sqlalchemy
from embedded.temporal import Temporal
from store.settings import Settings

PREFIX = "EVERTURN_"
ALL_INTERFACES = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environments of all children of one stack."""

    settings: Settings
    keys: Keys
    data_dir: Path
    postgres: Postgres
    temporal: Temporal
    demo_model_port: int

    @classmethod
    def of(cls, settings: Settings, data_dir: Path) -> Self:
        """The environments of the stack in this data folder."""
        keys = Keys.kept_in(data_dir)
        return cls(
            settings=settings,
            keys=keys,
            data_dir=data_dir,
            postgres=Postgres(settings.postgres_port, keys),
            temporal=Temporal(
                port=settings.temporal_port,
                ui_port=settings.temporal_ui_port,
                http_port=free_port(),
            ),
            demo_model_port=free_port(),
        )

    @property
    def edge_host(self) -> str:
        """Where the edge is reached from this machine."""
        return LOOPBACK if self.settings.host in ALL_INTERFACES else self.settings.host

    @property
    def has_demo(self) -> bool:
        """The demo tenant: on, unless somebody said otherwise."""
        return self.settings.demo or not self._told("demo")

    @property
    def demo_password(self) -> str:
        """For both people of the demo."""
        return self.settings.demo_password.get_secret_value() or self.keys.demo_password

    @property
    def has_real_model(self) -> bool:
        """Whether the installation names a model of its own, by the worker's rule."""
        key = self.settings.openai_api_key.get_secret_value()
        return bool(key or self.settings.openai_base_url)

    @property
    def runs_demo_model(self) -> bool:
        """The demo model answers as long as nobody named another."""
        return not (self.has_real_model or self._told("demo_model_url"))

    def demo_model(self) -> dict[str, str]:
        """The demo model, which is told nothing about us."""
        env = {k: v for k, v in os.environ.items() if not k.startswith((PREFIX, "OPENAI_"))}
        return {**env, "PYTHONUNBUFFERED": "1"}

    def migrations(self) -> dict[str, str]:
        """The one process that is told the owner's password."""
        url = for_sqlalchemy(self.postgres.owner_dsn)
        return {
            **self.process("migrations", demo_data=False),
            f"{PREFIX}MIGRATIONS_DATABASE_URL": url,
        }

    def process(self, name: str, *, demo_data: bool) -> dict[str, str]:
        """Edge and worker."""
        # An operator's TEMPORAL_* profile names another server, its TLS and its API key.
        env = {k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")}
        env.pop(f"{PREFIX}MIGRATIONS_DATABASE_URL", None)
        ours = {
            "DATABASE_URL": for_sqlalchemy(self.postgres.app_dsn),
            "DATABASE_LISTEN_URL": "",
            "TEMPORAL_ADDRESS": self.temporal.address,
            "TEMPORAL_NAMESPACE": "default",
            "TEMPORAL_UI_URL": self.settings.temporal_ui_url or self.temporal.ui_url,
            "DATA_DIR": str(self.data_dir),
            "DEMO": "1" if self.has_demo else "0",
            "DEMO_PASSWORD": self.demo_password,
        }
        if not self._told("secret_keys"):
            ours["SECRET_KEYS"] = self.keys.secret_keys
        if not self._told("private_hosts"):
            ours["PRIVATE_HOSTS"] = "127.0.0.1,localhost,::1"
        if self.runs_demo_model:
            ours["DEMO_MODEL_URL"] = f"http://{LOOPBACK}:{self.demo_model_port}/v1"
        if demo_data and not self._told("demo_datasource_url"):
            ours["DEMO_DATASOURCE_URL"] = self.postgres.demo_reader_dsn
        if name == "worker" and self.settings.metrics_port is not None:
            # The edge has the port itself.
            ours["METRICS_PORT"] = str(self.settings.metrics_port + 1)
        env.update({PREFIX + name: value for name, value in ours.items()})
        env["TEMPORAL_CONFIG_FILE"] = os.devnull
        env["PYTHONUNBUFFERED"] = "1"
        return env

    def _told(self, name: str) -> bool:
        return name in self.settings.model_fields_set
