"""Names and schemas of tools that a stranger has written (M01)."""

import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.tools.registry import Registry, Toolbox, default_tools
from activities.tools.tool import NoArguments, Tool
from store.datasource.pools import Pools
from store.mcp import schema
from store.mcp.endpoint import destination, problem_of, shown
from store.mcp.names import call_name, other_slug, slug_of
from workflows.types import Effect, Queue

NAME = re.compile(r"mcp__[a-zA-Z0-9_-]{1,59}")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("GitHub", "GitHub"), ("my server", "my_server"), ("a__b", "a_b"), ("__a_-", "a"),
        ("日本", "server"), ("x" * 100, "x" * 24), ("a.b/c", "a_b_c"), ("!", "server"),
    ],
)  # fmt: skip
def test_a_servers_part(name: str, slug: str) -> None:
    assert slug_of(name) == slug
    assert "__" not in other_slug(name)
    assert other_slug(name) != slug
    assert len(other_slug(name)) <= 24


def test_every_name_can_be_called_and_is_its_own() -> None:
    tools = [
        "a",
        "a_b",
        "a__b",
        "a b",
        "a.b",
        "a/b",
        "ä",
        "a" * 100,
        "a" * 101,
        "日本",
        "a\nb",
        " ",
    ]
    slugs = ["s", "x" * 24, "a_b", "server"]
    names = [call_name(slug, tool) for slug in slugs for tool in tools]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    assert call_name("s", "get_issue") == "mcp__s__get_issue"
    # The server's part ends at the first "__" and can be read off.
    assert {name[5:].partition("__")[0] for name in names} == set(slugs)


class Lamp(Tool[NoArguments]):
    description = "A lamp."
    arguments = NoArguments
    effect = Effect.READ
    queue = Queue.TOOLS_MCP
    deadline = timedelta(seconds=1)

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, arguments: Any, context: Any) -> dict[str, Any]:
        return {}


def test_a_source_cannot_shadow_a_built_in_tool() -> None:
    tools = default_tools(Pools((), Path()), None)  # type: ignore[arg-type]
    registry = Registry(tools)
    wider = registry.with_more([Lamp("database_query"), Lamp("mcp__s__t")])
    assert wider.get("database_query") is registry.get("database_query")
    assert [spec["function"]["name"] for spec in wider.specs()] == [
        *(tool.name for tool in tools), "mcp__s__t",
    ]  # fmt: skip
    assert registry.get("mcp__s__t") is None
    with pytest.raises(ValueError, match="MCP"):
        Registry([Lamp("mcp__s__t")])
    assert Toolbox([]).with_more([]).specs() == []


# --- schemas ------------------------------------------------------------------------------------

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["a", "b"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "required": ["id"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "number"}}}},
}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"id": 1}, None),
        ({"id": 1, "kind": "a", "lines": [{"n": 1.5}]}, None),
        ({}, "arguments: 'id' is a required property"),
        ({"id": "1"}, "id: '1' is not of type 'integer'"),
        ({"id": True}, "id: True is not of type 'integer'"),
        ({"id": 0}, "id: does not fit minimum 1"),
        ({"id": 1, "kind": "c"}, 'kind: is not one of ["a","b"]'),
        ({"id": 1, "lines": [{"n": "x" * 1000}]}, "lines.0.n: does not fit type number"),
        (
            {"id": 1, "more": 1},
            "arguments: Additional properties are not allowed ('more' was unexpected)",
        ),
    ],
)
def test_arguments_are_held_against_the_schema(arguments: Any, problem: str | None) -> None:
    schema.check(ORDER)
    assert schema.problems(ORDER, arguments) == ([problem] if problem else [])


def doubling(depth: int) -> dict[str, Any]:
    """Small to read, and twice the work with every level."""
    defs: dict[str, Any] = {"d0": {"type": "object"}}
    for n in range(1, depth):
        twice = [{"$ref": f"#/$defs/d{n - 1}"}, {"$ref": f"#/$defs/d{n - 1}"}]
        defs[f"d{n}"] = {"allOf": twice}
    return {"type": "object", "$defs": defs, "allOf": [{"$ref": f"#/$defs/d{depth - 1}"}]}


@pytest.mark.parametrize(
    ("slow", "arguments"),
    [
        (doubling(60), {}),
        ({"type": "object", "$ref": "#"}, {}),
        ({"properties": {"p": {"items": {"not": {"anyOf": [{"const": n} for n in range(500)]}}}}},
         {"p": list(range(1000, 30_000))}),
        ({"properties": {"p": {"items": {"not": {"enum": list(range(5_000))}}}}},
         {"p": list(range(10_000, 40_000))}),
    ],
)  # fmt: skip
def test_no_schema_makes_us_work_for_long(slow: dict[str, Any], arguments: Any) -> None:
    schema.check(slow)
    began = time.process_time()
    with pytest.raises(schema.TooMuchWork):
        schema.problems(slow, arguments)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("left_out", "arguments"),
    [
        ({"properties": {"p": {"pattern": "^(a+)+$"}}}, {"p": "a" * 60 + "!"}),
        ({"patternProperties": {"^(a+)+$": False}, "additionalProperties": False},
         {"a" * 60 + "!": 1}),
        ({"properties": {"p": {"uniqueItems": True}}}, {"p": [{"n": n} for n in range(50_000)]}),
    ],
)  # fmt: skip
def test_what_could_take_for_ever_is_left_to_the_server(left_out: Any, arguments: Any) -> None:
    schema.check(left_out)
    began = time.process_time()
    assert schema.problems(left_out, arguments) == []
    assert time.process_time() - began < 5


def test_an_expression_that_is_none_is_no_matter() -> None:
    schema.check({"type": "object", "properties": {"p": {"type": "string", "pattern": "("}}})


def test_what_models_are_shown() -> None:
    shown_to = schema.for_model(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "anyOf": [{}],
         "properties": {"a": {"type": "array"}}, "$defs": {"d": {}}, "required": ["a"]}
    )  # fmt: skip
    assert shown_to == {
        "type": "object", "properties": {"a": {"type": "array", "items": {}}},
        "$defs": {"d": {}}, "required": ["a"],
    }  # fmt: skip
    assert schema.for_model({}) == {"type": "object", "properties": {}}


# --- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/", "//h/mcp", "http://", "http://u:p@h/", "http://h:0/", "http://h:99999/",
        "http://h/#f", "http://h/\n", "http://h é/", "file:///etc/passwd", "http://[::1", "mcp",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_server(url: str) -> None:
    assert problem_of(url)


def test_urls() -> None:
    assert problem_of("https://mcp.example.org:8443/mcp?key=1") is None
    assert destination("https://H.example/a") == destination("https://h.example:443/b")
    assert destination("https://h.example/") != destination("http://h.example/")
    assert shown("https://h/mcp?key=CANARY") == "https://h/mcp?…"
