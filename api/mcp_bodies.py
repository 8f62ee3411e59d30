"""What is asked and answered about MCP servers and their tools."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from api.bodies import Body, Name, storable
from store.access import Role
from store.datasource.config import MAX_SECRET_CHARS
from store.mcp.catalogue import MAX_TOOL_NAME_CHARS, MAX_TOOLS
from store.mcp.endpoint import MAX_URL_CHARS, shown
from store.tables import McpServer, McpTool


def _header_safe(value: str) -> str:
    if not value.isascii() or not value.isprintable() or value.strip() != value:
        raise ValueError("holds a character that no header takes")
    return value


Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS), AfterValidator(storable)]
Secret = Annotated[str, Field(max_length=MAX_SECRET_CHARS), AfterValidator(_header_safe)]
ToolName = Annotated[
    str, Field(min_length=1, max_length=MAX_TOOL_NAME_CHARS), AfterValidator(storable)
]


class ToolAnswer(BaseModel):
    """A tool of a server.

    Attributes:
        call_name: What the model calls.
        hints: What the server says of itself; believed by nobody.
        status: ``approved``; ``new`` or ``changed`` until an owner approves it; ``gone``.
        read_only: An owner said that it only reads.
    """

    name: str
    call_name: str
    description: str
    input_schema: dict[str, Any]
    hints: dict[str, Any]
    hash: str
    status: Literal["approved", "new", "changed", "gone"]
    read_only: bool
    approved_by: UUID | None
    approved_at: datetime | None

    @classmethod
    def of(cls, row: McpTool) -> "ToolAnswer":
        """Answer for a row."""
        status: Literal["approved", "new", "changed", "gone"] = "changed"
        if not row.listed:
            status = "gone"
        elif row.approved_hash is None:
            status = "new"
        elif row.approved_hash == row.hash:
            status = "approved"
        return cls(
            name=row.name, call_name=row.call_name, description=row.description,
            input_schema=row.input_schema, hints=row.hints, hash=row.hash, status=status,
            read_only=row.read_only, approved_by=row.approved_by, approved_at=row.approved_at,
        )  # fmt: skip


class ServerAnswer(BaseModel):
    """An MCP server. `has_secret` is all that is said of its secret.

    Attributes:
        problem: Why its tools could not be read the last time.
        dropped: Tools that were not taken, each with the reason.
        checked_at: When its tools were read; null: a worker has yet to come to it.
    """

    id: UUID
    project_id: UUID
    name: str
    slug: str
    url: str
    has_secret: bool
    version: int
    tools: list[ToolAnswer]
    dropped: list[Any]
    problem: str | None
    checked_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: McpServer, tools: Sequence[McpTool], role: Role) -> "ServerAnswer":
        """Answer for a row; a URL's query, which may be a key, is for owners."""
        return cls(
            id=row.id, project_id=row.project_id, name=row.name, slug=row.slug,
            url=row.url if role >= Role.OWNER else shown(row.url),
            has_secret=row.secret is not None, version=row.version,
            tools=[ToolAnswer.of(tool) for tool in tools], dropped=row.dropped,
            problem=row.problem, checked_at=row.checked_at, created_at=row.created_at,
            updated_at=row.updated_at,
        )  # fmt: skip


class NewServer(Body):
    """A server to be added: its URL, or ``stdio:<name>`` of the operator's configuration."""

    name: Name
    url: Url
    secret: Secret | None = None


class ServerChange(Body):
    """What to change; an empty `secret` is forgotten."""

    url: Url | None = None
    secret: Secret | None = None


class ToolApproval(Body):
    """A tool as an owner has seen it."""

    name: ToolName
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    read_only: bool = False


class Approvals(Body):
    """Tools to be approved."""

    tools: list[ToolApproval] = Field(min_length=1, max_length=MAX_TOOLS)


class Revocations(Body):
    """Tools whose approval is taken back."""

    tools: list[ToolName] = Field(min_length=1, max_length=MAX_TOOLS)


class CommandAnswer(BaseModel):
    """A server of the operator's configuration that the project may add."""

    name: str
    url: str
