"""Activity interfaces: what a workflow may ask of the world. ``activities/`` implements them."""

from abc import ABC, abstractmethod

from temporalio import activity

from workflows.types import (
    FinishInput,
    FinishResult,
    StepInput,
    StepResult,
    SweepResult,
    ToolRunInput,
    ToolRunResult,
)


class ModelActivities(ABC):
    """Queue ``model``."""

    @abstractmethod
    @activity.defn(name="generate_reply")
    async def generate_reply(self, step: StepInput) -> StepResult:
        """Stream one model call into the room and store its final text and tool calls.

        Safe to repeat: a step that is complete returns what it returned before.
        """


class ToolActivities(ABC):
    """Queues ``tools-*``."""

    @abstractmethod
    @activity.defn(name="run_tool")
    async def run_tool(self, run: ToolRunInput) -> ToolRunResult:
        """Run one tool call and store its outcome; a tool's failure is an outcome."""


class TurnActivities(ABC):
    """Queue ``turns``: short database work."""

    @abstractmethod
    @activity.defn(name="settle_tool")
    async def settle_tool(self, run: ToolRunInput) -> ToolRunResult:
        """Give a tool call whose activity was lost its outcome, so that the turn can go on."""

    @abstractmethod
    @activity.defn(name="review_tool")
    async def review_tool(self, run: ToolRunInput) -> ToolRunResult:
        """Say how a tool call stands that people are said to have taken over."""

    @abstractmethod
    @activity.defn(name="finish_turn")
    async def finish_turn(self, finish: FinishInput) -> FinishResult:
        """Bring a turn to its terminal state and name its successor; safe to repeat."""


class HousekeepingActivities(ABC):
    """Queue ``turns``: what the schedule runs."""

    @abstractmethod
    @activity.defn(name="sweep")
    async def sweep(self) -> SweepResult:
        """Start, stop or settle turns whose row and run disagree, and prune what has expired."""
