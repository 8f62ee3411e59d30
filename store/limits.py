"""Limits of docs/protocol.md §8: defaults, and what a tenant's ``limits`` may set instead."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_MESSAGE_BYTES = 64 * 1024
MAX_FRAME_BYTES = 256 * 1024
MAX_JSON_DEPTH = 32
MAX_TITLE_CHARS = 255
MAX_CLIENT_MESSAGE_ID_CHARS = 128


class TenantLimits(BaseModel):
    """Limits a tenant's row may override; an absent one has the default below."""

    model_config = ConfigDict(extra="forbid", strict=True)

    messages_per_minute: int = Field(default=30, ge=1, le=1_000_000)
    steps_per_turn: int = Field(default=16, ge=1, le=1_000)
    tool_calls_per_step: int = Field(default=16, ge=1, le=128)
    # Twenty answers stream at once on two cores with room to spare for the other tenants
    # (docs/performance.md); a tenant with a machine of its own sets as many as it carries.
    concurrent_turns: int = Field(default=20, ge=1, le=10_000)
    # While other tenants are at work, so many of this one's begin each second: half of what two
    # cores can begin and end.
    shared_turns_per_second: int = Field(default=6, ge=1, le=1_000)
    turn_seconds: int = Field(default=30 * 60, ge=10, le=24 * 3600)
    # Of all the tenant's tools to one host.
    http_requests_per_minute: int = Field(default=60, ge=1, le=10_000)
    sockets_per_user: int = Field(default=20, ge=1, le=100_000)
    # Files of a project: one, all together, and how many with their folders.
    file_bytes: int = Field(default=50 * 1024**2, ge=1, le=1024**4)
    project_files_bytes: int = Field(default=1024**3, ge=1, le=1024**5)
    project_files: int = Field(default=10_000, ge=1, le=1_000_000)
    # Of tool calls; `store.tool_limits` holds them over all workers. A busy turn makes some two
    # hundred calls a minute.
    tool_calls_per_minute: int = Field(default=1_200, ge=1, le=1_000_000)
    tool_calls_per_user_minute: int = Field(default=400, ge=1, le=1_000_000)
    concurrent_tools: int = Field(default=40, ge=1, le=10_000)
    tool_result_bytes_per_minute: int = Field(default=128 * 1024 * 1024, ge=1024, le=2**40)
    # All results of the tenant that are kept to be given again.
    tool_cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0, le=2**40)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "TenantLimits":
        """Limits of a tenant's row; a value a newer version wrote and we do not know is ignored."""
        known = {name: value for name, value in stored.items() if name in cls.model_fields}
        try:
            return cls(**known)
        except ValidationError:
            return cls()
