"""``python -m tests.deploys.changed_worker``: a worker whose turns do things in another order.

As a release would whose author forgot `workflow.patched`: one more activity, before the others.
"""

import ast
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import worker.main
from workflows import turn

OLD = "            status, code = await self._loop(first)\n"
NEW = "            await workflow.sleep(0.01)\n" + OLD


def changed() -> Any:
    """`ConversationTurn` with a timer before everything else."""
    path = Path(turn.__file__)
    source = path.read_text()
    assert source.count(OLD) == 1
    module = ModuleType("changed_turn")
    sys.modules[module.__name__] = module
    exec(compile(ast.parse(source.replace(OLD, NEW)), str(path), "exec"), module.__dict__)
    return module.ConversationTurn


if __name__ == "__main__":
    worker.main.ConversationTurn = changed()  # type: ignore[misc]
    from worker.__main__ import main

    code = main()
    sys.stdout.flush()
    os._exit(code)
