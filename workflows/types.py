"""The nouns that cross between workflows, activities and the edge: ids, counts, decisions."""

from dataclasses import dataclass, field
from enum import StrEnum


class Queue(StrEnum):
    """Task queues; docs/protocol.md §5 says what runs on each."""

    TURNS = "turns"
    MODEL = "model"
    TOOLS_DATABASE = "tools-database"
    TOOLS_HTTP = "tools-http"
    TOOLS_FILES = "tools-files"
    TOOLS_MCP = "tools-mcp"


class Effect(StrEnum):
    """What running a tool a second time may do to the world."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


class TurnStatus(StrEnum):
    """States of a turn as rooms see them."""

    QUEUED = "queued"
    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_TURN_STATUSES = (TurnStatus.QUEUED, TurnStatus.RUNNING, TurnStatus.AWAITING_APPROVAL)


class TurnCode(StrEnum):
    """Why a turn ended without its answer."""

    TOO_MANY_STEPS = "too_many_steps"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_REFUSED = "model_refused"
    CONTEXT_TOO_LONG = "context_too_long"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    BUDGET_EXHAUSTED = "budget_exhausted"
    INTERNAL_ERROR = "internal_error"


class ToolStatus(StrEnum):
    """States of a tool execution."""

    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    EXECUTING = "executing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


OPEN_TOOL_STATUSES = (ToolStatus.PENDING, ToolStatus.AWAITING_APPROVAL, ToolStatus.EXECUTING)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a run of a long turn hands over to the next.

    Attributes:
        step: The model call to begin with.
        deadline: Of the whole turn, in seconds since 1970.
    """

    step: int
    deadline: float


@dataclass(frozen=True, slots=True)
class TurnRef:
    """Names one turn; the input of `ConversationTurn` and of most activities.

    Attributes:
        max_steps: Most model calls this turn may make.
        timeout_seconds: Most wall-clock time from start to terminal state.
        carried: What an earlier run of the turn left to do; None in its first run.
        wait_seconds: How long the run waits before it begins, for its tenant's pace.
    """

    tenant_id: str
    project_id: str
    conversation_id: str
    turn_id: str
    max_steps: int = 16
    timeout_seconds: int = 30 * 60
    carried: Carried | None = None
    wait_seconds: float = 0.0

    @property
    def workflow_id(self) -> str:
        """Id of the one workflow that runs this turn."""
        return turn_workflow_id(self.turn_id)


def turn_workflow_id(turn_id: object) -> str:
    """Workflow id of a turn: its business id, so that a second start is refused by the server."""
    return f"turn-{turn_id}"


def tool_activity_id(tool_execution_id: object, start: int) -> str:
    """Activity id of a tool call's run, as operators and the edge find it; starts count from 1."""
    return f"{tool_execution_id}.{start}"


@dataclass(frozen=True, slots=True)
class StepInput:
    """One model call of a turn; `step` counts from 1."""

    turn: TurnRef
    step: int


@dataclass(frozen=True, slots=True)
class ToolCallRef:
    """One call the model asked for, ready to run.

    Attributes:
        tool: A registered tool's name; never text the model made up.
        deadline_seconds: Per attempt.
        max_attempts: 1 for tools of effect ``once``.
        asks: It needs people's approval before it runs.
        patience_seconds: How long it waits for them.
    """

    tool_execution_id: str
    tool: str
    queue: str
    deadline_seconds: float
    max_attempts: int
    asks: bool = False
    patience_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """Outcome of a model call: the tool calls to run, and whether the turn is answered.

    Without calls it is answered, unless messages have joined it that the call has not seen.

    Attributes:
        stopped: The turn is to stop, or is over: there was no call. A result and no error, because
            the stop may reach the run in the same moment and leave an error unread.
    """

    message_id: str
    tool_calls: list[ToolCallRef] = field(default_factory=list)
    answered: bool = True
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class ToolRunInput:
    """One tool call of a turn.

    Attributes:
        taken_over: How many interventions of people in the call this run knows of.
    """

    turn: TurnRef
    call: ToolCallRef
    taken_over: int = 0


@dataclass(frozen=True, slots=True)
class ToolRunResult:
    """How it ended, or that it still waits for people; the result itself is in its row.

    Attributes:
        status: ``pending``: people want another run of the call than this one.
        taken_over: How many interventions the row has seen, where that was asked.
    """

    status: str
    taken_over: int = 0


@dataclass(frozen=True, slots=True)
class FinishInput:
    """Terminal state a workflow has reached; code is a `TurnCode` or empty."""

    turn: TurnRef
    status: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class FinishResult:
    """Queued turns that may run now: usually one, of whatever conversation of the tenant."""

    next_turn: TurnRef | None = None
    also: list[TurnRef] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a housekeeping pass did."""

    started: int = 0
    settled: int = 0
    cancelled: int = 0
    pruned: int = 0
