"""MCP servers that are processes on the worker's machine: named by the operator, by nobody else.

``EVERTURN_MCP_STDIO`` is the path of a JSON file::

    {"servers": [{"name": "files", "command": "/usr/bin/mcp-files", "args": ["/srv/shared"],
                  "env": {"LANG": "C"}, "tenants": ["<slug or id>"], "projects": ["<id>"]}]}

Who may use a server is named there as well: its tenants, its projects, or both; ``"*"`` is all.
"""

from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.mcp.errors import McpTrouble

EVERYBODY = "*"


class Command(BaseModel):
    """One server.

    Attributes:
        env: All the process is given beside PATH, HOME and the locale; nothing of ours.
        tenants: Slugs or ids; ``*`` for all.
        projects: Ids; ``*`` for all of the tenants named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    command: Annotated[str, Field(min_length=1)]
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: Path | None = None
    tenants: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()

    def serves(self, tenant_id: UUID, tenant_slug: str, project_id: UUID) -> bool:
        """Whether the operator lets that project use it."""
        if str(project_id) in self.projects:
            return True
        tenant = bool({EVERYBODY, tenant_slug, str(tenant_id)} & self.tenants)
        return tenant and (not self.projects or EVERYBODY in self.projects)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    servers: list[Command]


class ConfigurationError(Exception):
    """The operator's file cannot be used; the text says where it is wrong, not what it holds."""


class Commands:
    """The operator's servers by name."""

    def __init__(self, servers: list[Command] | None = None) -> None:
        self._servers = {server.name: server for server in servers or []}

    @classmethod
    def read(cls, path: Path | None) -> "Commands":
        """Those of a file; none without one.

        Raises:
            ConfigurationError: It cannot be read, or is not what it should be.
        """
        if path is None:
            return cls()
        try:
            found = _File.model_validate_json(path.read_bytes()).servers
        except OSError as error:
            raise ConfigurationError(f"EVERTURN_MCP_STDIO: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"EVERTURN_MCP_STDIO: {place}: {first['msg']}") from None
        if len({server.name for server in found}) < len(found):
            raise ConfigurationError("EVERTURN_MCP_STDIO: two servers have one name")
        return cls(found)

    def get(self, name: str) -> Command:
        """The server of that name.

        Raises:
            McpTrouble: There is none.
        """
        if name not in self._servers:
            raise McpTrouble("refused", "The operator's configuration does not name this server.")
        return self._servers[name]

    def for_project(self, tenant_id: UUID, tenant_slug: str, project_id: UUID) -> list[Command]:
        """What a project may use, by name."""
        return [
            self._servers[name]
            for name in sorted(self._servers)
            if self._servers[name].serves(tenant_id, tenant_slug, project_id)
        ]
