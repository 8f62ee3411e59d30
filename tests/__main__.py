"""``python -m tests``: pytest, whose verdict is the exit code whatever happens while leaving.

Temporal's native library may crash the interpreter as it exits, after everything has succeeded.

All tests, asked for without a word, are shared out between two processes, a file at a time, each
with servers of its own: most of a test's time is waiting.
"""

import os
import sys

import pytest

asked = sys.argv[1:] or ["-n", "2", "--dist", "loadfile"]
code = int(pytest.main(asked))
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
