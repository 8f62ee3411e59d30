"""Pages of large results: every row once, and a handle that is good for nothing else."""

import dataclasses
import hashlib
import sqlite3
from uuid import uuid4

import pytest

from activities.tools.bounds import MAX_MODEL_BYTES, MAX_PREVIEW_BYTES, shown, size
from activities.tools.registry import InvalidArguments
from activities.tools.tool import Datasource, ToolRefused, ToolTooLarge
from store.files.folder import project_folder
from store.handles import LIFETIME, Handles
from store.secrets import KeyRing
from tests.tools.world import Caller

KEYS = KeyRing(["c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0="])
ROWS = 2_345
NUMBERS = "SELECT n FROM numbers ORDER BY n"
ENGINES = ["postgresql", "sqlite", "duckdb", "mysql"]


def handles(caller, keys=KEYS, **changes):
    project = {"tenant_id": caller.sources[0].tenant_id, "project_id": caller.project_id}
    return Handles(keys, **{**project, **changes})


@pytest.fixture(params=ENGINES)
async def caller(request, registry, shop, pools, maria):
    """A caller on a database with a table of numbers."""
    if request.param == "postgresql":
        await shop.admin.execute(
            "CREATE TABLE IF NOT EXISTS app.numbers AS SELECT n, repeat('x', 700) AS wide"
            f" FROM generate_series(1, {ROWS}) n; GRANT SELECT ON app.numbers TO reader"
        )
        made = Caller(registry, [shop.source("reader")])
    elif request.param == "mysql":
        await maria.run(
            "CREATE OR REPLACE TABLE shop.numbers AS"
            f" SELECT seq AS n, repeat('x', 700) AS wide FROM seq_1_to_{ROWS}"
        )
        made = Caller(registry, [maria.source("reader")])
    elif request.param == "duckdb":
        tenant_id, project_id = uuid4(), uuid4()
        folder = project_folder(pools.files_dir, tenant_id, project_id)
        folder.mkdir(parents=True)
        lines = "".join(f"{n},{'x' * 700}\n" for n in range(1, ROWS + 1))
        (folder / "numbers.csv").write_text("n,wide\n" + lines)
        source = Datasource(uuid4(), tenant_id, "file", "duckdb", 1, {"path": "numbers.csv"})
        made = Caller(registry, [source], project_id=project_id)
    else:
        tenant_id, project_id = uuid4(), uuid4()
        folder = project_folder(pools.files_dir, tenant_id, project_id)
        folder.mkdir(parents=True)
        database = sqlite3.connect(folder / "n.db")
        database.execute("CREATE TABLE numbers (n INTEGER, wide TEXT)")
        database.executemany(
            "INSERT INTO numbers VALUES (?, ?)", [(n, "x" * 700) for n in range(1, ROWS + 1)]
        )
        database.commit()
        database.close()
        source = Datasource(uuid4(), tenant_id, "file", "sqlite", 1, {"path": "n.db"})
        made = Caller(registry, [source], project_id=project_id)
    made.handles = handles(made)
    return made


async def ask(caller, query, page=None):
    more = {} if page is None else {"page": page}
    source = str(caller.sources[0].id)
    return await caller("database_query", datasource_id=source, query=query, **more)


async def all_pages(caller, query):
    pages = [await ask(caller, query)]
    while "next" in pages[-1]:
        pages.append(await ask(caller, query, pages[-1]["next"]))
        assert len(pages) < 50
    return pages


async def test_pages_hold_every_row_once(caller):
    pages = await all_pages(caller, NUMBERS)
    assert [len(page["rows"]) for page in pages] == [1000, 1000, ROWS - 2000]
    assert [row[0] for page in pages for row in page["rows"]] == list(range(1, ROWS + 1))
    assert [page["truncated"] for page in pages] == [True, True, False]
    assert [page.get("first_row") for page in pages] == [None, 1001, 2001]
    # What is not promised is said.
    assert "anew" in pages[0]["note"]
    assert "note" not in pages[-1]


