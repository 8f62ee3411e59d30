"""Named moments at which a test may kill this process: ``FAULT_POINT=name:nth``.

The dangerous windows between two commits are microseconds wide and random kills never hit them
(docs/reliability.md lists the points). Without the variable a point costs one comparison.
"""

import os
import signal
from collections import Counter

_NAME, _, _NTH = os.environ.get("FAULT_POINT", "").partition(":")
_hits: Counter[str] = Counter()


def reach(name: str) -> None:
    """Pass a point; the armed one ends the process, as SIGKILL does, the nth time it is passed."""
    if name != _NAME:
        return
    _hits[name] += 1
    if _hits[name] == int(_NTH or 1):
        os.kill(os.getpid(), signal.SIGKILL)
