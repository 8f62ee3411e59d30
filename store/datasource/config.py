"""The ``config`` of a datasource, per kind (docs/protocol.md §6); unknown fields are refused."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from store.datasource.errors import InvalidConfig
from store.net import AddressRefused, normal_host
from store.outbound.headers import header_name, header_value

MAX_SECRET_CHARS = 8 * 1024
MYSQL_SYSTEM_DATABASES = frozenset({"information_schema", "mysql", "performance_schema", "sys"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Source(Protocol):
    """What is needed to open a datasource."""

    @property
    def id(self) -> UUID: ...  # noqa: D102
    @property
    def tenant_id(self) -> UUID: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def config(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def secret(self) -> str: ...  # noqa: D102


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("contains a control character")
    return value


def _host(value: str) -> str:
    try:
        return normal_host(value)
    except AddressRefused as error:
        raise ValueError(str(error)) from error


Text = Annotated[str, AfterValidator(_plain)]
# PostgreSQL truncates longer names silently, and then they name something else.
Name = Annotated[Text, Field(min_length=1, max_length=63)]
Host = Annotated[Text, AfterValidator(_host)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
Ssl = Literal["disable", "prefer", "require", "verify-full"]


class Config(BaseModel):
    """Base of every kind's config."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ServerConfig(Config):
    """A database server.

    Attributes:
        ssl: ``prefer`` uses TLS if the server offers it; ``require`` does not check the
            certificate; ``verify-full`` does, against the system's trust store. ``true`` and
            ``false`` are read as ``require`` and ``disable``.
    """

    host: Host
    port: int = Field(ge=1, le=65535)
    database: Name
    user: Name
    ssl: Ssl = "prefer"

    @field_validator("ssl", mode="before")
    @classmethod
    def _from_bool(cls, value: object) -> object:
        match value:
            case True:
                return "require"
            case False:
                return "disable"
            case None:
                return "prefer"
            case _:
                return value


class PostgresqlConfig(ServerConfig):
    """A PostgreSQL database."""

    port: int = Field(default=5432, ge=1, le=65535)


class MysqlConfig(ServerConfig):
    """A database of a MySQL or MariaDB server."""

    port: int = Field(default=3306, ge=1, le=65535)

    @field_validator("database")
    @classmethod
    def _is_not_the_servers(cls, value: str) -> str:
        if value.lower() in MYSQL_SYSTEM_DATABASES:
            raise ValueError("is the server's own; name the database your data is in")
        return value


class SqliteConfig(Config):
    """A database file among the project's files.

    Attributes:
        path: Relative to the project's folder, with ``/`` between its parts.
    """

    path: Text = Field(min_length=1, max_length=1024)


class DuckdbConfig(Config):
    """Files among the project's files, read by DuckDB.

    Attributes:
        path: A ``.duckdb``, CSV, TSV, JSON or Parquet file, a folder of them, or a pattern with
            ``*`` and ``?`` in its last part; relative to the project's folder.
    """

    path: Text = Field(min_length=1, max_length=1024)


class HttpConfig(Config):
    """An HTTP service whose secret is added to requests beneath `base_url`.

    Attributes:
        headers: Sent with every request beneath the base.
        auth: How the secret is sent; with ``basic`` it is ``user:password``.
        auth_header: The header that carries it where `auth` is ``header``.
        openapi_url: Where the service describes itself; read when it is saved or tested.
        idempotency_keys: The service carries out requests with one ``Idempotency-Key`` once, so
            that a lost attempt may be repeated.
    """

    base_url: Text = Field(min_length=1, max_length=2048, pattern=r"^https?://")
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, max_length=32)
    auth: Literal["bearer", "basic", "header", "none"] = "none"
    auth_header: HeaderName | None = None
    openapi_url: Text | None = Field(default=None, max_length=2048)
    idempotency_keys: bool = False

    @model_validator(mode="after")
    def _names_its_header(self) -> Self:
        if (self.auth == "header") != (self.auth_header is not None):
            raise ValueError("auth_header goes with auth 'header', and auth 'header' needs it")
        return self


KINDS: Mapping[str, type[Config]] = {
    "postgresql": PostgresqlConfig,
    "mysql": MysqlConfig,
    "sqlite": SqliteConfig,
    "duckdb": DuckdbConfig,
    "http": HttpConfig,
}


def parse_config(kind: str, config: Mapping[str, Any]) -> Config:
    """The config of `kind`, checked.

    Raises:
        InvalidConfig: Unknown kind, or a field that does not fit; ``errors`` names each.
    """
    model = KINDS.get(kind)
    if model is None:
        known = ", ".join(sorted(KINDS))
        raise InvalidConfig(f"This installation has no datasources of that kind; it has {known}.")
    try:
        return model.model_validate(dict(config))
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, ("config", *item["loc"]))), "message": item["msg"]}
            # Without the input: a password may have been put into the wrong field.
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        listed = "; ".join(f"{item['field']}: {item['message']}" for item in errors[:5])
        # Without the cause: its text repeats the input.
        raise InvalidConfig(
            f"The datasource's config is not valid: {listed}", errors=errors
        ) from None


def check_secret(secret: str) -> str:
    """A password as it can be sent.

    Raises:
        InvalidConfig: Too long, or holds a NUL.
    """
    if len(secret) > MAX_SECRET_CHARS or "\0" in secret:
        raise InvalidConfig("The secret is too long or holds a NUL character.")
    return secret
