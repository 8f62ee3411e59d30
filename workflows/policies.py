"""Timeouts and retries of every activity: one place, so that no limit is missing.

Durations are `timedelta`. ``tests/workflows`` checks that every activity has a timeout and a
maximum of attempts.
"""

from datetime import timedelta

from temporalio.common import RetryPolicy

# A lost worker is noticed after this; heartbeats come at a tenth of it.
HEARTBEAT_TIMEOUT = timedelta(seconds=5)

# Longest answer: ten minutes of streaming, and a little to store it.
MODEL_CALL_TIMEOUT = timedelta(minutes=10, seconds=15)
# What the model's server did wrong says itself how long to wait: six attempts with 1, 2, 4, 8, 16 s
# between them, or what Retry-After says, outlast most hiccups (`activities.errors`). These waits
# are for what happens to our own processes: a worker that died is replaced at once, a database
# that restarts has 36 s.
MODEL_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=300),
    backoff_coefficient=3.0,
    maximum_interval=timedelta(seconds=60),
    maximum_attempts=6,
)

# The executor enforces the tool's own deadline; this is the net under it.
TOOL_TIMEOUT_MARGIN = timedelta(seconds=10)
TOOL_RETRY_INTERVAL = timedelta(milliseconds=500)
# Claims decide whether an effect may run again, so even a `once` tool's activity may be retried:
# the second attempt finds the claim and says "unknown". Five attempts span seven seconds, enough
# for a database that restarts.
TOOL_MAX_ATTEMPTS = 5

DATABASE_ACTIVITY_TIMEOUT = timedelta(seconds=20)
# Terminal states must be written: about half an hour of attempts, then housekeeping takes over.
FINISH_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=360,
)
# The server itself ends a run that never ended a turn: its code did not fit its history, or no
# worker was left. Later than the attempts to write an ending; housekeeping settles the turn then.
RUN_TIMEOUT_MARGIN = timedelta(minutes=35)
# A question to people that sets no time of its own stands for so long.
LONGEST_WAIT_FOR_PEOPLE = timedelta(days=30)
# A run that has grown so far hands over to the next: the largest step, 128 parallel calls, fits in
# twice as many, far from the server's limits.
MAX_RUN_EVENTS = 1_000
# A task of the workflow takes milliseconds; one that was handed to a worker which died, or hangs,
# is given to another after this.
WORKFLOW_TASK_TIMEOUT = timedelta(seconds=3)
SWEEP_TIMEOUT = timedelta(seconds=60)
SWEEP_RETRY = RetryPolicy(maximum_attempts=1)
