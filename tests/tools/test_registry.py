"""The registry, its specs, and arguments as models send them (L08)."""

import json
from datetime import timedelta

import jsonschema
import pytest

from activities.tools.registry import InvalidArguments, Registry, default_tools, parse_arguments
from activities.tools.tool import ToolFailed, ToolNotFound
from tests.tools.world import Caller
from workflows.types import Effect, Queue


@pytest.fixture
def query_tool(registry):
    return registry.get("database_query")


def test_built_in_tools(registry):
    assert [spec["function"]["name"] for spec in registry.specs()] == [
        "list_datasources", "describe_schema", "database_query", "http_request",
        "list_files", "search_files", "read_file", "write_file",
    ]  # fmt: skip
    for name in ("list_datasources", "describe_schema", "database_query"):
        tool = registry.get(name)
        assert tool.effect is Effect.READ
        assert tool.queue == Queue.TOOLS_DATABASE
        assert tool.deadline == timedelta(seconds=30)


@pytest.mark.parametrize("name", ["rm_rf", "", "Database_query", "database_query ", "__class__"])
def test_other_names_do_not_exist(registry, name):
    assert registry.get(name) is None


def test_a_name_is_given_once(pools, project_files):
    tools = default_tools(pools, project_files)
    with pytest.raises(ValueError, match="two tools"):
        Registry([*tools, tools[0]])


def test_specs_are_what_model_apis_take(registry):
    for spec in registry.specs():
        assert set(spec) == {"type", "function"}
        parameters = spec["function"]["parameters"]
        jsonschema.Draft202012Validator.check_schema(parameters)
        assert parameters["type"] == "object"
        assert parameters["additionalProperties"] is False
        assert "title" not in json.dumps(parameters)
        assert "null" not in json.dumps(parameters)
        assert len(spec["function"]["description"]) > 40


def test_specs_say_which_fields_are_needed(registry):
    fields = {
        spec["function"]["name"]: (
            set(spec["function"]["parameters"]["properties"]),
            set(spec["function"]["parameters"]["required"]),
        )
        for spec in registry.specs()
    }
    assert fields == {
        "list_datasources": (set(), set()),
        "describe_schema": ({"datasource_id", "table"}, {"datasource_id"}),
        "database_query": ({"datasource_id", "query", "page"}, {"datasource_id", "query"}),
        "list_files": ({"path"}, set()),
        "search_files": ({"query", "path"}, {"query"}),
        "read_file": ({"path", "offset", "limit", "table"}, {"path"}),
        "write_file": ({"path", "content"}, {"path", "content"}),
        "http_request": (
            {"method", "url", "headers", "body", "datasource_id"}, {"method", "url"},
        ),
    }  # fmt: skip


