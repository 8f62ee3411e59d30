"""The agent's loop around the demo model, with tools of the test's own."""

import json
from collections.abc import Callable
from typing import Any

from embedded.demo_model.script import DESCRIBE, LIST, QUERY, Action, decide

TOOLS = (LIST, DESCRIBE, QUERY)
MAX_STEPS = 8
Tools = Callable[[str, dict[str, Any]], Any]


def called(action: Action, step: int) -> dict[str, Any]:
    """The assistant message an action becomes."""
    return {
        "role": "assistant",
        "content": action.text or None,
        "tool_calls": [
            {
                "id": f"call_{step}_{position}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            }
            for position, call in enumerate(action.calls)
        ],
    }


def run(
    question: str, tools: Tools, before: list[dict[str, Any]] | None = None
) -> tuple[str, list[Action]]:
    """The answer to a question and the steps before it."""
    messages: list[dict[str, Any]] = [*(before or []), {"role": "user", "content": question}]
    steps: list[Action] = []
    for step in range(MAX_STEPS):
        action = decide(messages, TOOLS)
        if not action.calls:
            return action.text, steps
        steps.append(action)
        message = called(action, step)
        messages.append(message)
        for call, asked in zip(action.calls, message["tool_calls"], strict=True):
            result = tools(call.name, dict(call.arguments))
            messages.append(
                {"role": "tool", "tool_call_id": asked["id"], "content": json.dumps(result)}
            )
    raise AssertionError(f"no answer within {MAX_STEPS} steps")


def failed(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def shop_tools(path: Any) -> Tools:
    """The three tools over the SQLite shop."""
    import sqlite3

    from tests.demo.described import describe_sqlite, run_sqlite

    def tools(name: str, arguments: dict[str, Any]) -> Any:
        if name == LIST:
            return {"datasources": [{"id": "d1", "name": "Shop", "kind": "sqlite"}]}
        if name == DESCRIBE:
            return describe_sqlite(path)
        try:
            return run_sqlite(path, arguments["query"])
        except sqlite3.Error as error:
            return failed("failed", str(error))

    return tools
