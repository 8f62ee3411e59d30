"""What a tool is: a name, an argument model, a declared effect and one coroutine.

A tool's failure is a result for the model: raise one of the `ToolError` leaves and the executor
stores its code and text. Any other exception is a fault of ours and is reported as such.

    ToolError
    ├── ToolRefused       a guard of ours said no; the text names the rule
    ├── ToolNotFound      the thing named does not exist, or is not this project's
    ├── ToolFailed        the target answered with an error
    ├── ToolTimeout       our deadline passed
    ├── ToolUnavailable   no connection to the target
    ├── ToolTooLarge      more than a limit allows, and cutting it would mislead
    └── ToolOutcomeUnknown  it was begun, and may have taken effect
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from activities.tools.schemas import parameters
from store.handles import Handles
from workflows import policies
from workflows.types import Effect


class ToolError(Exception):
    """A failure the model and the people in the room are told about.

    Attributes:
        code: Stable code of docs/protocol.md §4.
        message: One or two sentences for people and the model; says what to do next.
    """

    code: ClassVar[str] = "failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ToolRefused(ToolError):
    """A guard refused the call before it reached its target."""

    code = "refused"


class ToolNotFound(ToolError):
    """The named thing does not exist here; the same text whether it exists elsewhere or not."""

    code = "not_found"


class ToolFailed(ToolError):
    """The target was reached and answered with an error."""

    code = "failed"


class ToolTimeout(ToolError):
    """The deadline passed."""

    code = "timeout"


class ToolUnavailable(ToolError):
    """The target could not be reached."""

    code = "unavailable"


class ToolTooLarge(ToolError):
    """A limit was passed where a cut would mislead."""

    code = "too_large"


class ToolOutcomeUnknown(ToolError):
    """The target was asked for an effect and did not say whether it happened."""

    code = "outcome_unknown"


class Arguments(BaseModel):
    """Base of every tool's arguments: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NoArguments(Arguments):
    """For tools that take none."""


@dataclass(frozen=True, slots=True)
class Datasource:
    """A project's datasource as a tool sees it.

    Attributes:
        version: Grows with every change; pools are kept per (id, version).
        config: Per kind, docs/protocol.md §6.
        secret: Decrypted; never in a repr.
        operations: What an HTTP service offers; only `Datasources.get` reads it.
        cache_seconds: How old a result may be that is given again; 0 for not at all.
    """

    id: UUID
    tenant_id: UUID
    name: str
    kind: str
    version: int
    config: Mapping[str, Any]
    secret: str = ""
    operations: Sequence[Mapping[str, Any]] = ()
    cache_seconds: int = 0

    @override
    def __repr__(self) -> str:
        """Without config and secret."""
        return f"Datasource({self.id} {self.kind} v{self.version})"


class Datasources(Protocol):
    """The datasources of one project, read from the database at the time of use."""

    async def list(self) -> Sequence[Datasource]:
        """All of the project, by name."""
        ...

    async def get(self, datasource_id: str) -> Datasource:
        """One by id.

        Raises:
            ToolNotFound: Unknown, malformed, or of another project or tenant (same text).
        """
        ...


@dataclass(frozen=True, slots=True)
class Reach:
    """What a project lets `http_request` reach: hosts as in its settings, and ports."""

    hosts: Sequence[str] = ()
    ports: Sequence[int] = ()


class Web(Protocol):
    """What of the web a project's tools may ask, read from the database at the time of use."""

    async def reach(self) -> Reach:
        """Allowed hosts and ports."""
        ...

    async def admit(self, host: str) -> int:
        """Count one request to a host; 0, or how many a minute may be if that is one too many."""
        ...


class NoWeb:
    """For contexts without a project: nothing is allowed."""

    async def reach(self) -> Reach:
        """None."""
        return Reach()

    async def admit(self, host: str) -> int:
        """Nothing to count."""
        return 0


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What one run of a tool may know and use.

    Attributes:
        attempt: 1 for the first run of this call.
        idempotency_key: The same for every attempt of one call.
        deadline: Wall-clock time this attempt has, enforced by the executor as well.
        handles: Signs what is given out to be brought back; None where nothing is.
    """

    tenant_id: UUID
    project_id: UUID
    execution_id: UUID
    attempt: int
    idempotency_key: str
    deadline: timedelta
    datasources: Datasources
    web: Web = field(default_factory=NoWeb)
    handles: Handles | None = None


A = TypeVar("A", bound=Arguments)


class Tool(ABC, Generic[A]):
    """One tool. Stateless between calls, but may hold pools given to its constructor.

    Attributes:
        name: What the model calls; stable.
        description: For the model.
        arguments: Its schema is shown to the model and enforced, strictly, before `run`.
        effect: ``read`` is retried; ``idempotent`` is retried with the same key; ``once`` is
            never run again after a claim whose outcome was not stored. The strictest a call may
            have; `effect_of` tells that of one call.
        queue: Activity task queue.
        deadline: Per attempt.
        max_attempts: How often its activity may be started: again after a lost worker or a fault of
            ours, never after an outcome.
        policy: What holds where no tool policy speaks of it (``allow``, ``ask`` or ``deny``); None
            for what its effect stands for: reading is allowed, the rest asks.
        cacheable: Its results may be given again for as long as the datasource says that its
            argument ``datasource_id`` names. Only for ``read``.
    """

    name: str
    description: str
    arguments: type[A]
    effect: Effect
    queue: str
    deadline: timedelta
    max_attempts: ClassVar[int] = policies.TOOL_MAX_ATTEMPTS
    policy: ClassVar[Literal["allow", "ask", "deny"] | None] = None
    cacheable: ClassVar[bool] = False

    async def effect_of(self, arguments: A, datasources: Datasources) -> Effect:
        """What this very call may do; it is stored with the call and decides ever after.

        Raises:
            ToolError: It cannot be told; then it is `effect`.
        """
        return self.effect

    def parameters(self) -> dict[str, Any]:
        """The schema of its arguments as the model reads it."""
        return parameters(self.arguments)

    def parse(self, value: dict[str, Any]) -> A:
        """A call's JSON object as its arguments; nothing is guessed or converted.

        Raises:
            pydantic.ValidationError: It does not fit.
            InvalidArguments: The same, in words of the tool's own.
        """
        return self.arguments.model_validate(value)

    @abstractmethod
    async def run(self, arguments: A, context: ToolContext) -> dict[str, Any]:
        """Do it.

        Cancellation (a stop, or the deadline) arrives as `asyncio.CancelledError`; the
        implementation ends what it began at the target and re-raises.

        Returns:
            A JSON-safe object (finite numbers, no NUL, no lone surrogates).

        Raises:
            ToolError: A failure for the model to act on.
        """
