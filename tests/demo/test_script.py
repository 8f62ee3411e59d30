from pathlib import Path
from typing import Any

import pytest

from embedded.demo_model.answers import LABEL
from embedded.demo_model.script import DESCRIBE, LIST, QUERY, decide
from tests.demo.described import FLIGHTS, make_shop
from tests.demo.loop import TOOLS, called, failed, run, shop_tools

SHOP = {"id": "shop", "name": "Shop", "kind": "sqlite"}
FLYING = {"id": "fly", "name": "NYC flights 2013", "kind": "postgresql"}
API = {"id": "api", "name": "Weather API", "kind": "http"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    make_shop(tmp_path / "shop.sqlite")
    return tmp_path / "shop.sqlite"


def test_the_loop(shop: Path) -> None:
    answer, steps = run("Which customers had the most orders?", shop_tools(shop))
    assert [[call.name for call in step.calls] for step in steps] == [[LIST], [DESCRIBE], [QUERY]]
    assert steps[1].calls[0].arguments == {"datasource_id": "d1"}
    assert "| 1 | Ada | 2 |" in answer
    assert answer.endswith(LABEL)


def test_two_parts_are_two_queries_in_one_step(shop: Path) -> None:
    question = "How many orders are there, and also the average unit price per product?"
    answer, steps = run(question, shop_tools(shop))
    assert [len(step.calls) for step in steps] == [1, 1, 2]
    assert "**4** orders" in answer
    assert "| pot | 20 |" in answer


def test_one_part_of_two_may_not_be_understood(shop: Path) -> None:
    answer, steps = run("How many orders and also how many unicorns?", shop_tools(shop))
    assert len(steps[-1].calls) == 1
    assert "**4** orders" in answer
    assert "“unicorns”" in answer


def test_what_is_not_understood_is_answered_with_examples(shop: Path) -> None:
    answer, steps = run("Why do customers leave?", shop_tools(shop))
    assert [step.calls[0].name for step in steps] == [LIST, DESCRIBE]
    assert "Which ten customers had the most orders?" in answer
    assert "Show me the first five" in answer
    assert answer.endswith(LABEL)


def test_an_overview_needs_no_query(shop: Path) -> None:
    answer, steps = run("What data is there?", shop_tools(shop))
    assert len(steps) == 2
    assert "| orders | 4 | id, customer\\_id, created" in answer.replace("_", "\\_")


@pytest.mark.parametrize("text", ["Hello!", "thank you", "I had a nice day."])
def test_small_talk_calls_nothing(text: str) -> None:
    action = decide([{"role": "user", "content": text}], TOOLS)
    assert not action.calls
    assert action.text.endswith(LABEL)


def test_without_tools_it_answers_plainly() -> None:
    for tools in ((), (LIST,)):
        action = decide([{"role": "user", "content": "How many flights?"}], tools)
        assert not action.calls
        assert action.text.endswith(LABEL)


def test_a_failed_join_is_repaired_once(shop: Path) -> None:
    healthy = shop_tools(shop)
    queries: list[str] = []

    def tools(name: str, arguments: dict[str, Any]) -> Any:
        if name == QUERY:
            queries.append(arguments["query"])
            if "JOIN" in arguments["query"]:
                return failed("failed", "permission denied for table customers")
        return healthy(name, arguments)

    answer, steps = run("Which customers had the most orders?", tools)
    assert len(queries) == 2
    assert "JOIN" not in queries[1]
    assert "join" in steps[-1].text
    assert "| 1 | 2 |" in answer


@pytest.mark.parametrize(
    ("code", "queries"), [("failed", 2), ("denied", 1), ("unavailable", 1), ("timeout", 2)]
)
def test_a_failure_is_told_in_words(shop: Path, code: str, queries: int) -> None:
    healthy = shop_tools(shop)

    def tools(name: str, arguments: dict[str, Any]) -> Any:
        return failed(code, "The reason.") if name == QUERY else healthy(name, arguments)

    answer, steps = run("Which customers had the most orders?", tools)
    assert len(steps) == 2 + queries
    assert "The reason." in answer
    assert answer.endswith(LABEL)


@pytest.mark.parametrize("broken", [LIST, DESCRIBE])
@pytest.mark.parametrize(
    "result", [failed("unavailable", "No connection."), [], "x", {}, {"error": "no"}]
)
def test_whatever_a_tool_answers_the_turn_ends(shop: Path, broken: str, result: Any) -> None:
    healthy = shop_tools(shop)

    def tools(name: str, arguments: dict[str, Any]) -> Any:
        return result if name == broken else healthy(name, arguments)

    answer, _ = run("How many orders?", tools)
    assert answer.endswith(LABEL)


@pytest.mark.parametrize("result", [{"rows": "x"}, {}, {"columns": [], "rows": []}, 7, None])
def test_an_odd_result_is_no_answer_but_no_crash(shop: Path, result: Any) -> None:
    healthy = shop_tools(shop)
    answer, _ = run("How many orders?", lambda n, a: result if n == QUERY else healthy(n, a))
    assert answer.endswith(LABEL)


def listed(*sources: dict[str, str]) -> list[dict[str, Any]]:
    return [*answered("q", LIST, {}, {"datasources": list(sources)})]


def answered(call_id: str, name: str, arguments: Any, result: Any) -> list[dict[str, Any]]:
    import json

    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)},
    ]