def test_arguments_are_taken_as_they_are(query_tool):
    arguments = parse_arguments(query_tool, ' {"datasource_id": "x", "query": "SELECT \\u00e9"} ')
    assert arguments.query == "SELECT é"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"query": "SELECT 1"', "not JSON: Expecting ',' delimiter at character"),
        ("null", "not null"),
        ("[]", "not an array"),
        ("5", "not a number"),
        ("true", "not a boolean"),
        ('""', "not a string"),
        ("", "without arguments"),
        ("  \n", "without arguments"),
        ("{}", "datasource_id: is missing; query: is missing"),
        ('{"query": "SELECT 1"}', "datasource_id: is missing"),
        ('{"datasource_id": "a", "query": 5}', "query: Input should be a valid string"),
        ('{"datasource_id": "a", "query": null}', "query: Input should be a valid string"),
        ('{"datasource_id": "a", "query": ["SELECT 1"]}', "query: Input should be"),
        ('{"datasource_id": "a", "query": "x", "limit": 5}', "limit: there is no such field"),
        ('{"datasource_id": "a", "query": ""}', "query: String should have at least 1"),
        ('{"datasource_id": "' + "a" * 65 + '", "query": "x"}', "at most 64"),
        ('{"datasource_id": "a", "query": "\\u0000"}', "NUL"),
        ('{"datasource_id": "a", "query": "\\ud800"}', "surrogate"),
        ('{"datasource_id": "a", "query": "x", "\\u0000": 1}', "NUL"),
        ('{"datasource_id": "a", "query": "x", "query": "y"}', "given twice"),
        ('{"datasource_id": "a", "query": NaN}', "NaN is not JSON"),
        ('{"datasource_id": "a", "query": "x"} {}', "Extra data"),
        ("{'datasource_id': 'a'}", "not JSON"),
        ("```json\n{}\n```", "not JSON"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested at most 32"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "not usable"),
        ('{"datasource_id": "a", "query": "' + "x" * 300_000 + '"}', "at most 256 KiB"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_to_the_model(query_tool, text, words):
    with pytest.raises(InvalidArguments) as caught:
        parse_arguments(query_tool, text)
    assert words in caught.value.message
    assert caught.value.code == "invalid_arguments"
    assert len(caught.value.message) < 700


def test_a_tool_without_arguments_takes_an_empty_object_only(registry):
    tool = registry.get("list_datasources")
    parse_arguments(tool, "{}")
    with pytest.raises(InvalidArguments, match="no such field"):
        parse_arguments(tool, '{"project_id": "x"}')


async def test_datasources_are_listed_without_config_or_secret(registry, shop):
    caller = Caller(registry, [shop.source(), shop.source(name="b\0", kind="http")])
    result = await caller("list_datasources")
    assert [set(item) for item in result["datasources"]] == [{"id", "name", "kind"}] * 2
    assert "password" not in json.dumps(result)
    assert result["datasources"][1]["name"] == "b\ufffd"


async def test_a_service_has_no_sql(registry, shop):
    caller = Caller(registry, [shop.source(kind="http", config={"base_url": "https://a.test"})])
    with pytest.raises(ToolFailed, match="has no SQL"):
        await caller.query("SELECT 1")


async def test_the_schema_of_a_database(reader):
    source = str(reader.sources[0].id)
    described = await reader("describe_schema", datasource_id=source)
    tables = {table["name"]: table for table in described["tables"]}
    assert described["truncated"] is False
    assert tables["app.orders"]["columns"][:3] == [
        {"name": "id", "type": "integer", "nullable": False},
        {"name": "customer", "type": "text", "nullable": False},
        {"name": "total", "type": "numeric(12,2)", "nullable": True},
    ]
    assert tables["app.orders"]["primary_key"] == ["id"]
    assert tables["app.orders"]["row_estimate"] == 1500
    assert tables["app.lines"]["foreign_keys"] == [
        {"columns": ["order_id"], "references": {"table": "app.orders", "columns": ["id"]}}
    ]
    assert "app.plain" in tables
    assert "app.part1" not in tables
    for name in ("orders", "app.orders"):
        one = await reader("describe_schema", datasource_id=source, table=name)
        assert [table["name"] for table in one["tables"]] == ["app.orders"]
    with pytest.raises(ToolNotFound, match="nope"):
        await reader("describe_schema", datasource_id=source, table="nope'; --")


async def test_a_large_schema_is_cut(registry, shop):
    await shop.admin.execute(
        "CREATE SCHEMA many; GRANT USAGE ON SCHEMA many TO reader;"
        "DO $$BEGIN FOR n IN 1..250 LOOP EXECUTE format("
        "'CREATE TABLE many.t%s (a int); GRANT SELECT ON many.t%s TO reader', n, n);"
        "END LOOP; END$$"
    )
    try:
        caller = Caller(registry, [shop.source()])
        described = await caller("describe_schema", datasource_id=str(caller.sources[0].id))
        assert len(described["tables"]) == 200
        assert described["truncated"] is True
    finally:
        await shop.admin.execute("DROP SCHEMA many CASCADE")
