"""What a call's run says about why nothing comes of it; no clock, no server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import PendingActivityState as State
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.workflow.v1 import PendingActivityInfo

from store.tool_runs import Stalled, ToolRun, _run, diagnose

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
RUN = "run"


def ago(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW - timedelta(seconds=seconds))
    return stamp


def pending(state: str = "STARTED", **given: Any) -> PendingActivityInfo:
    info = PendingActivityInfo(
        activity_id="call.1",
        state=State.Value(f"PENDING_ACTIVITY_STATE_{state}"),
        attempt=1,
        maximum_attempts=5,
        scheduled_time=ago(60),
    )
    for name, value in given.items():
        if isinstance(value, Timestamp):
            getattr(info, name).CopyFrom(value)
        else:
            setattr(info, name, value)
    info.activity_options.task_queue.name = "tools-http"
    info.activity_options.start_to_close_timeout.FromSeconds(40)
    return info


def found(info: PendingActivityInfo, **facts: Any) -> Stalled | None:
    given = {"served": True, "claimed_at": NOW - timedelta(seconds=6), "usual_ms": None} | facts
    return diagnose(_run(RUN, info), NOW, **given)


def worker(heard: float, **given: Any) -> PendingActivityInfo:
    return pending(
        last_heartbeat_time=ago(heard), last_worker_identity="box:7",
        last_started_time=ago(30), **given,
    )  # fmt: skip


def lost(info: PendingActivityInfo) -> PendingActivityInfo:
    timed_out = info.last_failure.timeout_failure_info
    timed_out.timeout_type = TimeoutType.TIMEOUT_TYPE_HEARTBEAT
    return info


def reason(stalled: Stalled | None) -> str | None:
    return stalled.reason if stalled else None


def test_who_is_heard_of_is_not_stalled() -> None:
    assert found(worker(0.5)) is None
    assert found(worker(3.9)) is None


def test_who_is_not_heard_of_is() -> None:
    stalled = found(worker(12))
    assert stalled == Stalled(
        "worker_lost", NOW - timedelta(seconds=12), "Its worker (box:7) is silent."
    )


def test_a_new_attempt_does_not_count_as_a_sign_of_life() -> None:
    """The server hands it to a worker that has asked before it was stopped."""
    info = lost(worker(12, attempt=3, scheduled_time=ago(0.5)))
    stalled = found(info)
    assert stalled is not None
    assert (stalled.reason, stalled.since) == ("worker_lost", NOW - timedelta(seconds=12))
    never = lost(pending(attempt=2, scheduled_time=ago(0.5), last_worker_identity="box:7"))
    assert reason(found(never)) == "worker_lost"


def test_a_new_attempt_that_is_heard_of_is_fine() -> None:
    assert found(lost(worker(0.3, attempt=2))) is None


@pytest.mark.parametrize(("served", "expected"), [(False, "no_worker"), (True, "waiting"),
                                                  (None, "waiting")])  # fmt: skip
def test_nobody_has_taken_it(served: bool | None, expected: str) -> None:
    assert reason(found(pending("SCHEDULED", scheduled_time=ago(3)), served=served)) is None
    assert reason(found(pending("SCHEDULED", scheduled_time=ago(5)), served=served)) == expected


def test_a_pause_is_told_at_once_and_whose_it_is() -> None:
    info = worker(0.1)
    info.paused = True
    info.pause_info.pause_time.CopyFrom(ago(2))
    info.pause_info.manual.identity = "ops@desk"
    info.pause_info.manual.reason = "too much load"
    stalled = found(info)
    assert stalled is not None
    assert (stalled.reason, stalled.since) == ("paused", NOW - timedelta(seconds=2))
    assert "ops@desk: too much load" in stalled.detail


def test_over_its_deadline_or_much_slower_than_usual() -> None:
    def taking(seconds: float, usual_ms: float | None) -> str | None:
        started = NOW - timedelta(seconds=seconds)
        return reason(found(worker(0.1), claimed_at=started, usual_ms=usual_ms))

    assert taking(31, None) is None, "the tool itself ends at 30 s"
    assert taking(33, None) == "overdue"
    assert taking(7, 20) is None, "never before eight seconds"
    assert taking(9, 20) == "slow"
    assert taking(9, 4_000) is None, "less than five times what is usual"
    assert taking(21, 4_000) == "slow"
    assert taking(29, None) is None, "nobody knows what is usual"


def test_a_failure_is_told_in_our_words() -> None:
    info = worker(0.1, attempt=2)
    info.last_failure.message = "password=hunter2"
    info.last_failure.application_failure_info.type = "DBAPIError"
    failure = _run(RUN, info).last_failure
    assert failure is not None
    assert (failure.code, failure.message) == (
        "DBAPIError", "It broke on our side (DBAPIError).",
    )  # fmt: skip
    assert _run(RUN, lost(worker(9, attempt=2))).last_failure is not None


def test_states() -> None:
    def state(info: PendingActivityInfo) -> ToolRun:
        return _run(RUN, info)

    assert state(pending("SCHEDULED")).state == "scheduled"
    assert state(pending("CANCEL_REQUESTED")).state == "cancel_requested"
    backoff = state(pending("SCHEDULED", attempt=2, next_attempt_schedule_time=ago(-3)))
    assert (backoff.state, backoff.next_attempt_at) == ("backoff", NOW + timedelta(seconds=3))
    assert state(pending()).deadline_seconds == 30