@pytest.mark.parametrize(
    ("question", "sources", "described"),
    [
        ("How many rows are in the shop?", [SHOP, FLYING], ["shop"]),
        ("How many flights?", [SHOP, API, FLYING], ["fly"]),
        ("How many planes?", [SHOP, API, FLYING], ["shop", "fly"]),
        ("How many planes?", [API, FLYING], ["fly"]),
    ],
)
def test_the_datasource_whose_name_fits(
    question: str, sources: list[dict[str, str]], described: list[str]
) -> None:
    action = decide([{"role": "user", "content": question}, *listed(*sources)], TOOLS)
    assert [call.arguments["datasource_id"] for call in action.calls] == described


def test_of_several_the_one_that_understands_is_asked() -> None:
    messages = [
        {"role": "user", "content": "How many planes?"},
        *listed(SHOP, FLYING),
        *answered("a", DESCRIBE, {"datasource_id": "shop"}, {"tables": []}),
        *answered("b", DESCRIBE, {"datasource_id": "fly"}, FLIGHTS),
    ]
    action = decide(messages, TOOLS)
    assert action.calls[0].arguments == {
        "datasource_id": "fly",
        "query": 'SELECT count(*) AS "planes"\nFROM "planes"',
    }


def test_a_project_without_sql_is_told_so() -> None:
    action = decide([{"role": "user", "content": "How many planes?"}, *listed(API)], TOOLS)
    assert "no SQL datasource" in action.text


def test_only_what_follows_the_last_question_counts(shop: Path) -> None:
    before = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "How many customers?"},
        *listed(SHOP),
        {"role": "assistant", "content": "I count 3."},
    ]
    _, steps = run("How many orders?", shop_tools(shop), before)
    assert [step.calls[0].name for step in steps] == [LIST, DESCRIBE, QUERY]


def test_a_query_changed_by_the_approver_counts_as_ours() -> None:
    result = {"columns": [{"name": "planes"}], "rows": [[7]]}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "How many planes?"}]},
        *listed(FLYING),
        *answered("b", DESCRIBE, {"datasource_id": "fly"}, FLIGHTS),
        *answered("c", QUERY, {"datasource_id": "fly", "query": "SELECT 7"}, result),
    ]
    assert "**7** planes" in decide(messages, TOOLS).text


def test_it_keeps_nothing_between_calls(shop: Path) -> None:
    messages = [{"role": "user", "content": "How many orders?"}]
    first = decide(messages, TOOLS)
    messages.append(called(first, 0))
    assert decide(messages[:1], TOOLS) == first