async def test_pages_of_wide_rows_end_where_their_bytes_do(caller):
    pages = await all_pages(caller, "SELECT n, wide, wide FROM numbers ORDER BY n")
    assert 1 < len(pages[0]["rows"]) < 1000
    assert [row[0] for page in pages for row in page["rows"]] == list(range(1, ROWS + 1))


async def test_a_query_of_its_own_limit_is_paged_within_it(caller):
    pages = await all_pages(caller, f"{NUMBERS} LIMIT 1500 OFFSET 100")
    assert [row[0] for page in pages for row in page["rows"]] == list(range(101, 1601))


async def test_what_fits_has_no_handle(caller):
    result = await ask(caller, f"{NUMBERS} LIMIT 5")
    assert {"page", "next", "note"}.isdisjoint(result)


def wide(caller, times):
    """An expression of so many wide columns in one."""
    names = ["wide"] * times
    # In MySQL `||` is OR.
    return f"concat({', '.join(names)})" if kind_of(caller) == "mysql" else " || ".join(names)


def kind_of(caller):
    return caller.sources[0].kind


async def test_a_cut_cell_alone_is_no_next_page(caller):
    result = await ask(caller, f"SELECT {wide(caller, 100)} AS c FROM numbers LIMIT 1")
    assert result["truncated"]
    assert "next" not in result


async def test_a_row_larger_than_a_page_does_not_lead_in_a_circle(caller):
    one = f"SELECT {wide(caller, 85)} AS c FROM numbers"
    many = ", ".join(f"c AS d{n}" for n in range(20))
    if kind_of(caller) == "duckdb":  # which has so much memory and no more
        with pytest.raises(ToolTooLarge):
            await ask(caller, f"SELECT {many} FROM ({one}) AS q")
        return
    result = await ask(caller, f"SELECT {many} FROM ({one}) AS q")
    assert result["rows"] == []
    assert "next" not in result


async def test_what_is_shown_in_part_is_continued_where_it_ends(caller):
    """The room's preview and the model's share: each leads to the first row it leaves out."""
    stored = await ask(caller, f"{NUMBERS.replace('n FROM', 'n, wide FROM')} LIMIT 900")
    assert "next" not in stored
    preview = shown(stored, MAX_PREVIEW_BYTES)
    model = shown(preview, MAX_MODEL_BYTES)
    for part, most in ((preview, MAX_PREVIEW_BYTES), (model, MAX_MODEL_BYTES)):
        assert size(part) <= most
        assert part["truncated"]
        assert 0 < len(part["rows"]) < 900
        following = await ask(
            caller, f"{NUMBERS.replace('n FROM', 'n, wide FROM')} LIMIT 900", part["next"]
        )
        assert following["rows"][0][0] == part["rows"][-1][0] + 1
    assert len(model["rows"]) < len(preview["rows"])


def test_what_only_looks_like_a_page_is_cut_as_anything_else():
    for result in ({"rows": ["x" * 90] * 500, "page": "https://x.test/"}, {"page": "a.1"}):
        assert "next" not in shown(result, 1000)
    assert size(shown({"rows": [["x" * 90]] * 500, "page": "a.1"}, 1000)) <= 1000


async def test_a_page_of_what_shrank_is_empty(caller):
    first = await ask(caller, NUMBERS)
    beyond = first["next"].rpartition(".")[0] + ".2345"
    result = await ask(caller, NUMBERS, beyond)
    assert (result["rows"], result["truncated"]) == ([], False)


# --- handles that are not good ---------------------------------------------------------------


async def refused(caller, query, page):
    with pytest.raises(ToolRefused, match="rule 'page'") as caught:
        await ask(caller, query, page)
    return str(caught.value)


