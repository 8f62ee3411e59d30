"""Settings, read once per process from the environment (prefix ``EVERTURN_``) and ``.env``.

docs/protocol.md §2 is the reference; ``tests/contract`` fails when the two drift apart.
"""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

POSTGRES_BUS = "postgres:"


def _is_bus(url: str) -> bool:
    if url == POSTGRES_BUS:
        return True
    try:
        parts = urlsplit(url)
        return parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is none; its message would repeat a part of the URL
        return False


class Settings(BaseSettings):
    """Everything a process may be told from outside.

    Lists (``PUBLIC_ORIGINS``, ``SECRET_KEYS``, ``PRIVATE_HOSTS``) are comma-separated.
    """

    model_config = SettingsConfigDict(
        env_prefix="EVERTURN_",
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        # What is wrong may be a secret, or hold one.
        hide_input_in_errors=True,
    )

    # Data
    database_url: SecretStr = SecretStr("")
    database_listen_url: SecretStr = SecretStr("")
    migrations_database_url: SecretStr = SecretStr("")
    database_pool_size: int = Field(default=10, ge=1, le=200)
    secret_keys: Annotated[list[SecretStr], NoDecode] = Field(default_factory=list)

    # Temporal and the bus
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_ui_url: str = ""
    bus_url: SecretStr = SecretStr(POSTGRES_BUS)

    # The worker
    build_id: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,128}$")
    promote: bool = False

    # The edge
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    public_origins: Annotated[list[str], NoDecode] = Field(default_factory=list)
    session_hours: int = Field(default=336, ge=1)
    metrics_port: int | None = None
    sockets_per_address: int = Field(default=500, ge=1, le=1_000_000)
    page_dir: Path = Path("frontend/dist")

    # The log of a room
    replay_events: int = Field(default=5_000, ge=0, le=100_000)
    replay_seconds: int = Field(default=120, ge=0, le=30 * 24 * 3600)

    # Projects' files, for edges and tool workers; empty: in data_dir
    files_dir: Path | None = None

    # The embedded stack only
    temporal_port: int = Field(default=7233, ge=1, le=65535)
    temporal_ui_port: int = Field(default=8233, ge=1, le=65535)
    postgres_port: int = Field(default=5433, ge=1, le=65535)
    data_dir: Path = Path(".everturn")

    # First inhabitants
    demo: bool = False
    demo_password: SecretStr = SecretStr("")
    demo_model_url: str = ""
    demo_datasource_url: SecretStr = SecretStr("")
    admin_email: str = ""
    admin_password: SecretStr = SecretStr("")

    # The installation's model, under the names its SDKs use
    openai_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("OPENAI_API_KEY")
    )
    openai_base_url: str = Field(default="", validation_alias=AliasChoices("OPENAI_BASE_URL"))
    openai_model: str = Field(default="", validation_alias=AliasChoices("OPENAI_MODEL"))

    # How long a model may keep us waiting: for its first word, for the next one, for an answer as
    # a whole, and for any word at all over all attempts (waits it asked for not counted)
    model_first_byte_seconds: float = Field(default=60, gt=0, le=600)
    model_idle_seconds: float = Field(default=30, gt=0, le=600)
    model_total_seconds: float = Field(default=600, gt=0, le=600)
    model_away_seconds: float = Field(default=115, gt=0, le=3600)

    # MCP servers that are processes of the worker, named by the operator (store/mcp/operator.py)
    mcp_stdio: Path | None = None

    private_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    log_level: str = "INFO"

    @field_validator("secret_keys", "public_origins", "private_hosts", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("bus_url")
    @classmethod
    def _known_bus(cls, value: SecretStr) -> SecretStr:
        if not _is_bus(value.get_secret_value()):
            raise ValueError(
                "the bus is postgres:, or nats://host:4222 or tls://host:4222,"
                " with user:password@ before the host where the server asks for them"
            )
        return value

    @cached_property
    def origins(self) -> frozenset[str]:
        """Exact browser origins that may open a socket or send a cookie."""
        if self.public_origins:
            return frozenset(origin.rstrip("/") for origin in self.public_origins)
        return frozenset({f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"})

    @property
    def listen_url(self) -> str:
        """Database URL for LISTEN; direct, because a transaction pooler drops LISTEN."""
        return (self.database_listen_url.get_secret_value()) or self.database_url.get_secret_value()

    @property
    def session_lifetime(self) -> timedelta:
        """How long a browser session lasts after sign-in."""
        return timedelta(hours=self.session_hours)

    @property
    def files_root(self) -> Path:
        """Folder that holds the files of all projects."""
        return self.files_dir or self.data_dir / "files"

    @property
    def temporal_ui_base(self) -> str:
        """Base address of the Temporal Web UI, for links from tool cards to runs."""
        if self.temporal_ui_url:
            return self.temporal_ui_url.rstrip("/")
        host = urlsplit(f"//{self.temporal_address}").hostname or "127.0.0.1"
        return f"http://{host}:{self.temporal_ui_port}"
