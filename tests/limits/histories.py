"""What Temporal keeps of a turn."""

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from workflows.types import turn_workflow_id

MAX_PAYLOAD_BYTES = 128 * 1024
MAX_EVENTS, MAX_BYTES = 2_000, 2_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a turn's workflow."""

    events: int
    bytes: int
    largest_payload: int


def _payloads(message: Message) -> Iterator[Payload]:
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = [each for each in value.values() if isinstance(each, Message)]
        elif isinstance(value, Message):
            inner = [value]
        else:
            inner = list(value)
        for each in inner:
            yield from _payloads(each)


async def runs_of(client: Client, turn_id: str) -> list[Run]:
    """All runs of a turn, oldest first."""
    found: list[Run] = []
    run_id = (await client.get_workflow_handle(turn_workflow_id(turn_id)).describe()).raw_info
    following: str | None = run_id.first_run_id or run_id.execution.run_id
    while following:
        handle = client.get_workflow_handle(turn_workflow_id(turn_id), run_id=following)
        history = await handle.fetch_history()
        sizes = [len(each.data) for event in history.events for each in _payloads(event)]
        found.append(
            Run(len(history.events), sum(e.ByteSize() for e in history.events), max(sizes))
        )
        last = history.events[-1].workflow_execution_continued_as_new_event_attributes
        following = last.new_execution_run_id or None
    return found


async def must_be_small(client: Client, turn_id: str) -> list[Run]:
    """P26 and P27 for one turn; returns its runs."""
    runs = await runs_of(client, turn_id)
    for run in runs:
        assert run.events <= MAX_EVENTS, run
        assert run.bytes <= MAX_BYTES, run
        assert run.largest_payload <= MAX_PAYLOAD_BYTES, run
    return runs