async def test_a_handle_is_good_for_its_query_alone(caller):
    page = (await ask(caller, NUMBERS))["next"]
    assert "repeat the query" in await refused(caller, NUMBERS + " DESC", page)
    assert "repeat the query" in await refused(caller, NUMBERS + " ", page)
    assert (await ask(caller, NUMBERS, page))["rows"]


async def test_a_handle_is_good_for_its_project_and_version_alone(caller):
    page = (await ask(caller, NUMBERS))["next"]
    (source,) = caller.sources
    for sources, about in (
        ([dataclasses.replace(source, version=2)], {}),
        ([source], {"tenant_id": uuid4()}),
        ([source], {"project_id": uuid4()}),
        ([source], {"keys": KeyRing(["b3RoZXItc2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1"])}),
    ):
        other = dataclasses.replace(caller, sources=sources, handles=handles(caller, **about))
        await refused(other, NUMBERS, page)
    twin = dataclasses.replace(source, id=uuid4())
    await refused(dataclasses.replace(caller, sources=[twin]), NUMBERS, page)


async def test_a_handle_outlives_a_rotated_key(caller):
    page = (await ask(caller, NUMBERS))["next"]
    both = KeyRing(
        [
            "b3RoZXItc2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1",
            "c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0=",
        ]
    )
    rotated = dataclasses.replace(caller, handles=handles(caller, both))
    assert (await ask(rotated, NUMBERS, page))["rows"][0] == [1001]


async def test_a_handle_ends(caller):
    page = (await ask(caller, NUMBERS))["next"]
    now = int(page.partition(".")[0], 16)
    for later, good in ((-1, True), (1, False)):
        clock = handles(caller, clock=lambda later=later: now + later)
        asked = dataclasses.replace(caller, handles=clock)
        if good:
            assert (await ask(asked, NUMBERS, page))["rows"]
        else:
            assert "too old" in await refused(asked, NUMBERS, page)
    assert LIFETIME.total_seconds() == 48 * 3600


@pytest.mark.parametrize(
    "page",
    ["", ".", "2", "next", "a.b.1", "' OR 1=1", "6925a0ff.AAAAAAAAAAAAAAAAAAAAAA.1000",
     "6925a0ff.AAAAAAAAAAAAAAAAAAAAAA.-1", "6925a0ff.AAAAAAAAAAAAAAAAAAAAAA.99999999",
     "6925a0ff.AAAAAAAAAAAAAAAAAAAAAA.٣", "é" * 80],
)  # fmt: skip
async def test_made_up_handles(caller, page):
    await refused(caller, NUMBERS, page)


async def test_where_a_page_begins_is_a_number_of_rows_and_no_more(caller):
    """The number is not signed: it gives nothing that OFFSET would not."""
    handle = (await ask(caller, NUMBERS))["next"].rpartition(".")[0]
    assert (await ask(caller, NUMBERS, f"{handle}.7"))["rows"][0] == [8]
    for number in ("-1", "1e3", "7;", "99999999", "0x10", "1 OFFSET 0"):
        await refused(caller, NUMBERS, f"{handle}.{number}")


async def test_a_handle_is_a_short_text(caller):
    with pytest.raises(InvalidArguments):
        await ask(caller, NUMBERS, "x" * 81)
    source = str(caller.sources[0].id)
    with pytest.raises(InvalidArguments):
        await caller("database_query", datasource_id=source, query=NUMBERS, page=5)
    with pytest.raises(InvalidArguments):
        await caller("database_query", datasource_id=source, query=NUMBERS, offset=5)


async def test_the_guard_judges_every_page(caller):
    """A handle for a query that is refused would be of no use."""
    query = "DELETE FROM numbers"
    handle = caller.handles.seal(
        "page", [str(caller.sources[0].id), "1", hashlib.sha256(query.encode()).hexdigest()]
    )
    with pytest.raises(ToolRefused) as caught:
        await ask(caller, query, f"{handle}.0")
    assert "rule 'page'" not in str(caught.value)
