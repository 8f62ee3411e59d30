"""Recorded JSON without what differs from run to run: ids, times, ports, durations.

Ids become fixed UUIDs in the order of their appearance and times fixed seconds in their own order,
so that recording again changes only what the system says differently.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
_START = datetime(2026, 1, 1, tzinfo=UTC)
# Of each, only whether there is a value is kept.
_DURATIONS = frozenset({"execution_time_ms", "elapsed_ms"})


def stable(recorded: Any) -> Any:
    """The same JSON with every id, time, address and duration replaced."""
    text = json.dumps(_settled(recorded), ensure_ascii=False)
    ids = {found: n for n, found in enumerate(dict.fromkeys(_UUID.findall(text)), 1)}
    text = _UUID.sub(lambda m: f"00000000-0000-4000-8000-{ids[m[0]]:012d}", text)
    ordered = sorted(set(_TIME.findall(text)), key=datetime.fromisoformat)
    times = {found: _START + timedelta(seconds=n) for n, found in enumerate(ordered)}
    text = _TIME.sub(lambda m: times[m[0]].strftime("%Y-%m-%dT%H:%M:%SZ"), text)
    return json.loads(_ADDRESS.sub("127.0.0.1:0", text))


def _settled(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: 1 if key in _DURATIONS and item is not None
                else int(_START.timestamp() * 1000) if key == "timestamp"
                else _settled(item)
                for key, item in value.items()
            }  # fmt: skip
        case list():
            return [_settled(item) for item in value]
        case _:
            return value
