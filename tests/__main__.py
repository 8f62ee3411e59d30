"""``python -m tests``: pytest, whose verdict is the exit code whatever happens while leaving.

Temporal's native library may crash the interpreter as it exits, after everything has succeeded.
"""

import os
import sys

import pytest

code = int(pytest.main(sys.argv[1:]))
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
